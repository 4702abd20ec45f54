"""Promises of who is a sibling of whom: found where it is certain, and never two apps in one group."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restaurant_otel.metrics import folder, group, workers
from restaurant_otel.metrics.group import Group, Leader
from restaurant_otel.metrics.registry import Registry
from tests.metrics.puppets import ORDERS, in_child, numbers
from tests.support.wait import eventually

NORTH = ("shop.orders", "north", None)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is set by the operator, and groups are kept here."""
    for name in ("RESTAURANT_OTEL_WORKERS_DIR", "RESTAURANT_OTEL_GROUP", "GUNICORN_PID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / f"restaurant-otel-{os.geteuid()}"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """Another process."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


# --- a process and its namesakes ---------------------------------------------------------------------


def test_a_process_is_known_by_when_it_started(sleeper: subprocess.Popen[bytes]) -> None:
    leader = group.leader(sleeper.pid)
    assert leader is not None
    assert leader.lives
    assert group.leader(sleeper.pid) == leader
    assert Leader(leader.pid, leader.start - 1, leader.namespace, leader.boot).lives is False
    assert Leader(leader.pid, leader.start, leader.namespace, "another boot").lives is False
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert leader.lives is False, "a zombie does not live"
    sleeper.wait()
    assert leader.lives is False
    assert group.leader(sleeper.pid) is None


def test_a_process_of_another_container_is_not_declared_dead() -> None:
    assert Leader(1 << 30, 1, group.pid_namespace() + 1, group.boot()).lives


@given(st.integers(0), st.integers(0), st.integers(0), st.text("0123456789abcdef", min_size=1, max_size=12))
def test_a_leaders_name_says_all_about_it(pid: int, start: int, namespace: int, boot: str) -> None:
    leader = Leader(pid, start, namespace, boot)
    assert Leader.parse(leader.name) == leader


@pytest.mark.parametrize("name", ["", "shared", "named-web", "1-2-3", "1-2-3-4-5", "a-2-3-4", "../1-2-3-4"])
def test_other_names_are_nobodys(name: str) -> None:
    assert Leader.parse(name) is None


# --- what the operator says --------------------------------------------------------------------------


def test_a_name_given_by_the_operator_is_believed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RESTAURANT_OTEL_GROUP", "web")
    assert group.find(None) == Group("named-web", str(tmp_path))
    monkeypatch.setenv("RESTAURANT_OTEL_WORKERS_DIR", "relative")
    assert group.find(None) == Group("named-web", os.path.abspath("relative"))
    monkeypatch.delenv("RESTAURANT_OTEL_GROUP")
    assert group.find(None) == Group("shared", os.path.abspath("relative"))


@pytest.mark.parametrize("name", ["../../etc", "a/b", "x" * 300, "ü", "a b", "\udcff"])
def test_a_strange_name_stays_within_the_folder(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("RESTAURANT_OTEL_GROUP", name)
    found = group.find(None)
    assert found is not None
    assert "/" not in found.name
    assert len(found.name) < 120
    monkeypatch.setenv("RESTAURANT_OTEL_GROUP", name + "!")
    other = group.find(None)
    assert other is not None
    assert other.name != found.name


def test_a_named_group_is_joined_at_the_first_use_even_where_nobody_serves_requests(
    monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    """As in Celery: a parent that forks workers; no request is ever made."""
    monkeypatch.setenv("RESTAURANT_OTEL_GROUP", "tasks")
    program = """
import os, sys
from restaurant_otel.metrics import registry
from tests.metrics.puppets import ORDERS, numbers
orders = registry().counter(ORDERS).bind("north")
for _ in range(3):
    if os.fork() == 0:
        orders.add(2)
        os._exit(0)
    os.wait()
orders.add(1)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    registry = Registry()
    assert numbers(registry)[NORTH] == 7


# --- what is found -----------------------------------------------------------------------------------


def test_a_process_started_by_hand_has_no_siblings() -> None:
    assert group.find(None) is None


def test_a_parent_alone_makes_no_siblings() -> None:
    """Two apps started from one shell, or by one script, have a parent in common and nothing else."""
    program = "from restaurant_otel.metrics import group; print(group.find(None))"
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert run.stdout == "None\n"
    assert in_child(lambda: group.find(None)) is None


def _put_found(queue: multiprocessing.Queue[object]) -> None:
    queue.put(group.find(None))


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_children_by_multiprocessing_are_not_siblings_for_that(method: str) -> None:
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=_put_found, args=(queue,))
    process.start()
    assert queue.get(timeout=30) is None
    process.join()


def test_having_gunicorn_loaded_makes_nobody_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    __import__("gunicorn.arbiter")
    assert group.find(None) is None


def test_a_worker_of_gunicorn_is_known_by_the_call_it_is_in() -> None:
    """The real arbiter's `spawn_worker`, with a worker class that only looks."""

    def master() -> list[object]:
        from gunicorn.app.base import BaseApplication
        from gunicorn.arbiter import Arbiter
        from gunicorn.workers.base import Worker

        read, write = os.pipe()

        class Looking(Worker):
            def init_process(self) -> None:
                found = group.find(None)
                os.write(write, (found.name if found else "none").encode())
                os._exit(0)

        class App(BaseApplication):
            def load_config(self) -> None:
                self.cfg.set("worker_class", Looking)
                self.cfg.set("loglevel", "critical")

            def load(self) -> None: ...

        arbiter = Arbiter(App())
        arbiter.pid = os.getpid()
        arbiter.LISTENERS = []
        pid = arbiter.spawn_worker()
        os.waitpid(pid, 0)
        own = group.leader(os.getpid())
        return [os.read(read, 200).decode(), own.name if own else None]

    found, own = in_child(master)
    assert found == own


def test_a_worker_of_gunicorn_is_known_by_its_signal_handlers() -> None:
    """As with gevent, where the main thread's stack is out of sight."""

    def worker() -> list[object]:
        __import__("gunicorn.arbiter")
        from gunicorn.config import Config
        from gunicorn.workers.base import Worker

        made = Worker(1, os.getppid(), [], None, 30, Config(), None)
        signal.signal(signal.SIGUSR1, made.handle_usr1)
        found = group.find(None)
        parent = group.leader(os.getppid())
        return [found.name if found else None, parent.name if parent else None]

    found, parent = in_child(worker)
    assert found == parent is not None


def test_a_worker_of_uwsgi_is_known_by_its_module(
    monkeypatch: pytest.MonkeyPatch, sleeper: subprocess.Popen[bytes]
) -> None:
    module = types.ModuleType("uwsgi")
    monkeypatch.setitem(sys.modules, "uwsgi", module)
    assert group.find(None) is None, "an app's own module of that name"
    module.masterpid = lambda: sleeper.pid  # type: ignore[attr-defined]
    assert group.find(None) == led_by(sleeper.pid)
    module.masterpid = lambda: 0  # type: ignore[attr-defined]
    module.numproc = 1  # type: ignore[attr-defined]
    assert group.find(None) is None, "alone"
    module.numproc = 2  # type: ignore[attr-defined]
    module.worker_id = lambda: 1  # type: ignore[attr-defined]
    assert group.find(None) == led_by(os.getpid()), "the first worker leads where there is no master"
    module.worker_id = lambda: 2  # type: ignore[attr-defined]
    assert group.find(None) == led_by(os.getppid())


# --- taking over, and leaving ------------------------------------------------------------------------


def settle(found: Group) -> Group:
    with folder.base(found.root, create=True) as parent:
        settled = workers.settle(parent, found)
        with folder.inner(parent, settled.name, create=True):
            return settled


def led_by(pid: int) -> Group:
    """The group of the process `pid`."""
    leader = group.leader(pid)
    assert leader is not None
    return Group(leader.name, group.default_root(), leader)


def test_a_master_that_takes_over_leads_the_old_ones_group(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """USR2: the new gunicorn has GUNICORN_PID in its environment, until the old one is gone."""
    __import__("gunicorn.arbiter")
    with subprocess.Popen(["sleep", "600"]) as second, subprocess.Popen(["sleep", "600"]) as third:
        try:
            old, new, newest = led_by(sleeper.pid), led_by(second.pid), led_by(third.pid)
            assert settle(old) == old
            monkeypatch.setenv("GUNICORN_PID", str(sleeper.pid))
            assert settle(new) == old
            sleeper.kill()
            sleeper.wait()
            monkeypatch.delenv("GUNICORN_PID")
            assert settle(new) == old, "a worker that starts later follows the note"
            monkeypatch.setenv("GUNICORN_PID", str(second.pid))
            assert settle(newest) == old, "and so does the next master"
        finally:
            second.kill()
            third.kill()


def test_a_worker_that_comes_after_the_old_master_has_gone_finds_its_group(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    __import__("gunicorn.arbiter")
    old, new = led_by(sleeper.pid), led_by(os.getpid())
    assert settle(old) == old
    sleeper.kill()
    sleeper.wait()
    monkeypatch.setenv("GUNICORN_PID", str(sleeper.pid))
    assert settle(new).name == old.name


def test_what_is_left_of_a_dead_group_is_removed_by_the_next_that_starts(
    sleeper: subprocess.Popen[bytes], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, own = led_by(sleeper.pid), led_by(os.getpid())
    settle(dead)
    (root / dead.name / "worker-1-2-3.cells").write_bytes(b"")
    settle(own)
    assert (root / dead.name).exists(), "its leader lives"
    sleeper.kill()
    sleeper.wait()
    settle(own)
    assert sorted(path.name for path in root.iterdir()) == [own.name]


def test_a_group_with_a_living_worker_stays(sleeper: subprocess.Popen[bytes], root: Path) -> None:
    orphaned, own = led_by(sleeper.pid), led_by(os.getpid())
    leader = orphaned.leader
    assert leader is not None

    def orphan() -> int:
        registry = Registry()
        registry._forked_from = leader
        registry.attach()
        registry.counter(ORDERS).bind("north").add(1)
        os.kill(sleeper.pid, signal.SIGKILL)
        assert eventually(lambda: not leader.lives)
        settle(own)
        return len(list((root / orphaned.name).glob("*.cells")))

    assert in_child(orphan) == 1
    sleeper.wait()
    settle(own)
    assert not (root / orphaned.name).exists()


def test_a_group_named_by_the_operator_stays(root: Path) -> None:
    settle(Group("named-tasks", group.default_root()))
    settle(led_by(os.getpid()))
    assert (root / "named-tasks").exists()
