"""The telemetry itself."""

from __future__ import annotations

from typing import Final

from restaurant_otel.catalog.metric import Kind, Metric

TELEMETRY_ERRORS: Final = Metric(
    "restaurant.telemetry.errors",
    "{error}",
    Kind.COUNTER,
    "Errors of the instrumentation itself, survived and logged once, by the part they happened in.",
    ("restaurant.telemetry.part",),
)
TELEMETRY_SPANS_DROPPED: Final = Metric(
    "restaurant.telemetry.spans.dropped",
    "{span}",
    Kind.COUNTER,
    "Spans lost because the export queue was full or the exporter gave up, by reason.",
    ("restaurant.telemetry.reason",),
)
TELEMETRY_METRICS_DROPPED: Final = Metric(
    "restaurant.telemetry.metrics.dropped",
    "{data_point}",
    Kind.COUNTER,
    "Metric points that a push exporter could not deliver; the next push carries cumulative values again.",
)
TELEMETRY_OVERFLOW: Final = Metric(
    "restaurant.telemetry.series.overflow",
    "{series}",
    Kind.COUNTER,
    "Attribute sets refused because a metric had reached its limit, by metric.",
    ("restaurant.metric.name",),
)
TELEMETRY_FILES_SKIPPED: Final = Metric(
    "restaurant.telemetry.files.skipped",
    "{file}",
    Kind.COUNTER,
    "Worker files that could not be read (torn, foreign, of another version) and were passed over.",
    ("restaurant.telemetry.reason",),
)
TELEMETRY_WORKERS: Final = Metric(
    "restaurant.telemetry.workers",
    "{worker}",
    Kind.GAUGE,
    "Worker processes whose numbers this answer holds.",
)
