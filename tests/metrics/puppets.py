"""Real worker processes on strings: forked from the test, doing what they are told, killable at any moment."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from typing import Any, Self

from restaurant_otel.catalog import Across, Kind, Metric
from restaurant_otel.metrics import HistogramPoint
from restaurant_otel.metrics.registry import Registry

ORDERS = Metric("shop.orders", "{order}", Kind.COUNTER, "Orders taken.", ("branch",))
GUESTS = Metric("shop.guests", "{guest}", Kind.UP_DOWN_COUNTER, "Guests present.", ("branch",))
WAIT = Metric("shop.wait", "s", Kind.HISTOGRAM, "Time until served.", ("branch",), (0.5, 10.0))
HEAT = Metric("shop.heat", "Cel", Kind.GAUGE, "Heat of the oven.", (), across=Across.MAX)
STAFF = Metric("shop.staff", "{person}", Kind.GAUGE, "People at work.", (), across=Across.SUM)
MOOD = Metric("shop.mood", "1", Kind.GAUGE, "How the cook feels.", (), across=Across.PER_WORKER)
DISK = Metric("shop.disk.io", "By", Kind.OBSERVED_COUNTER, "Bytes written.", (), across=Across.MAX)
STEPS = Metric("shop.steps", "{step}", Kind.OBSERVED_COUNTER, "Steps walked.", (), across=Across.PER_WORKER)

Numbers = dict[tuple[str, Any, str | None], Any]


def numbers(registry: Registry) -> Numbers:
    """Everything a registry answers, by metric, first attribute value (or "overflow") and worker.

    A histogram is its counts and sum.
    """
    found: Numbers = {}
    for family in registry.collect():
        for point in family.points:
            label = "overflow" if point.overflow else next(iter(point.values), None)
            value = [*point.counts, point.sum] if isinstance(point, HistogramPoint) else point.value
            found[family.metric.name, label, point.worker] = value
    return found


def in_child(work: Callable[[], Any]) -> Any:
    """What `work` returns (as JSON can carry it) when a forked child does it; its exception as text fails the test."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(read)
            with os.fdopen(write, "w") as pipe:
                try:
                    answer = {"result": work()}
                except BaseException as error:
                    answer = {"error": repr(error)}
                pipe.write(json.dumps(answer) + "\n")
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as pipe:
        line = pipe.readline()  # not up to the end: processes that it started may hold the pipe for longer
    os.waitpid(pid, 0)
    answer = json.loads(line or '{"error": "died"}')
    assert "error" not in answer, answer["error"]
    return answer["result"]


class Puppet:
    """A worker with a registry of its own, joined to the group that the environment names."""

    def __init__(self, limit: int = 2000) -> None:
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                ours.close()
                _perform(theirs, limit)
            finally:
                os._exit(1)
        theirs.close()
        self._socket = ours
        self._stream = ours.makefile("rw")
        self.dead = False
        assert self._stream.readline() == "null\n", "the worker could not start"

    def counts(self, amount: float, branch: str = "north") -> None:
        """Add to a counter."""
        self._tell("counts", amount, branch)

    def seats(self, amount: float, branch: str = "north") -> None:
        """Add to an up-down counter."""
        self._tell("seats", amount, branch)

    def serves(self, seconds: float, branch: str = "north", trace_id: int = 0) -> None:
        """Record in a histogram, with an exemplar if there is a trace id."""
        self._tell("serves", seconds, branch, trace_id)

    def reads(self, gauge: str, value: float) -> None:
        """Set a gauge or an observed counter: heat, staff, mood, disk or steps."""
        self._tell("reads", gauge, value)

    def answers(self) -> Numbers:
        """What a scrape of this worker says."""
        return {tuple(key): value for key, value in self._tell("answers")}

    def exemplars(self) -> list[int]:
        """The trace ids of the exemplars of the histogram, in a scrape of this worker; 0 for none."""
        found: list[int] = self._tell("exemplars")
        return found

    def attempt(self, what: str) -> Any:
        """Do one of the dangerous things at the end of this file; False if the worker died of it."""
        try:
            return self._tell(what)
        except (EOFError, ConnectionError):
            self._bury()
            return False

    def kill(self) -> None:
        """End it by SIGKILL, now."""
        os.kill(self.pid, signal.SIGKILL)
        self._bury()

    def stop(self) -> None:
        """End it, if it still lives."""
        if not self.dead:
            self.kill()

    def _bury(self) -> None:
        os.waitpid(self.pid, 0)
        self.dead = True
        self._stream.close()
        self._socket.close()

    def _tell(self, *words: Any) -> Any:
        self._stream.write(json.dumps(words) + "\n")
        self._stream.flush()
        line = self._stream.readline()
        if not line:
            raise EOFError("the worker is gone")
        answer = json.loads(line)
        assert not isinstance(answer, str), answer  # an exception
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


# --- in the worker -----------------------------------------------------------------------------------


def _perform(strings: socket.socket, limit: int) -> None:
    registry = Registry(limit)
    registry.attach()
    stream = strings.makefile("rw")
    gauges = {"heat": HEAT, "staff": STAFF, "mood": MOOD, "disk": DISK, "steps": STEPS}

    def act(what: str, *words: Any) -> Any:
        match what, words:
            case "counts", (amount, branch):
                registry.counter(ORDERS).bind(branch).add(amount)
            case "seats", (amount, branch):
                registry.counter(GUESTS).bind(branch).add(amount)
            case "serves", (seconds, branch, 0):
                registry.histogram(WAIT).bind(branch).record(seconds)
            case "serves", (seconds, branch, trace_id):
                registry.histogram(WAIT).bind(branch).record_with_exemplar(seconds, trace_id, 1)
            case "reads", (name, value):
                registry.gauge(gauges[name]).bind().set(value)
            case "answers", ():
                return list(numbers(registry).items())
            case "exemplars", ():
                points = next(
                    family.points for family in registry.collect() if family.metric.name == WAIT.name
                )
                assert isinstance(points[0], HistogramPoint)
                return [x.trace_id if x else 0 for x in points[0].exemplars]
            case "scrape and die before removing", ():
                _die_at_remove()
                registry.collect()
        return None

    stream.write("null\n")
    stream.flush()
    for line in stream:
        try:
            answer = act(*json.loads(line))
        except Exception as error:
            answer = repr(error)
        stream.write(json.dumps(answer) + "\n")
        stream.flush()


def _die_at_remove() -> None:
    """From now on the process dies where it would remove a file: after the ledger is in place, before the end."""
    from restaurant_otel.metrics import folder

    folder.remove = lambda *_: os._exit(9)
