"""Cells that also speak to the host app's own metrics pipeline, through OpenTelemetry's public API.

Where the app has set a meter provider its pipeline must show the same numbers as `/metrics`, so `Instrument.bind`
gives out these instead of plain cells after `Registry.use_meter`. They cost what the API's instruments cost; an
app with no provider of its own pays nothing for them. Whatever the app's instruments raise is survived.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from restaurant_otel.catalog import Kind, Metric
from restaurant_otel.metrics.cells import CounterCell, GaugeCell, HistogramCell
from restaurant_otel.metrics.layout import Key
from restaurant_otel.metrics.points import Value

Attributes = dict[str, Value]

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class Outlet:
    """A metric's instrument in the app's pipeline, made at the first measurement and not before.

    A mirrored metric, which is only ever replaced, so never meets itself in the pipeline it came from.
    """

    def __init__(self, meter: Meter, metric: Metric) -> None:
        self._meter = meter
        self._metric = metric
        self._instrument: Any = None
        self._observed: list[tuple[GaugeCell, Attributes]] = []
        self._shown = False

    def instrument(self) -> Any:
        """The API's instrument."""
        if self._instrument is None:
            self._instrument = _create(self._meter, self._metric, self._observe)
        return self._instrument

    def _observe(self, _: CallbackOptions) -> list[Observation]:
        """The totals of an observed counter: the API asks for these itself."""
        readings = [(cell.reading(), attributes) for cell, attributes in self._observed]
        return [Observation(total, attributes) for total, attributes in readings if total is not None]

    def attributes(self, key: Key) -> Attributes:
        """Attribute values as the API takes them."""
        if key is None:
            return {"otel.metric.overflow": True}
        pairs = zip(self._metric.attributes, key, strict=True)
        return {name: value for name, value in pairs if value is not None}

    def is_to_be_shown(self) -> bool:
        """True once, for an observed counter: nobody measures with it, so its instrument is not made on the way."""
        first, self._shown = not self._shown, True
        return first and self._metric.kind is Kind.OBSERVED_COUNTER

    def show(self) -> None:
        """Make the instrument. Calls the app's pipeline, where a fork may have left a lock that nobody gives back."""
        try:
            self.instrument()
        except Exception as error:  # noqa: BLE001 - the app's own pipeline
            _survived(error)

    def tee(self, cell: Any, key: Key) -> Any:
        """A cell that writes to `cell` and here. Calls nothing of the app's: the registry holds its lock."""
        if self._metric.kind is Kind.OBSERVED_COUNTER:
            self._observed.append((cell, self.attributes(key)))
            return cell
        kind = {CounterCell: TeeCounter, GaugeCell: TeeGauge, HistogramCell: TeeHistogram}
        made = next(tee for plain, tee in kind.items() if isinstance(cell, plain))
        return made(cell, self, self.attributes(key))


def _create(meter: Meter, metric: Metric, observe: Callable[[CallbackOptions], list[Observation]]) -> Any:
    if metric.kind is Kind.HISTOGRAM:
        return meter.create_histogram(
            metric.name, metric.unit, metric.help, explicit_bucket_boundaries_advisory=metric.bounds
        )
    if metric.kind is Kind.GAUGE:
        return meter.create_gauge(metric.name, metric.unit, metric.help)
    if metric.kind is Kind.UP_DOWN_COUNTER:
        return meter.create_up_down_counter(metric.name, metric.unit, metric.help)
    if metric.kind is Kind.OBSERVED_COUNTER:
        return meter.create_observable_counter(metric.name, [observe], metric.unit, metric.help)
    return meter.create_counter(metric.name, metric.unit, metric.help)


def _survived(error: Exception) -> None:
    from restaurant_otel.errors import survived  # not above: that module needs this package

    survived("meter", error)


class TeeCounter(CounterCell):
    """A counter or up-down counter that the app's pipeline gets too."""

    __slots__ = ("_attributes", "_cell", "_outlet")

    def __init__(self, cell: CounterCell, outlet: Outlet, attributes: Attributes) -> None:
        super().__init__(cell.block, cell.at)
        self._cell = cell
        self._outlet = outlet
        self._attributes = attributes

    def add(self, amount: float = 1) -> None:
        """Add `amount`."""
        self._cell.add(amount)
        try:
            self._outlet.instrument().add(amount, self._attributes)
        except Exception as error:  # noqa: BLE001 - the app's own pipeline
            _survived(error)

    def replace(self, value: float) -> None:
        """Set the total, of the cell only."""
        self._cell.replace(value)


class TeeGauge(GaugeCell):
    """A gauge that the app's pipeline gets too. The API knows no way to take a reading away."""

    __slots__ = ("_attributes", "_cell", "_outlet")

    def __init__(self, cell: GaugeCell, outlet: Outlet, attributes: Attributes) -> None:
        super().__init__(cell.block, cell.at)
        self._cell = cell
        self._outlet = outlet
        self._attributes = attributes

    def set(self, value: float) -> None:
        """Replace the reading."""
        self._cell.set(value)
        try:
            self._outlet.instrument().set(value, self._attributes)
        except Exception as error:  # noqa: BLE001 - the app's own pipeline
            _survived(error)

    def clear(self) -> None:
        """Take the reading away, from the cell only."""
        self._cell.clear()


class TeeHistogram(HistogramCell):
    """A histogram that the app's pipeline gets too."""

    __slots__ = ("_attributes", "_cell", "_outlet")

    def __init__(self, cell: HistogramCell, outlet: Outlet, attributes: Attributes) -> None:
        super().__init__(cell.block, cell.at, cell.bounds)
        self._cell = cell
        self._outlet = outlet
        self._attributes = attributes

    def record(self, value: float) -> None:
        """Count `value`."""
        self._cell.record(value)
        try:
            self._outlet.instrument().record(value, self._attributes)
        except Exception as error:  # noqa: BLE001 - the app's own pipeline
            _survived(error)

    def record_with_exemplar(self, value: float, trace_id: int, span_id: int) -> None:
        """Count `value` and offer it as an exemplar, with a context that names the span."""
        self._cell.record_with_exemplar(value, trace_id, span_id)
        try:
            span = NonRecordingSpan(SpanContext(trace_id, span_id, is_remote=False, trace_flags=_SAMPLED))
            self._outlet.instrument().record(value, self._attributes, set_span_in_context(span))
        except Exception as error:  # noqa: BLE001 - the app's own pipeline
            _survived(error)

    def replace(self, counts: list[int], total: float) -> None:
        """Set counts and sum, of the cell only."""
        self._cell.replace(counts, total)
