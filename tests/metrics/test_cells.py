"""Promises of the cells: nothing is lost between threads, signals and moves, and a cell costs little memory."""

from __future__ import annotations

import dis
import gc
import math
import mmap
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from restaurant_otel import catalog
from restaurant_otel.catalog import Kind, Metric
from restaurant_otel.metrics import HistogramPoint, NumberPoint, Point, cells
from restaurant_otel.metrics.cells import CounterCell, GaugeCell, HistogramCell, move
from restaurant_otel.metrics.registry import Registry

ORDERS = Metric("shop.orders", "{order}", Kind.COUNTER, "Orders taken.")
HEAT = Metric("shop.heat", "Cel", Kind.GAUGE, "Heat of the oven.")
WAIT = Metric("shop.wait", "s", Kind.HISTOGRAM, "Time until served.", (), (0.5, 10.0))


def point(registry: Registry, metric: Metric) -> Point:
    """The only point of a metric."""
    (found,) = next(family.points for family in registry.collect_own() if family.metric is metric)
    return found


def number(registry: Registry, metric: Metric) -> float:
    """The only point's value."""
    found = point(registry, metric)
    assert isinstance(found, NumberPoint)
    return found.value


def histogram(registry: Registry, metric: Metric) -> HistogramPoint:
    """The only point of a histogram."""
    found = point(registry, metric)
    assert isinstance(found, HistogramPoint)
    return found


def test_a_counter_adds() -> None:
    registry = Registry()
    cell = registry.counter(ORDERS).bind()
    cell.add()
    cell.add(2.5)
    assert number(registry, ORDERS) == 3.5
    cell.replace(10)
    assert number(registry, ORDERS) == 10


def test_a_gauge_shows_its_last_reading_until_it_is_cleared() -> None:
    registry = Registry()
    cell = registry.gauge(HEAT).bind()
    assert [family for family in registry.collect_own() if family.metric is HEAT] == []
    cell.set(200)
    cell.set(0)
    assert number(registry, HEAT) == 0
    cell.set(math.nan)
    assert math.isnan(number(registry, HEAT))
    cell.clear()
    assert [family for family in registry.collect_own() if family.metric is HEAT] == []


def test_a_histogram_counts_a_bound_into_the_bucket_it_ends() -> None:
    registry = Registry()
    cell = registry.histogram(WAIT).bind()
    for value in (0.1, 0.5, 0.500001, 10.0, 11, 1e9):
        cell.record(value)
    found = histogram(registry, WAIT)
    assert found.counts == [2, 2, 2]
    assert found.count == 6
    assert found.sum == pytest.approx(1e9 + 22.100001, abs=1e-6)
    assert all(isinstance(count, int) for count in found.counts)
    cell.replace([1, 2, 3], 4.5)
    assert (histogram(registry, WAIT).counts, histogram(registry, WAIT).sum) == ([1, 2, 3], 4.5)


def test_each_bucket_keeps_its_last_exemplar() -> None:
    registry = Registry()
    cell = registry.histogram(WAIT).bind()
    largest = (1 << 128) - 1
    cell.record_with_exemplar(0.1, 1, 1)
    cell.record_with_exemplar(20, 2, 2)
    cell.record(0.2)
    cell.record_with_exemplar(0.3, largest, (1 << 64) - 1)
    found = histogram(registry, WAIT)
    assert found.counts == [3, 0, 1]
    first, second, third = found.exemplars
    assert first is not None
    assert (first.value, first.trace_id, first.span_id) == (0.3, largest, (1 << 64) - 1)
    assert second is None
    assert third is not None
    assert (third.value, third.trace_id, third.span_id) == (20, 2, 2)
    assert third.timestamp <= first.timestamp


def test_there_is_an_end_to_exemplars_but_not_to_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restaurant_otel.metrics.store.MOST_RECORD_BLOCKS", 1)
    registry = Registry()
    metric = Metric("shop.wait", "s", Kind.HISTOGRAM, "Time until served.", ("branch",), (1.0,))
    for branch in range(cells.RECORDS + 10):
        registry.histogram(metric).bind(branch).record_with_exemplar(0.5, 1, 1)
    points = next(family.points for family in registry.collect_own() if family.metric is metric)
    assert all(isinstance(each, HistogramPoint) and each.count == 1 for each in points)
    with_exemplars = sum(any(each.exemplars) for each in points if isinstance(each, HistogramPoint))
    assert with_exemplars == cells.RECORDS - 1


