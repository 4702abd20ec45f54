"""How late event loops come to their timers: what every request on them waits for as well.

A probe is a timer that the loop itself holds, once a second. It ends with the loop and keeps nothing alive. A loop
that is held up just now has not come to its timer at all; the sampler's thread sees that from outside.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Final
from weakref import WeakKeyDictionary, ref

from restaurant_otel import catalog
from restaurant_otel.metrics import HistogramCell, Registry
from restaurant_otel.usage.readings import ProcessReading
from restaurant_otel.usage.sheet import Sheet

SECONDS: Final = 1.0
"""Between two looks. One costs a loop 40 us, most of it for waking up: 0.004 % of a core."""


class Probe:
    """The timer of one loop. Lives in that loop's thread, but `overdue` may be asked from any."""

    def __init__(self, loop: asyncio.AbstractEventLoop, cell: HistogramCell, seconds: float) -> None:
        self._loop = ref(loop)
        self._cell = cell
        self._seconds = seconds
        self._largest = 0.0
        self._due = perf_counter() + seconds
        self._timer = loop.call_later(seconds, self._tick)

    def _tick(self) -> None:
        now = perf_counter()
        # Timers of loops are only exact to their clock's resolution, and may be a little early.
        late = max(0.0, now - self._due)
        self._cell.record(late)
        self._largest = max(self._largest, late)
        loop = self._loop()
        if loop is not None and not loop.is_closed():
            self._due = now + self._seconds
            self._timer = loop.call_later(self._seconds, self._tick)

    def stop(self) -> None:
        """Look no more. Only from the loop's own thread, or when it does not run."""
        self._timer.cancel()

    def take_largest(self) -> float:
        """The largest lag since this was last asked, the one that lasts included."""
        largest, self._largest = self._largest, 0.0
        loop = self._loop()
        if loop is not None and loop.is_running():
            largest = max(largest, perf_counter() - self._due)
        return largest


class EventLoops:
    """Collects the largest lag of this worker's loops for its reading; the histogram is recorded by the probes."""

    def __init__(self, registry: Registry, seconds: float = SECONDS) -> None:
        self._lags = registry.histogram(catalog.EVENT_LOOP_LAG)
        self._seconds = seconds
        self._probes: WeakKeyDictionary[asyncio.AbstractEventLoop, Probe] = WeakKeyDictionary()

    def watch(self) -> None:
        """Look at the loop that runs in this thread, if one does and it is asyncio's or speaks as it does."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if loop not in self._probes:
            self._probes[loop] = Probe(loop, self._lags.bind(), self._seconds)

    def forget(self) -> None:
        """Forget all loops, after a fork: the child does not run its parent's."""
        self._probes = WeakKeyDictionary()

    def collect(self, sheet: Sheet, reading: ProcessReading) -> None:  # noqa: ARG002 - the shape of a collector
        """See `Collector`."""
        lags = [probe.take_largest() for probe in list(self._probes.values())]
        if lags:
            reading.event_loop_lag = max(0.0, *lags)
