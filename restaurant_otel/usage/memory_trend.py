"""The memory of this worker over time, and the verdict on it. The rule itself is in `leaks`."""

from __future__ import annotations

from collections.abc import Callable

from restaurant_otel import catalog
from restaurant_otel.usage.leaks import LeakWatch
from restaurant_otel.usage.readings import ProcessReading
from restaurant_otel.usage.sheet import Sheet


class MemoryTrend:
    """Collects the leak's figures. Runs after `process`, whose memory it takes.

    `room` tells the limit on memory, and how much is left until it, both in bytes; None where nobody knows.
    """

    def __init__(self, born: float, room: Callable[[], tuple[float, float] | None]) -> None:
        self._watch = LeakWatch(born)
        self._room = room

    def collect(self, sheet: Sheet, reading: ProcessReading) -> None:
        """See `Collector`."""
        room = self._room()
        if reading.memory is None or room is None:
            return
        verdict = self._watch.add(sheet.now, reading.memory, *room)
        reading.leak_slope, reading.leak_suspected = verdict.slope, verdict.suspected
        reading.time_to_limit = verdict.time_to_limit
        sheet.put_if(catalog.MEMORY_LEAK_SLOPE, verdict.slope)
        sheet.put(catalog.MEMORY_LEAK_SUSPECTED, float(verdict.suspected))
        sheet.put_if(catalog.MEMORY_LEAK_TIME_TO_LIMIT, verdict.time_to_limit)
