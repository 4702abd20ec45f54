"""Promises of adding up over workers, kept by real processes that are killed without warning."""

from __future__ import annotations

import ctypes
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from restaurant_otel import catalog
from restaurant_otel.metrics import HistogramPoint, NumberPoint, registry
from restaurant_otel.metrics.registry import Registry
from tests.metrics.puppets import GUESTS, ORDERS, WAIT, Numbers, Puppet, in_child, numbers
from tests.support.wait import eventually

WORKERS = (catalog.TELEMETRY_WORKERS.name, None, None)
NORTH = ("shop.orders", "north", None)


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where the workers of a test keep their files."""
    monkeypatch.setenv("RESTAURANT_OTEL_WORKERS_DIR", str(tmp_path))
    return tmp_path / f"restaurant-otel-{os.geteuid()}" / "shared"


@pytest.fixture
def worker(group: Path) -> Iterator[Callable[..., Puppet]]:
    """`worker()` starts one."""
    started: list[Puppet] = []

    def start(limit: int = 2000) -> Puppet:
        started.append(Puppet(limit))
        return started[-1]

    yield start
    for puppet in started:
        puppet.stop()


Worker = Callable[..., Puppet]


def test_any_worker_answers_for_all(worker: Worker) -> None:
    first, second, third = worker(), worker(), worker()
    first.counts(1)
    second.counts(2)
    third.counts(4)
    third.serves(0.2)
    second.serves(20.0)
    for each in (first, second, third):
        answer = each.answers()
        assert answer[NORTH] == 7
        assert answer["shop.wait", "north", None] == [1, 0, 1, 20.2]
        assert answer[WORKERS] == 3


def test_a_killed_workers_counts_stay_and_its_gauges_go(worker: Worker) -> None:
    first, second = worker(), worker()
    for each in (first, second):
        each.counts(5)
        each.seats(3)
        each.serves(0.1)
        each.reads("staff", 2)
        each.reads("mood", 0.5)
    second.reads("heat", 300)
    first.reads("heat", 200)
    assert first.answers()["shop.heat", None, None] == 300
    second.kill()
    answer = first.answers()
    assert answer[NORTH] == 10
    assert answer["shop.wait", "north", None] == [2, 0, 0, 0.2]
    assert answer["shop.guests", "north", None] == 3
    assert answer["shop.heat", None, None] == 200
    assert answer["shop.staff", None, None] == 2
    assert [key for key in answer if key[0] == "shop.mood"] == [("shop.mood", None, str(first.pid))]
    assert answer[WORKERS] == 1


def test_gauges_add_up_by_their_rule(worker: Worker) -> None:
    first, second = worker(), worker()
    first.reads("staff", 2)
    second.reads("staff", 3)
    first.reads("heat", -5)
    second.reads("heat", -7)
    first.reads("mood", 0.1)
    second.reads("mood", 0.9)
    answer = second.answers()
    assert answer["shop.staff", None, None] == 5
    assert answer["shop.heat", None, None] == -5
    assert answer["shop.mood", None, str(first.pid)] == 0.1
    assert answer["shop.mood", None, str(second.pid)] == 0.9


def test_observed_counters_are_replaced_and_go_with_who_read_them(worker: Worker) -> None:
    first, second = worker(), worker()
    first.reads("disk", 500)
    second.reads("disk", 700)
    first.reads("steps", 5)
    first.reads("steps", 8)
    second.reads("steps", 3)
    answer = first.answers()
    assert answer["shop.disk.io", None, None] == 700
    assert answer["shop.steps", None, str(first.pid)] == 8
    assert answer["shop.steps", None, str(second.pid)] == 3
    second.kill()
    answer = first.answers()
    assert answer["shop.disk.io", None, None] == 500
    assert [key for key in answer if key[0] == "shop.steps"] == [("shop.steps", None, str(first.pid))]


def test_the_dead_are_folded_once_and_their_files_removed(worker: Worker, group: Path) -> None:
    survivor = worker()
    for _ in range(5):
        mortal = worker()
        mortal.counts(1)
        mortal.kill()
        survivor.answers()
    assert [survivor.answers()[NORTH] for _ in range(3)] == [5, 5, 5]
    assert sorted(file.name.split("-")[0] for file in group.iterdir()) == ["ledger.cells", "lock", "worker"]


def test_a_starting_worker_folds_who_died_before(worker: Worker, group: Path) -> None:
    for amount in (1, 2, 4):
        mortal = worker()
        mortal.counts(amount)
        mortal.kill()
    last = worker()
    assert len(list(group.glob("worker-*"))) == 1
    assert last.answers()[NORTH] == 7


def test_a_crash_between_the_ledger_and_the_removal_counts_nothing_twice(worker: Worker, group: Path) -> None:
    survivor, crashing, mortal = worker(), worker(), worker()
    mortal.counts(3)
    crashing.counts(4)
    mortal.kill()
    assert crashing.attempt("scrape and die before removing") is False
    assert len(list(group.glob("worker-*"))) == 3, "the crash was to leave the folded file behind"
    assert survivor.answers()[NORTH] == 7
    assert survivor.answers()[NORTH] == 7
    assert len(list(group.glob("worker-*"))) == 1


@pytest.mark.parametrize("steps", range(6))
def test_a_scrape_during_which_workers_are_folded_is_exact(worker: Worker, group: Path, steps: int) -> None:
    folding = worker()

    def fold(amount: int) -> None:
        mortal = worker()
        mortal.counts(amount)
        mortal.kill()
        folding.answers()

    fold(1)  # there is a ledger from the beginning
    dying = [worker(), worker()]
    dying[0].counts(2)
    dying[1].counts(4)
    pieces = Registry().iter_families()
    families = [next(pieces) for _ in range(steps)]
    for each in dying:
        each.kill()
    folding.answers()
    fold(0)  # the ledger need not name by now what it took in the time before
    families += pieces
    found = [point for family in families if family.metric.name == ORDERS.name for point in family.points]
    assert [point.value for point in found if isinstance(point, NumberPoint)] == [7]


def test_the_newest_exemplar_outlives_its_worker(worker: Worker) -> None:
    first, second = worker(), worker()
    first.serves(0.1, trace_id=1)
    second.serves(0.2, trace_id=2)
    second.serves(5, trace_id=3)
    assert first.exemplars() == [2, 3, 0]
    second.kill()
    assert first.exemplars() == [2, 3, 0]
    assert first.exemplars() == [2, 3, 0], "folded by now"
    first.serves(0.3, trace_id=(1 << 128) - 1)
    assert first.exemplars() == [(1 << 128) - 1, 3, 0]


def test_counts_reset_when_no_worker_and_no_ledger_is_left(worker: Worker, group: Path) -> None:
    only = worker()
    only.counts(3)
    only.kill()
    for file in group.iterdir():
        file.unlink()
    assert NORTH not in worker().answers()


def test_the_start_of_the_sum_is_the_first_workers(worker: Worker, group: Path) -> None:
    def starts() -> list[float]:
        registry = Registry()
        registry.attach()
        registry.counter(ORDERS).bind("north").add(1)
        return [point.start for family in registry.collect() for point in family.points]

    first = worker()
    first.counts(1)
    before = in_child(starts)
    first.kill()
    assert in_child(starts) == before


def test_what_the_dead_had_is_bounded_too(worker: Worker) -> None:
    survivor = worker(limit=5)
    total = 0
    for generation in range(8):
        mortal = worker(limit=5)
        for branch in range(7):  # two more than the limit
            mortal.counts(1, f"{generation}.{branch}")
            total += 1
        mortal.kill()
        answer = survivor.answers()
    series = {key: value for key, value in answer.items() if key[0] == "shop.orders"}
    assert sum(series.values()) == total
    answer = survivor.answers()
    series = {key: value for key, value in answer.items() if key[0] == "shop.orders"}
    assert sum(series.values()) == total
    assert len(series) == 4 * 5 + 1


def test_no_scrape_shows_a_counter_below_an_earlier_one(worker: Worker) -> None:
    """Two workers scrape all the while others count, die and are folded by whoever is first."""
    scraping = [worker(), worker()]
    done = threading.Event()
    seen: list[list[Numbers]] = [[], []]

    def scrape(which: int) -> None:
        while not done.is_set():
            seen[which].append(scraping[which].answers())

    threads = [threading.Thread(target=scrape, args=(which,)) for which in (0, 1)]
    total = 0
    mortals = [worker(), worker()]
    for thread in threads:
        thread.start()
    try:
        for turn in range(30):
            for each in mortals:
                each.counts(1)
                each.serves(0.1)
                total += 1
            mortals[turn % 2].kill()
            mortals[turn % 2] = worker()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    for answers in seen:
        assert len(answers) > 5
        orders = [answer.get(NORTH, 0) for answer in answers]
        waits = [answer.get(("shop.wait", "north", None), [0])[0] for answer in answers]
        assert orders == sorted(orders)
        assert waits == sorted(waits)
    for each in scraping:
        assert each.answers()[NORTH] == total
        assert each.answers()["shop.wait", "north", None][0] == total


# --- forks -------------------------------------------------------------------------------------------


@pytest.fixture
def private_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Groups that are found without a setting are kept here."""
    monkeypatch.delenv("RESTAURANT_OTEL_WORKERS_DIR", raising=False)
    monkeypatch.delenv("RESTAURANT_OTEL_GROUP", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / f"restaurant-otel-{os.geteuid()}"


def test_a_process_alone_leaves_no_trace_on_disk(private_root: Path) -> None:
    registry = Registry()
    registry.counter(ORDERS).bind("north").add(1)
    registry.attach()
    assert registry.attached
    assert numbers(registry)[NORTH] == 1
    assert not private_root.exists()


def test_forked_workers_and_their_parent_add_up_with_no_setting(private_root: Path) -> None:
    def parent() -> list[float]:
        registry = Registry()
        cell = registry.counter(ORDERS).bind("north")
        cell.add(100)  # before the fork: the parent's alone
        registry.attach()
        answers = []
        for _ in range(3):

            def child() -> float:
                assert not registry.attached
                cell.add(1)  # remembered since before the fork
                registry.attach()
                cell.add(1)
                return float(numbers(registry)[NORTH])

            answers.append(in_child(child))
        assert not registry.attached, "a parent of workers has to look again"
        answers.append(numbers(registry)[NORTH])
        return answers

    # The children do not see the parent until it attaches, which it does at its own next request.
    assert in_child(parent) == [2, 4, 6, 106]
    assert len(list(private_root.iterdir())) == 1


def test_a_worker_forked_from_a_worker_joins_its_group(private_root: Path) -> None:
    def parent() -> list[float]:
        registry = Registry()
        cell = registry.counter(ORDERS).bind("north")

        def child() -> float:
            cell.add(1)
            registry.attach()

            def grandchild() -> float:
                cell.add(10)
                return float(numbers(registry)[NORTH])

            in_child(grandchild)
            return float(numbers(registry)[NORTH])

        return [in_child(child), in_child(child), numbers(registry)[NORTH]]

    assert in_child(parent) == [11, 22, 22]


def test_the_childs_numbers_begin_at_zero(private_root: Path) -> None:
    def parent() -> list[list[object]]:
        registry = Registry()
        registry.attach()
        registry.counter(ORDERS).bind("north").add(3)
        wait = registry.histogram(WAIT).bind("north")
        wait.record_with_exemplar(0.1, 7, 7)

        def child() -> list[object]:
            before = [family.points for family in registry.collect_own()]
            wait.record_with_exemplar(3.0, 8, 8)
            after = registry.collect_own()
            point = next(family.points[0] for family in after if family.metric is WAIT)
            assert isinstance(point, HistogramPoint)
            return [
                [point.value for points in before for point in points if isinstance(point, NumberPoint)],
                [point.counts for points in before for point in points if isinstance(point, HistogramPoint)],
                point.counts,
                [x.trace_id if x else 0 for x in point.exemplars],
            ]

        return in_child(child)  # type: ignore[no-any-return]

    assert in_child(parent) == [[0.0], [[0, 0, 0]], [0, 1, 0], [0, 8, 0]]


def test_a_fork_that_python_is_not_told_of_counts_nothing_twice(group: Path) -> None:
    """As uWSGI forks, by the C library."""

    def parent() -> float:
        registry = Registry()
        registry.counter(ORDERS).bind("north").add(5)
        fork = ctypes.PyDLL(None).fork  # holds the interpreter's lock, runs no hooks
        child = fork()
        if child == 0:
            try:
                registry.attach()
                registry.counter(ORDERS).bind("north").add(1)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        return float(numbers(registry)[NORTH])

    assert in_child(parent) == 6


def test_a_fork_while_other_threads_are_busy_neither_hangs_nor_counts_twice(private_root: Path) -> None:
    def parent() -> list[float]:
        registry = Registry()
        registry.attach()
        stop = threading.Event()

        def busy(name: int) -> None:
            number = 0
            while not stop.is_set():
                registry.counter(ORDERS).bind(f"{name}.{number % 500}").add(1)
                registry.histogram(WAIT).bind(f"{name}.{number % 500}").record_with_exemplar(1.0, 1, 1)
                registry.collect()
                number += 1

        threads = [threading.Thread(target=busy, args=(name,)) for name in range(3)]
        for thread in threads:
            thread.start()

        def child() -> float:
            registry.counter(ORDERS).bind("the child's").add(1)
            registry.histogram(WAIT).bind("0.0").record_with_exemplar(1.0, 1, 1)
            own = next(f for f in registry.collect_own() if f.metric is ORDERS)
            return sum(point.value for point in own.points if isinstance(point, NumberPoint))

        answers = [in_child(child) for _ in range(20)]
        stop.set()
        for thread in threads:
            thread.join()
        return answers

    assert in_child(parent) == [1.0] * 20


def test_what_goes_wrong_in_a_child_is_not_counted_in_its_parent(group: Path) -> None:
    """Several registries in a process: the errors of one are counted in the one that everybody shares."""

    def parent() -> float:
        errors = registry().counter(catalog.TELEMETRY_ERRORS).bind("workers")
        others = [Registry() for _ in range(20)]
        for other in others:
            other.attach()
            other.counter(ORDERS).bind("north").add(1)
        errors.add(1)
        shutil.rmtree(group)
        group.write_text("no folder: nobody can join")
        in_child(lambda: None)
        return sum(
            point.value
            for family in registry().collect_own()
            if family.metric is catalog.TELEMETRY_ERRORS
            for point in family.points
            if isinstance(point, NumberPoint) and point.values == ("workers",)
        )

    assert in_child(parent) == 1


def test_threads_that_fork_at_once_do_not_lock_each_other_out(private_root: Path) -> None:
    def parent() -> float:
        registry = Registry()
        registry.counter(ORDERS).bind("north").add(1)

        def fork() -> None:
            for _ in range(20):
                pid = os.fork()
                if pid == 0:
                    os._exit(0)
                os.waitpid(pid, 0)

        threads = [threading.Thread(target=fork) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        registry.counter(ORDERS).bind("south").add(1)
        return float(numbers(registry)[NORTH])

    assert in_child(parent) == 1


def test_the_parents_file_does_not_live_on_in_its_children(group: Path) -> None:
    """A child inherits descriptors and mappings; a dead parent must be seen to be dead nevertheless."""
    read, write = os.pipe()

    def parent() -> int:
        registry = Registry()
        registry.attach()
        registry.counter(ORDERS).bind("north").add(5)
        registry.counter(GUESTS).bind("north").add(3)
        child = os.fork()
        if child == 0:
            os.close(write)
            os.read(read, 1)  # outlives its parent, until the test says so
            os._exit(0)
        return child

    try:
        in_child(parent)
        registry = Registry()
        assert numbers(registry)[NORTH] == 5
        # The child lets go of them as its first deed, which need not be over when its parent is.
        assert eventually(lambda: numbers(registry).get(("shop.guests", "north", None), 0) == 0)
        assert numbers(registry)[NORTH] == 5
    finally:
        os.close(write)
        os.close(read)


# --- the law -----------------------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """Whatever the order in which workers start, count, fork, die and scrape: nothing is lost or counted twice."""

    workers = Bundle("workers")

    def __init__(self) -> None:
        super().__init__()
        self.place = TemporaryDirectory()
        os.environ["RESTAURANT_OTEL_WORKERS_DIR"] = self.place.name
        self.living: list[Puppet] = []
        self.orders: dict[str, float] = {}
        self.served = 0
        self.present: dict[int, float] = {}

    @rule(target=workers)
    def start(self) -> Puppet:
        self.living.append(Puppet())
        return self.living[-1]

    @rule(worker=workers, amount=st.integers(0, 1000), branch=st.sampled_from(["north", "south", "\udcff\n"]))
    def count(self, worker: Puppet, amount: int, branch: str) -> None:
        worker.counts(amount, branch)
        self.orders[branch] = self.orders.get(branch, 0) + amount

    @rule(worker=workers, amount=st.integers(-5, 5))
    def seat(self, worker: Puppet, amount: int) -> None:
        worker.seats(amount)
        self.present[worker.pid] = self.present.get(worker.pid, 0) + amount

    @rule(worker=workers, seconds=st.sampled_from([0.1, 3.0, 30.0]), trace_id=st.integers(0, 3))
    def serve(self, worker: Puppet, seconds: float, trace_id: int) -> None:
        worker.serves(seconds, trace_id=trace_id)
        self.served += 1

    @rule(worker=consumes(workers))
    def kill(self, worker: Puppet) -> None:
        worker.kill()
        self.living.remove(worker)
        self.present.pop(worker.pid, None)

    @rule(worker=consumes(workers))
    def crash_while_folding(self, worker: Puppet) -> None:
        if worker.attempt("scrape and die before removing") is None:
            worker.kill()  # there was nothing to fold
        self.living.remove(worker)
        self.present.pop(worker.pid, None)

    @invariant()
    def every_scrape_is_exact(self) -> None:
        for worker in self.living[:1] + self.living[1:][-1:]:
            answer = worker.answers()
            orders = {key[1]: value for key, value in answer.items() if key[0] == "shop.orders"}
            assert orders == self.orders
            assert sum(answer.get(("shop.wait", "north", None), [0])[:-1]) == self.served
            if self.present:
                assert answer["shop.guests", "north", None] == sum(self.present.values())
            assert answer[WORKERS] == len(self.living)

    def teardown(self) -> None:
        for worker in self.living:
            worker.stop()
        self.place.cleanup()


def test_totals_are_exact_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTAURANT_OTEL_WORKERS_DIR", "set by each run")
    run_state_machine_as_test(
        AnyOrder, settings=settings(max_examples=15, stateful_step_count=20, deadline=None)
    )
