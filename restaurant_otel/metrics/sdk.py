"""The host app's own OpenTelemetry instruments, joined with ours so that workers add up for them too.

Where we own the meter provider, `MirrorReader` is one of its readers: it pulls what the SDK has counted
and writes it, as absolute values, into cells of the registry. From there those numbers go the way of our
own: over workers, into the exposition. They are as fresh as the last pull: the worker that answers a
scrape pulls before it, the others every few seconds. For the way to a collector see `otlp`.

Not shown: exponential histograms, and metrics that bear a name of our catalogue (contrib's
instrumentation beside ours), which would be counted twice.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from operator import add, sub
from typing import Any, Final, TypeAlias

from opentelemetry.sdk.metrics.export import (
    DataPointT,
    Gauge,
    Histogram,
    HistogramDataPoint,
    MetricReader,
    MetricsData,
    NumberDataPoint,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as SdkMetric

from restaurant_otel import catalog, errors, forks
from restaurant_otel.catalog import Across, Kind, Metric
from restaurant_otel.metrics import CounterCell, GaugeCell, HistogramCell, Registry, Value
from restaurant_otel.metrics.ticker import Ticker

OURS: Final = frozenset(metric.name for metric in catalog.METRICS)
"""Names under which we count; an SDK instrument that has one is neither shown nor sent."""

_SECONDS: Final = 5.0
_PATIENCE: Final = 1.0
_MOST_METRICS: Final = 1000
"""Each set of attribute names makes another metric here, and an app may invent those without end."""


_SCOPE: Final = "otel.scope.name"


def is_mirrored(metric: Metric) -> bool:
    """Whether `metric` was made here, in this process or another. A push has the instrument itself."""
    return metric.attributes[:1] == (_SCOPE,)


_Cell: TypeAlias = CounterCell | GaugeCell | HistogramCell
_Series: TypeAlias = tuple[Metric, tuple[Value, ...]]
_Amount: TypeAlias = tuple[float, ...]
"""A number alone, or a histogram's sum and then its counts: either way amounts add up place by place."""


