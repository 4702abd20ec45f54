"""The garbage collector of this worker: how often it ran, what it freed, and for how long it held everything up."""

from __future__ import annotations

import gc
from time import perf_counter
from typing import Any

from restaurant_otel import catalog
from restaurant_otel.metrics import HistogramCell, Registry
from restaurant_otel.usage.readings import ProcessReading
from restaurant_otel.usage.sheet import Sheet


class Garbage:
    """Collects what the garbage collector counts itself; its pauses are recorded as they happen."""

    def __init__(self, registry: Registry) -> None:
        self._histogram = registry.histogram(catalog.GC_PAUSE_DURATION)
        self._pauses: list[HistogramCell] = []
        self._began = 0.0

    def start(self) -> None:
        """Begin to time the collector."""
        self._pauses = [self._histogram.bind(str(generation)) for generation in range(len(gc.get_stats()))]
        if self._timed not in gc.callbacks:
            gc.callbacks.append(self._timed)

    def stop(self) -> None:
        """Time it no longer."""
        if self._timed in gc.callbacks:
            gc.callbacks.remove(self._timed)

    def _timed(self, phase: str, told: dict[str, Any]) -> None:
        # Runs inside the collector, which never runs inside itself: 0.5 us a run, where a run takes 5 at least.
        if phase == "start":
            self._began = perf_counter()
        elif self._began:
            self._pauses[told["generation"]].record(perf_counter() - self._began)
            self._began = 0.0

    def collect(self, sheet: Sheet, reading: ProcessReading) -> None:  # noqa: ARG002 - the shape of a collector
        """See `Collector`."""
        for number, told in enumerate(gc.get_stats()):
            generation = str(number)
            sheet.put(catalog.GC_COLLECTIONS, told["collections"], generation)
            sheet.put(catalog.GC_COLLECTED, told["collected"], generation)
            sheet.put(catalog.GC_UNCOLLECTABLE, told["uncollectable"], generation)
