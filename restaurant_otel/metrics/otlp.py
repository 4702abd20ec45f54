"""Our points as OpenTelemetry's own metric data, pushed to a collector together with the host app's.

`to_metrics_data` turns points into the SDK's data classes. `build_metric_reader` makes the reader that
pushes, at an interval, the instruments of the SDK and the cells of this process: one request, through one
exporter. Each worker pushes for itself, and adding up is the collector's business. Exporters are made
elsewhere, see `telemetry`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.metrics import Counter, Exemplar, ObservableCounter, UpDownCounter
from opentelemetry.sdk.metrics import Histogram as HistogramInstrument
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    MetricExporter,
    MetricExportResult,
    MetricReader,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as SdkMetric
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from restaurant_otel import catalog, errors, forks, identity
from restaurant_otel._version import __version__
from restaurant_otel.catalog import Kind, Metric
from restaurant_otel.metrics import Family, HistogramPoint, NumberPoint, Point, Registry, Value
from restaurant_otel.metrics.sdk import OURS, is_mirrored
from restaurant_otel.metrics.ticker import Ticker

logger = logging.getLogger(__name__)

SCHEMA: Final = "https://opentelemetry.io/schemas/1.29.0"
SCOPE: Final = InstrumentationScope("restaurant_otel", __version__, SCHEMA)

# --- points as the SDK's data classes ----------------------------------------------------------------


def to_metrics_data(
    families: Iterable[Family],
    resource: Resource,
    scope: InstrumentationScope = SCOPE,
    *,
    delta: Collection[Kind] = (),
    since: float = 0.0,
) -> MetricsData:
    """`families` of one process as the SDK's `MetricsData`.

    Points of the kinds in `delta` are marked as differences; `difference` makes them so. Of exemplars,
    those measured at `since` (seconds since the epoch) or earlier are left out. Families of one name become
    one metric. Any thread.
    """
    now = time.time_ns()
    by_metric: dict[tuple[str, str, Kind], list[Family]] = {}
    for family in families:
        if family.points:
            metric = family.metric
            by_metric.setdefault((metric.name, metric.unit, metric.kind), []).append(family)
    metrics = [_metric(same, delta, since, now) for same in by_metric.values()]
    metrics = [metric for metric in metrics if metric.data.data_points]
    scopes = [ScopeMetrics(scope, metrics, scope.schema_url or "")] if metrics else []
    return MetricsData([ResourceMetrics(resource, scopes, resource.schema_url)] if scopes else [])


def _metric(families: list[Family], delta: Collection[Kind], since: float, now: int) -> SdkMetric:
    metric = families[0].metric
    temporality = AggregationTemporality.DELTA if metric.kind in delta else AggregationTemporality.CUMULATIVE
    data: Sum | Gauge | Histogram
    if metric.kind is Kind.HISTOGRAM:
        data = Histogram(
            [
                _histogram(family.metric, point, since, now)
                for family in families
                for point in family.points
                if isinstance(point, HistogramPoint)
            ],
            temporality,
        )
    else:
        numbers = [
            NumberDataPoint(_attributes(family.metric, point), int(point.start * 1e9), now, point.value)
            for family in families
            for point in family.points
            if isinstance(point, NumberPoint) and point.value == point.value  # NaN: a reading taken away
        ]
        data = Gauge(numbers)
        if metric.kind is not Kind.GAUGE:
            data = Sum(numbers, temporality, is_monotonic=metric.kind is not Kind.UP_DOWN_COUNTER)
    return SdkMetric(metric.name, metric.help, metric.unit, data)


def _histogram(metric: Metric, point: HistogramPoint, since: float, now: int) -> HistogramDataPoint:
    attributes = _attributes(metric, point)
    exemplars = [
        Exemplar({}, held.value, int(held.timestamp * 1e9), held.span_id, held.trace_id)
        for held in point.exemplars
        if held is not None and held.timestamp > since
    ]
    return HistogramDataPoint(
        attributes=attributes,
        start_time_unix_nano=int(point.start * 1e9),
        time_unix_nano=now,
        count=point.count,
        sum=point.sum,
        bucket_counts=point.counts,
        explicit_bounds=metric.bounds,
        min=None,  # type: ignore[arg-type]  # optional in the protocol, and cells do not keep them
        max=None,  # type: ignore[arg-type]
        exemplars=exemplars,
    )


def _attributes(metric: Metric, point: Point) -> dict[str, str | bool | int | float]:
    if point.overflow:
        return {"otel.metric.overflow": True}
    pairs = zip(metric.attributes, point.values, strict=True)
    return {name: value for name, value in pairs if value is not None}


# --- differences -------------------------------------------------------------------------------------

Key: TypeAlias = tuple[str, tuple[str, ...], tuple[Value, ...], bool]
"""A series: its metric's name and attributes, its values, and whether it is the overflow set."""

