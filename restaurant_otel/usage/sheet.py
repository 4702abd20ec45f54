"""Where collectors write: each number goes into its cell, and what is not written any more vanishes.

So a disk that was pulled out, or a limit that was lifted, leaves no last value behind.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from restaurant_otel.catalog import Metric
from restaurant_otel.metrics import GaugeCell, Registry, Value

R = TypeVar("R", contravariant=True)


class Sheet:
    """The gauges and observed counters of one sampler. For one thread at a time.

    `now` is the monotonic time of this collection, in seconds.
    """

    def __init__(self, registry: Registry) -> None:
        self.now = 0.0
        self._registry = registry
        self._cells: dict[tuple[Metric, tuple[Value, ...]], _Entry] = {}
        self._round = 0

    def begin(self, now: float) -> None:
        """Begin a collection."""
        self.now = now
        self._round += 1

    def put(self, metric: Metric, value: float, *values: Value) -> None:
        """Write a gauge's or observed counter's number for these attribute values."""
        key = (metric, values)
        entry = self._cells.get(key)
        if entry is None:
            entry = self._cells[key] = _Entry(self._registry.gauge(metric).bind(*values))
        entry.cell.set(value)
        entry.round = self._round

    def put_if(self, metric: Metric, value: float | None, *values: Value) -> None:
        """The same where there is a number."""
        if value is not None:
            self.put(metric, value, *values)

    def end(self) -> None:
        """End a collection: take away what was not written in it."""
        for key, entry in list(self._cells.items()):
            if entry.round != self._round:
                entry.cell.clear()
                del self._cells[key]

    def clear(self) -> None:
        """Take everything away."""
        for entry in self._cells.values():
            entry.cell.clear()
        self._cells.clear()


class _Entry:
    __slots__ = ("cell", "round")

    def __init__(self, cell: GaugeCell) -> None:
        self.cell = cell
        self.round = 0


class Collector(Protocol[R]):
    """One subject. `R` is what it helps to fill: a `HostReading` or a `ProcessReading`."""

    def collect(self, sheet: Sheet, reading: R) -> None:
        """Read the subject off the system; write its metrics to `sheet`, and what trends need to `reading`.

        What cannot be read is left out. An exception costs this subject its numbers, and no other.
        """


class Rate:
    """What a total gained a second since the last look; None at the first, and when it went back."""

    __slots__ = ("_at", "_total")

    def __init__(self) -> None:
        self._at = 0.0
        self._total: float | None = None

    def of(self, total: float, now: float) -> float | None:
        """The rate until `now`, at which there are `total`."""
        before, seconds = self._total, now - self._at
        self._total, self._at = total, now
        return None if before is None or seconds <= 0 or total < before else (total - before) / seconds