class MirrorReader(MetricReader):
    """Copies the instruments of a meter provider into `registry`.

    `mirror` may be called from any thread. It also happens every `seconds`, in a daemon thread, from `start` until
    the provider is shut down. Forked children go on by themselves, without what their parent had counted.
    """

    def __init__(self, registry: Registry, seconds: float = _SECONDS) -> None:
        super().__init__()
        self._registry = registry
        self._lock = threading.RLock()
        self._held = False
        self._mirrored: dict[tuple[Any, ...], Metric] = {}
        self._told: set[str] = set()
        self._pulled: dict[_Series, _Amount] = {}
        self._inherited: dict[_Series, _Amount] = {}
        self._passing: set[CounterCell | GaugeCell] = set()
        self._ticker = Ticker("restaurant-otel-mirror", seconds, self.mirror)

    def start(self) -> None:
        """Begin, once a provider has this reader: until then the SDK warns of each attempt to collect."""
        forks.follow(
            before=self._before_fork, in_parent=self._after_fork_in_parent, in_child=self._after_fork_in_child
        )
        self._ticker.start()

    def mirror(self) -> None:
        """Pull the instruments' values and write them into the registry's cells. Never raises.

        While a callback of the host app hangs in another thread, this gives up after a second.
        """
        if not self._lock.acquire(timeout=_PATIENCE):
            return
        try:
            self._pull()
            self._write()
        except Exception as error:  # noqa: BLE001 - callbacks of the host app run in here
            errors.survived("mirror", error)
        finally:
            self._lock.release()

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:  # noqa: ARG002
        """Mirror for the last time. The provider calls this when it is shut down."""
        self._ticker.stop(min(timeout_millis / 1000, _SECONDS))
        self.mirror()

    # --- from the SDK ---

    def _pull(self, timeout_millis: float = 10_000) -> None:
        self._pulled = {}
        self.collect(timeout_millis)

    def _receive_metrics(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = 10_000,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        self._pulled = dict(self._read(metrics_data))

    def _read(self, data: MetricsData) -> Iterator[tuple[_Series, _Amount]]:
        for of_resource in data.resource_metrics:
            for of_scope in of_resource.scope_metrics:
                for sdk_metric in of_scope.metrics:
                    kind = _kind(sdk_metric)
                    if kind is None:
                        self._leave_out(f"SDK metric {sdk_metric.name}: exponential histograms are not shown")
                    elif sdk_metric.name not in OURS:
                        yield from self._read_points(of_scope.scope.name, sdk_metric, kind)

    def _read_points(
        self, scope: str, sdk_metric: SdkMetric, kind: Kind
    ) -> Iterator[tuple[_Series, _Amount]]:
        for point in sdk_metric.data.data_points:
            attributes = dict(point.attributes or {})
            names = tuple(sorted(attributes))
            metric = self._metric(sdk_metric, kind, names, _bounds(point))
            if metric is not None:
                # The scope's name keeps apart what two libraries count under one name.
                values = (scope, *(_attribute(attributes[name]) for name in names))
                yield (metric, values), _amount(point)

    def _metric(
        self, sdk_metric: SdkMetric, kind: Kind, names: tuple[str, ...], bounds: tuple[float, ...]
    ) -> Metric | None:
        unit = sdk_metric.unit or ""
        key = (sdk_metric.name, unit, kind, names, bounds)
        metric = self._mirrored.get(key)
        if metric is None:
            if len(self._mirrored) >= _MOST_METRICS:
                self._leave_out(f"SDK metric {sdk_metric.name}: there are {_MOST_METRICS} others")
                return None
            # What a gauge of the host app means over workers nobody can know: one series each.
            across = Across.PER_WORKER if kind is Kind.GAUGE else Across.SUM
            attributes = (_SCOPE, *names)
            help_text = sdk_metric.description or ""
            metric = Metric(sdk_metric.name, unit, kind, help_text, attributes, bounds, across)
            self._mirrored[key] = metric
        return metric

    def _leave_out(self, what: str) -> None:
        if what not in self._told and len(self._told) < _MOST_METRICS:
            self._told.add(what)
            errors.survived("mirror", ValueError(f"left out: {what}"))

    # --- to the registry ---

    def _write(self) -> None:
        amounts: dict[_Cell, _Amount] = {}
        passing: set[CounterCell | GaugeCell] = set()
        for series, amount in self._pulled.items():
            metric, values = series
            cell = self._bind(metric, values)
            if isinstance(cell, GaugeCell):
                amounts[cell] = amount
                passing.add(cell)
                continue
            amount = _since_fork(amount, self._inherited.get(series), metric.kind)
            # Sets beyond the limit of a metric share a cell.
            amounts[cell] = tuple(map(add, amounts[cell], amount)) if cell in amounts else amount
            if metric.kind is Kind.UP_DOWN_COUNTER:
                passing.add(cell)  # type: ignore[arg-type]  # the cell of an up-down counter is a CounterCell
        for cell, amount in amounts.items():
            _set(cell, amount)
        for cell in self._passing - passing:  # an observable instrument tells it no more
            cell.clear() if isinstance(cell, GaugeCell) else cell.replace(0.0)
        self._passing = passing

    def _bind(self, metric: Metric, values: tuple[Value, ...]) -> _Cell:
        if metric.kind is Kind.HISTOGRAM:
            return self._registry.histogram(metric).bind(*values)
        if metric.kind is Kind.GAUGE:
            return self._registry.gauge(metric).bind(*values)
        return self._registry.counter(metric).bind(*values)

    # --- forks ---

    def _before_fork(self) -> None:
        """Note what was counted so far, for the child to leave out."""
        # While we hold our lock, no thread of ours is inside the SDK, where it would hold locks that a
        # child could never get.
        self._held = self._lock.acquire(timeout=_PATIENCE)
        if self._held:
            try:
                self._pull(timeout_millis=1000)
            except Exception as error:  # noqa: BLE001 - callbacks of the host app run in here
                errors.survived("mirror", error)

    def _after_fork_in_parent(self) -> None:
        if self._held:
            self._lock.release()

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        self._inherited = self._pulled
        self._passing = set()


# --- one point ---------------------------------------------------------------------------------------


def _kind(metric: SdkMetric) -> Kind | None:
    data = metric.data
    if isinstance(data, Sum):
        return Kind.COUNTER if data.is_monotonic else Kind.UP_DOWN_COUNTER
    if isinstance(data, Gauge):
        return Kind.GAUGE
    return Kind.HISTOGRAM if isinstance(data, Histogram) else None


def _bounds(point: DataPointT) -> tuple[float, ...]:
    return tuple(point.explicit_bounds) if isinstance(point, HistogramDataPoint) else ()


def _amount(point: DataPointT) -> _Amount:
    if isinstance(point, HistogramDataPoint):
        return (point.sum, *point.bucket_counts)
    assert isinstance(point, NumberDataPoint)  # noqa: S101 - `_kind` has told the third sort apart
    return (point.value,)


def _attribute(value: Any) -> Value:
    if isinstance(value, str | bool | int | float):
        return value
    return json.dumps(value, default=str)


def _since_fork(amount: _Amount, inherited: _Amount | None, kind: Kind) -> _Amount:
    if inherited is None:
        return amount
    rest = tuple(map(sub, amount, inherited))
    if kind is not Kind.UP_DOWN_COUNTER and min(rest[1:] or rest) < 0:
        return amount  # an observable that began anew in the child, such as its CPU time
    return rest


def _set(cell: _Cell, amount: _Amount) -> None:
    if isinstance(cell, HistogramCell):
        cell.replace([int(count) for count in amount[1:]], amount[0])
    elif isinstance(cell, GaugeCell):
        cell.set(amount[0])
    else:
        cell.replace(amount[0])
