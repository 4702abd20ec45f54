"""How late event loops come to their timers: what every request on them waits for as well.

A probe is a timer that the loop itself holds, about once a second. It ends with the loop and keeps nothing alive. A
loop that is held up just now has not come to its timer at all; the sampler's thread sees that from outside. asyncio's
loops are watched, those that speak as they do (uvloop), and trio's.

The timers are of uneven length. A loop that is held up half a second at a time, again and again, comes to a timer only
in between: one of exactly a second, set in between, would be due in between again, and see next to nothing.
"""

from __future__ import annotations

import asyncio
import sys
from time import perf_counter
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary, ref

from restaurant_otel import catalog
from restaurant_otel.errors import survived
from restaurant_otel.metrics import HistogramCell, Registry
from restaurant_otel.usage.readings import ProcessReading
from restaurant_otel.usage.sheet import Sheet

SECONDS: Final = 1.0
"""Between two looks, on average. One costs a loop 40 us, most of it for waking up: 0.004 % of a core."""

_GOLDEN: Final = 0.6180339887498949
"""Multiples of it, modulo 1, are spread as evenly as can be, and fall in step with nothing."""


def running_loop() -> Any:
    """What runs in this thread: asyncio's loop, trio's token, or None. Can be the key of a weak dictionary."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        trio = sys.modules.get("trio")
        if trio is None:
            return None
    try:
        return trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None


class Lag:
    """The lags of one loop. Noted in the loop's thread, asked for from any."""

    def __init__(self, cell: HistogramCell, seconds: float) -> None:
        self._seconds = seconds
        self._cell = cell
        self._largest = 0.0
        self._phase = 0.0
        self._due = perf_counter() + seconds

    def expect(self) -> float:
        """How long the next timer is to be, from now on: half as long as usual, up to half as long again."""
        self._phase = (self._phase + _GOLDEN) % 1.0
        seconds = self._seconds * (0.5 + self._phase)
        self._due = perf_counter() + seconds
        return seconds

    def note(self) -> None:
        """The loop has come to the timer."""
        # Timers of loops are only exact to their clock's resolution, and may be a little early.
        late = max(0.0, perf_counter() - self._due)
        self._cell.record(late)
        self._largest = max(self._largest, late)

    def take_largest(self, runs: bool) -> float:
        """The largest since this was last asked, the one that lasts included if the loop still runs."""
        largest, self._largest = self._largest, 0.0
        return max(largest, perf_counter() - self._due) if runs else largest


class Probe(Protocol):
    """What looks at one loop."""

    def take_largest(self) -> float:
        """See `Lag.take_largest`. Any thread."""


class AsyncioProbe:
    """The timer of one of asyncio's loops, in whose thread it is made."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lag: Lag) -> None:
        self._loop = ref(loop)
        self._lag = lag
        loop.call_later(lag.expect(), self._tick)

    def _tick(self) -> None:
        self._lag.note()
        loop = self._loop()
        if loop is not None and not loop.is_closed():
            loop.call_later(self._lag.expect(), self._tick)

    def take_largest(self) -> float:
        """See `Probe`."""
        loop = self._loop()
        return self._lag.take_largest(loop is not None and loop.is_running())


class TrioProbe:
    """The timer of one run of trio, in whose thread it is made: a system task, which ends with the run."""

    def __init__(self, lag: Lag) -> None:
        self._lag = lag
        self._runs = True
        sys.modules["trio"].lowlevel.spawn_system_task(self._tick)

    async def _tick(self) -> None:
        trio: Any = sys.modules["trio"]
        try:
            while True:
                await trio.sleep(self._lag.expect())
                self._lag.note()
        except Exception as error:  # noqa: BLE001 - what a system task raises would end the app
            survived("resources", error)
        finally:
            self._runs = False

    def take_largest(self) -> float:
        """See `Probe`."""
        return self._lag.take_largest(self._runs)


class EventLoops:
    """Collects the largest lag of this worker's loops for its reading; the histogram is recorded by the probes."""

    def __init__(self, registry: Registry, seconds: float = SECONDS) -> None:
        self._lags = registry.histogram(catalog.EVENT_LOOP_LAG)
        self._seconds = seconds
        self._probes: WeakKeyDictionary[Any, Probe] = WeakKeyDictionary()

    def watch(self) -> None:
        """Look at the loop that runs in this thread, if one does."""
        loop = running_loop()
        if loop is not None and loop not in self._probes:
            lag = Lag(self._lags.bind(), self._seconds)
            like_asyncio = hasattr(loop, "call_later")
            self._probes[loop] = AsyncioProbe(loop, lag) if like_asyncio else TrioProbe(lag)

    def forget(self) -> None:
        """Forget all loops, after a fork: the child does not run its parent's."""
        self._probes = WeakKeyDictionary()

    def collect(self, sheet: Sheet, reading: ProcessReading) -> None:  # noqa: ARG002 - the shape of a collector
        """See `Collector`."""
        lags = [probe.take_largest() for probe in list(self._probes.values())]
        if lags:
            reading.event_loop_lag = max(0.0, *lags)
