"""First, in-memory form of the registry; the contract is its public names."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from typing import Any, Generic, TypeVar

from restaurant_otel.catalog import Kind, Metric
from restaurant_otel.metrics.points import Exemplar, Family, HistogramPoint, NumberPoint, Value


class CounterCell:
    """A counter's or up-down counter's number for one attribute set."""

    __slots__ = ("_value",)

    def __init__(self) -> None:
        self._value = 0.0

    def add(self, amount: float = 1) -> None:
        """Add `amount` (negative for an up-down counter only)."""
        self._value += amount


class GaugeCell:
    """A gauge's number for one attribute set."""

    __slots__ = ("_value",)

    def __init__(self) -> None:
        self._value = float("nan")

    def set(self, value: float) -> None:
        """Replace the reading."""
        self._value = value

    def clear(self) -> None:
        """Take the reading away: the series vanishes until the next `set`."""
        self._value = float("nan")


class HistogramCell:
    """A histogram for one attribute set."""

    __slots__ = ("_bounds", "_counts", "_exemplars", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._exemplars: list[Exemplar | None] = [None] * (len(bounds) + 1)
        self._sum = 0.0

    def record(self, value: float) -> None:
        """Count `value`."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def record_with_exemplar(self, value: float, trace_id: int, span_id: int) -> None:
        """Count `value` and remember it as the bucket's exemplar."""
        index = bisect_left(self._bounds, value)
        self._counts[index] += 1
        self._sum += value
        self._exemplars[index] = Exemplar(value, time.time(), trace_id, span_id)


C = TypeVar("C", CounterCell, GaugeCell, HistogramCell)


class Instrument(Generic[C]):
    """One metric of the registry; `bind` gives the cell of an attribute set."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self._lock = threading.Lock()
        self._cells: dict[tuple[Value, ...], C] = {}

    def bind(self, *values: Value) -> C:
        """The cell for `values`, which go with `metric.attributes` in order (None: attribute absent)."""
        cell = self._cells.get(values)
        if cell is None:
            with self._lock:
                cell = self._cells.setdefault(values, self._make())
        return cell

    def _make(self) -> Any:
        if self.metric.kind is Kind.HISTOGRAM:
            return HistogramCell(self.metric.bounds)
        return GaugeCell() if self.metric.kind is Kind.GAUGE else CounterCell()


class Registry:
    """All instruments of a process."""

    def __init__(self) -> None:
        self._instruments: dict[str, Instrument[Any]] = {}
        self.attached = True

    def counter(self, metric: Metric) -> Instrument[CounterCell]:
        """The instrument of a counter or up-down counter."""
        return self._instruments.setdefault(metric.name, Instrument(metric))

    def gauge(self, metric: Metric) -> Instrument[GaugeCell]:
        """The instrument of a gauge."""
        return self._instruments.setdefault(metric.name, Instrument(metric))

    def histogram(self, metric: Metric) -> Instrument[HistogramCell]:
        """The instrument of a histogram."""
        return self._instruments.setdefault(metric.name, Instrument(metric))

    def attach(self) -> None:
        """Join the numbers of this process with its siblings'."""

    def collect(self) -> list[Family]:
        """All points."""
        families = []
        for instrument in self._instruments.values():
            family = Family(instrument.metric)
            for values, cell in instrument._cells.items():
                if isinstance(cell, HistogramCell):
                    family.points.append(HistogramPoint(values, list(cell._counts), cell._sum, list(cell._exemplars)))
                else:
                    family.points.append(NumberPoint(values, cell._value))
            families.append(family)
        return families


_registry: Registry | None = None


def registry() -> Registry:
    """The process's registry, made at the first call."""
    global _registry
    if _registry is None:
        _registry = Registry()
    return _registry