Snapshot: TypeAlias = dict[Key, Point]
"""Points as they were."""


def _key(metric: Metric, point: Point) -> Key:
    return (metric.name, metric.attributes, point.values, point.overflow)


def snapshot(families: Iterable[Family], kinds: Collection[Kind]) -> Snapshot:
    """The points of `kinds`, to be subtracted later."""
    return {
        _key(family.metric, point): point
        for family in families
        if family.metric.kind in kinds
        for point in family.points
    }


def difference(
    families: Iterable[Family], before: Snapshot, kinds: Collection[Kind], start: float
) -> Iterator[Family]:
    """`families` where points of `kinds` tell what was added since `before`, at `start` (seconds).

    Points to which nothing was added are left out; other kinds pass as they are.
    """
    for family in families:
        if family.metric.kind not in kinds:
            yield family
            continue
        added = []
        for point in family.points:
            then = before.get(_key(family.metric, point))
            if then is None and family.metric.kind is Kind.OBSERVED_COUNTER:
                continue  # all that was counted before anybody looked was not added just now
            rest = _minus(point, then, start)
            if rest is not None:
                added.append(rest)
        yield Family(family.metric, added)


def _minus(point: Point, before: Point | None, start: float) -> Point | None:
    if isinstance(point, HistogramPoint):
        counts, total = point.counts, point.sum
        if isinstance(before, HistogramPoint) and before.count <= point.count:
            counts = [now - then for now, then in zip(counts, before.counts, strict=True)]
            total -= before.sum
        return replace(point, counts=counts, sum=total, start=start) if any(counts) else None
    value = point.value - before.value if isinstance(before, NumberPoint) else point.value
    return replace(point, value=value, start=start) if value else None


# --- the push ----------------------------------------------------------------------------------------

EXIT_SECONDS: Final = 2.0
"""How long the last push may hold up the end of the process."""

_INSTRUMENTS: Final[Mapping[Kind, type]] = {
    Kind.COUNTER: Counter,
    Kind.OBSERVED_COUNTER: ObservableCounter,
    Kind.UP_DOWN_COUNTER: UpDownCounter,
    Kind.HISTOGRAM: HistogramInstrument,
}


def build_metric_reader(
    exporter: MetricExporter,
    registry: Registry,
    resource: Resource,
    interval_millis: float | None = None,
    timeout_millis: float | None = None,
) -> PushReader:
    """A reader for a meter provider of ours, which pushes the provider's metrics and the registry's once started.

    Interval and timeout are by default those of ``OTEL_METRIC_EXPORT_INTERVAL`` and
    ``OTEL_METRIC_EXPORT_TIMEOUT``, in milliseconds; cumulative or delta is what the exporter prefers, which
    takes it from ``OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE``.
    """
    interval = interval_millis or _milliseconds("OTEL_METRIC_EXPORT_INTERVAL", 60_000)
    timeout = timeout_millis or _milliseconds("OTEL_METRIC_EXPORT_TIMEOUT", 30_000)
    return PushReader(exporter, registry, resource, interval / 1000, timeout / 1000)


def _milliseconds(variable: str, default: float) -> float:
    text = os.environ.get(variable, "").strip()
    try:
        value = float(text or default)
    except ValueError:
        value = 0.0
    if value > 0:
        return value
    logger.warning("%s=%s is not a number above 0; %s is used", variable, text, default)
    return default


