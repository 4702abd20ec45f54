"""How long an app's event loop is held up, by the project's own metric, where the app is looked at all the time.

The metric's usual probe looks once a second. An app of these tests has more of them, on its own loop and into the same
histogram (`watched`, its lifespan), so that a stall of a moment is seen. `Judge` compares a period of work with one
of rest in the same process, because a busy machine holds up any loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from restaurant_otel.metrics import registry
from restaurant_otel.usage.event_loop import EventLoops
from tests.support.readings import Readings, parse
from tests.support.servers import Server

NAME = "restaurant_event_loop_lag_seconds"

EVERY = 0.005
"""Seconds between two looks."""

GOAL = 0.010
"""What a request may be held up by work on the admin API."""

FAR = 0.100
"""What no busy machine excuses: work on the loop itself takes many times as long."""


@asynccontextmanager
async def watched(_: object) -> AsyncIterator[None]:
    """An app's lifespan in which its loop is looked at every `EVERY` seconds."""
    loops = EventLoops(registry(), EVERY)
    # Not before the app has started: the worker joins its siblings then.
    asyncio.get_running_loop().call_later(EVERY, loops.watch)
    yield


def read(server: Server) -> Readings:
    """What /metrics says of the lag; the rest of a large app's text would take seconds to read."""
    text = server.get("/metrics").text
    return parse("\n".join(line for line in text.splitlines() if NAME in line) + "\n")


def worst(readings: Readings) -> float:
    """The bucket's bound that no lag was above; infinity beyond the last."""
    count = readings.total(f"{NAME}_count")
    assert count, "no lag was recorded"
    bounds = sorted(readings.labels(f"{NAME}_bucket", "le"), key=float)
    return next(float(bound) for bound in bounds if readings.total(f"{NAME}_bucket", le=bound) >= count)


class Judge:
    """Judges some work on `server` by its loop's lag: see `verdict`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.at_work: list[float] = []
        self.at_rest: list[float] = []

    def allows(self, work: Callable[[], object]) -> bool:
        """Do the work, then rest as long. Whether nothing was held up for longer than `GOAL`, or than at rest."""
        before = read(self._server)
        began = time.monotonic()
        work()
        seconds = time.monotonic() - began
        between = read(self._server)
        time.sleep(max(0.5, min(5.0, seconds)))
        after = read(self._server)
        self.at_work.append(worst(between - before))
        self.at_rest.append(worst(after - between))
        return self.at_work[-1] <= max(GOAL, self.at_rest[-1])

    def verdict(self, work: Callable[[], object], tries: int) -> None:
        """One good period of `tries` will do. Without one: where the loop at rest was late as well, up to `FAR`.

        Prints what it has gone by, which ``pytest -rP`` shows of tests that pass.
        """
        good = any(self.allows(work) for _ in range(tries))
        told = f"lag at most {_list(self.at_work)} at work, {_list(self.at_rest)} at rest"
        why = f"above {_list([GOAL])} at rest too"
        if good:
            why = f"within {_list([GOAL])}" if self.at_work[-1] <= GOAL else "no more than at rest"
        print(f"{told}: {why}")  # noqa: T201
        if not good:
            assert min(self.at_work) <= FAR, told
            assert max(self.at_rest) > GOAL / 4, told


def _list(seconds: list[float]) -> str:
    return ", ".join(f"{one * 1000:g}" for one in seconds) + " ms"