# --- no count is lost --------------------------------------------------------------------------------

_MAY_LOSE_ITS_TURN = ("CALL", "JUMP_BACKWARD", "RESUME", "FOR_ITER", "SEND", "YIELD", "AWAIT", "BEFORE_WITH")


def between(function: Callable[..., object], first: str, last: str) -> list[str]:
    """The instructions from the first one named `first` up to the last one named `last`."""
    names = [instruction.opname for instruction in dis.get_instructions(function)]
    start = next(i for i, name in enumerate(names) if name.startswith(first))
    end = max(i for i, name in enumerate(names) if name.startswith(last))
    assert start < end
    return names[start : end + 1]


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="BINARY_SUBSCR has another name; look again")
@pytest.mark.parametrize(
    ("function", "first", "last"),
    [
        (CounterCell.add, "BINARY_SUBSCR", "STORE_SUBSCR"),
        (HistogramCell.record, "BINARY_SUBSCR", "STORE_SUBSCR"),
        (HistogramCell.record_with_exemplar, "BINARY_SUBSCR", "STORE_SUBSCR"),
        (cells.take_off_and_record, "BINARY_SUBSCR", "STORE_SUBSCR"),
        (cells.Neighbours.record, "BINARY_SUBSCR", "STORE_SUBSCR"),
        (GaugeCell.set, "STORE_SUBSCR", "STORE_SUBSCR"),
        (move, "STORE_SUBSCR", "STORE_ATTR"),
    ],
    ids=lambda value: getattr(value, "__qualname__", None),
)
def test_no_other_thread_gets_a_turn_halfway(function: Callable[..., object], first: str, last: str) -> None:
    """What the cells' lack of locks rests on, see the first paragraph of `cells`."""
    names = between(function, first, last)
    assert [name for name in names if any(part in name for part in _MAY_LOSE_ITS_TURN)] == []


def hammer(work: Callable[[int], None], threads: int = 4) -> None:
    """`work(0)`, `work(1)`, ... in threads that are interrupted as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        started = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
    finally:
        sys.setswitchinterval(before)


@pytest.fixture(params=["plain", "locked"])
def kinds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the cells of either kind of interpreter; the plain ones only where they are promised to do."""
    prefix = "Locked" if request.param == "locked" else ""
    if request.param == "plain" and cells.FREE_THREADED:
        pytest.skip("this interpreter has no global lock")
    for name in ("CounterCell", "GaugeCell", "HistogramCell"):
        plain = name.removesuffix("Cell").upper()
        module = sys.modules[
            "restaurant_otel.metrics.registry"
        ]  # by its name in the package it is a function
        monkeypatch.setattr(module, plain, getattr(cells, prefix + name))


@pytest.mark.usefixtures("kinds")
def test_threads_lose_no_count() -> None:
    registry = Registry()
    orders = registry.counter(ORDERS).bind()
    wait = registry.histogram(WAIT).bind()

    def work(index: int) -> None:
        for turn in range(5000):
            orders.add(1)
            wait.record((0.25, 1.0, 16.0)[turn % 3])
            if turn % 5 == 0:
                wait.record_with_exemplar(0.25, index, turn)

    hammer(work)
    assert number(registry, ORDERS) == 20_000
    found = histogram(registry, WAIT)
    assert found.count == 24_000
    assert found.sum == 4 * (1667 * 0.25 + 1667 * 1.0 + 1666 * 16.0 + 1000 * 0.25)


STAY = Metric("shop.stay", "s", Kind.HISTOGRAM, "Time until paid.", (), WAIT.bounds)
LINGER = Metric("shop.linger", "s", Kind.HISTOGRAM, "Time until gone.", (), (1.0, 2.0, 20.0))


@pytest.mark.usefixtures("kinds")
@pytest.mark.parametrize("other", [STAY, LINGER], ids=["equal bounds", "bounds of its own"])
def test_a_pair_counts_in_both(other: Metric) -> None:
    registry = Registry()
    first, second = registry.histogram(WAIT).bind(), registry.histogram(other).bind()
    both = cells.pair(first, second)
    assert isinstance(both, cells.Neighbours) is (cells.are_plain(first) and other is STAY)

    def work(_: int) -> None:
        for turn in range(3000):
            both.record((0.25, 1.0, 16.0)[turn % 3])

    hammer(work)
    assert histogram(registry, WAIT).counts == [4000, 4000, 4000]
    assert histogram(registry, other).counts == ([4000, 4000, 4000] if other is STAY else [8000, 0, 4000, 0])
    assert histogram(registry, WAIT).sum == histogram(registry, other).sum == 4000 * 17.25