class PushReader(MetricReader):
    """Pushes every `interval` seconds from `start` on, from a daemon thread that forked children have as well.

    A push that fails is counted and logged by the exporter. Nothing piles up: the next one carries the
    totals again or, with deltas, what has been added since the last success.
    """

    def __init__(
        self,
        exporter: MetricExporter,
        registry: Registry,
        resource: Resource,
        interval: float,
        timeout: float,
    ) -> None:
        # The SDK has no public way to ask an exporter what it prefers; its own reader reads these too.
        temporality = getattr(exporter, "_preferred_temporality", None)
        super().__init__(temporality, getattr(exporter, "_preferred_aggregation", None))
        self._exporter = exporter
        self._registry = registry
        self._resource = resource
        self._timeout = timeout
        preferred = temporality or {}
        self._delta = tuple(
            kind
            for kind, instrument in _INSTRUMENTS.items()
            if preferred.get(instrument) is AggregationTemporality.DELTA
        )
        self._forked = False
        self._held = False
        self._start_over()
        forks.follow(before=self._before_fork, in_parent=self._in_parent, in_child=self._in_child)
        self._ticker = Ticker("restaurant-otel-push", interval, self._push)

    def start(self) -> None:
        """Begin, once a provider has this reader: until then the SDK warns of each attempt to collect."""
        self._ticker.start()

    def _start_over(self) -> None:
        self._pushing = threading.Lock()
        self._pulling = threading.Lock()
        self._from_sdk: MetricsData | None = None
        self._sent: Snapshot = {}
        self._sent_at = time.time()

    def _before_fork(self) -> None:
        # So that our thread is not inside the SDK, holding a lock there that the child could never get.
        self._held = self._pulling.acquire(timeout=1.0)

    def _in_parent(self) -> None:
        if self._held:
            self._pulling.release()

    def _in_child(self) -> None:
        self._start_over()
        self._forked = True

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Push now; False if that takes longer than `timeout_millis`."""
        flusher = threading.Thread(target=self._push, name="restaurant-otel-flush", daemon=True)
        flusher.start()
        flusher.join(timeout_millis / 1000)
        return not flusher.is_alive()

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:  # noqa: ARG002
        """Push for the last time, in `EXIT_SECONDS` at most. The provider calls this when it is shut down."""
        self._ticker.stop(min(timeout_millis / 1000, EXIT_SECONDS))
        try:
            self._exporter.shutdown(timeout_millis=1000)
        except Exception as error:  # noqa: BLE001 - an exporter is other people's code
            errors.survived("metrics export", error)

    def _receive_metrics(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = 10_000,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        self._from_sdk = metrics_data

    def _push(self) -> None:
        with self._pushing:
            if self._forked:
                self._resource, self._forked = _of_this_process(self._resource), False
            now = time.time()
            families = self._own_families()
            added = difference(families, self._sent, self._delta, self._sent_at)
            own = to_metrics_data(added, self._resource, delta=self._delta, since=self._sent_at)
            data = _joined(self._pull(), own, self._resource)
            points = _count(data)
            if not points:
                return
            if self._export(data):
                self._sent, self._sent_at = snapshot(families, self._delta), now
            else:
                self._registry.counter(catalog.TELEMETRY_METRICS_DROPPED).bind().add(points)

    def _own_families(self) -> list[Family]:
        return [family for family in self._registry.collect_own() if not is_mirrored(family.metric)]

    def _pull(self) -> MetricsData | None:
        with self._pulling:
            self._from_sdk = None
            try:
                self.collect(self._timeout * 1000)
            except Exception as error:  # noqa: BLE001 - callbacks of the host app run in here
                errors.survived("metrics export", error)
            return self._from_sdk

    def _export(self, data: MetricsData) -> bool:
        try:
            with suppress_instrumentation():
                result = self._exporter.export(data, timeout_millis=self._timeout * 1000)
        except Exception as error:  # noqa: BLE001 - an exporter is other people's code
            errors.survived("metrics export", error)
            return False
        return result is MetricExportResult.SUCCESS


def _of_this_process(resource: Resource) -> Resource:
    """`resource` with the process id and instance id of a forked child instead of its parent's."""
    detected = identity.resource().attributes
    shared = identity.shared_attributes(detected)
    return resource.merge(Resource({name: value for name, value in detected.items() if name not in shared}))


def _joined(sdk: MetricsData | None, own: MetricsData, resource: Resource) -> MetricsData:
    """Both under one resource: ours, for the SDK's still tells the parent's process id after a fork."""
    if sdk is None or not sdk.resource_metrics:
        return own
    scopes = [
        scope
        for of_resource in (*map(_without_ours, sdk.resource_metrics), *own.resource_metrics)
        for scope in of_resource.scope_metrics
    ]
    return MetricsData([ResourceMetrics(resource, scopes, resource.schema_url)])


def _without_ours(of_resource: ResourceMetrics) -> ResourceMetrics:
    """Without what another instrumentation counts under our names, which would be there twice."""
    scopes = [
        replace(scope, metrics=[metric for metric in scope.metrics if metric.name not in OURS])
        for scope in of_resource.scope_metrics
    ]
    return replace(of_resource, scope_metrics=[scope for scope in scopes if scope.metrics])


def _count(data: MetricsData) -> int:
    return sum(
        len(metric.data.data_points)
        for of_resource in data.resource_metrics
        for scope in of_resource.scope_metrics
        for metric in scope.metrics
    )