@pytest.mark.usefixtures("kinds")
def test_a_move_loses_no_count() -> None:
    """The memory is moved again and again while four threads count in it."""
    registry = Registry()
    orders = registry.counter(ORDERS).bind()
    wait = registry.histogram(WAIT).bind()
    done = threading.Event()
    moves = 0

    def work(index: int) -> None:
        nonlocal moves
        if index == 0:
            while not done.is_set() or moves < 100:
                move(orders.block, mmap.mmap(-1, orders.block.size))
                moves += 1
        else:
            for _ in range(5000):
                orders.add(1)
                wait.record(1.0)
            done.set()

    hammer(work)
    assert moves >= 100
    assert number(registry, ORDERS) == 15_000
    assert histogram(registry, WAIT).counts == [0, 15_000, 0]
    assert histogram(registry, WAIT).sum == 15_000


def test_a_signal_handler_may_count_in_the_midst_of_counting() -> None:
    registry = Registry()
    orders = registry.counter(ORDERS).bind()
    handled = 0

    def handler(*_: object) -> None:
        nonlocal handled
        handled += 1
        orders.add(1)
        registry.counter(Metric(f"shop.signal.{handled}", "1", Kind.COUNTER, "")).bind().add(1)

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        counted = 0
        while handled < 50:
            orders.add(1)
            counted += 1
            registry.counter(Metric(f"shop.plain.{counted % 100}", "1", Kind.COUNTER, "")).bind().add(1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert number(registry, ORDERS) == counted + handled


def test_another_thread_that_binds_gets_the_same_cell() -> None:
    registry = Registry()
    metric = Metric("shop.orders", "1", Kind.COUNTER, "", ("branch",))

    def work(index: int) -> None:
        order = list(range(200))
        random.Random(index).shuffle(order)
        for branch in order:
            registry.counter(metric).bind(branch).add(1)

    hammer(work)
    points = next(family.points for family in registry.collect_own() if family.metric is metric)
    assert [each.value for each in points if isinstance(each, NumberPoint)] == [4.0] * 200


# --- what it costs -----------------------------------------------------------------------------------

_MEMORY = """
import gc, os, psutil
from restaurant_otel import catalog
from restaurant_otel.metrics.registry import Registry
registry = Registry(limit=10_000)
metric = catalog.HTTP_SERVER_REQUEST_DURATION
remembered = {}
values = [("GET", f"/orders/{i}", 200, "http", "1.1", None) for i in range(5000)]
def measure(value):
    cell = remembered[value] = registry.histogram(metric).bind(*value)
    for seconds in (0.003, 0.02, 0.3):
        cell.record_with_exemplar(seconds, 1 << 100, 1)
measure(("GET", "/", 200, "http", "1.1", None))
registry.collect()
gc.collect()
before = psutil.Process().memory_info().rss
for value in values:
    measure(value)
gc.collect()
print((psutil.Process().memory_info().rss - before) / 5)
"""


def test_a_thousand_histograms_with_exemplars_take_less_than_a_mebibyte() -> None:
    """Cells, what the registry and a caller remember of them, and three exemplars each."""
    run = subprocess.run([sys.executable, "-c", _MEMORY], check=True, capture_output=True, text=True)
    assert float(run.stdout) < 1 << 20


def test_many_series_leave_earlier_cells_where_they_are() -> None:
    registry = Registry(limit=50_000)
    metric = catalog.HTTP_SERVER_REQUEST_DURATION
    first = registry.histogram(metric).bind("GET", "/", 200, "http", "1.1", None)
    first.record(0.1)
    for route in range(20_000):
        registry.histogram(metric).bind("GET", f"/{route}", 200, "http", "1.1", None).record(0.1)
    first.record(0.1)
    gc.collect()
    points = next(family.points for family in registry.collect_own() if family.metric is metric)
    assert len(points) == 20_001
    assert sum(each.count for each in points if isinstance(each, HistogramPoint)) == 20_002
    assert isinstance(points[0], HistogramPoint)
    assert points[0].count == 2
