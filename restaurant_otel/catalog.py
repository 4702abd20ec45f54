"""Every metric, once: name, unit, kind, attributes, buckets, help, and how workers add up.

Instruments, the exposition, the OTLP export and the metrics reference in the docs are made from this
module, so they cannot disagree. It holds data only and imports nothing of the package; anybody may
read it, nobody may change it at run time.

Names follow the OpenTelemetry semantic conventions where they have one; ours begin with
``restaurant.``. A metric's Prometheus name is derived by OpenTelemetry's rules (`prometheus_name`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Kind(Enum):
    """What a metric's number means; one of OpenTelemetry's instrument kinds."""

    COUNTER = "counter"
    """Only ever grows. Workers, living and dead, are summed."""
    UP_DOWN_COUNTER = "up_down_counter"
    """Grows and shrinks by steps (requests in flight). Living workers only."""
    GAUGE = "gauge"
    """A reading that replaces the last one. Living workers only."""
    HISTOGRAM = "histogram"
    """Counts by bucket, and a sum. Workers, living and dead, are summed."""


class Across(Enum):
    """How the living workers of one app become one series, for up-down counters and gauges."""

    SUM = "sum"
    MAX = "max"
    PER_WORKER = "per_worker"
    """One series a worker, told apart by the label ``worker`` (its process id)."""


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One metric. Identity is the object itself: each name exists once, in this module or at run time.

    `attributes` are OpenTelemetry attribute names in the order in which values are bound; `bounds` are
    the histogram's upper bucket bounds in the metric's unit, ascending, without infinity.
    """

    name: str
    unit: str
    kind: Kind
    help: str
    attributes: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    across: Across = Across.SUM

    @property
    def prometheus_name(self) -> str:
        """The metric family's name in Prometheus, without ``_total``, ``_bucket``, ``_sum``, ``_count``.

        By the OpenTelemetry compatibility rules: dots become underscores, the unit is appended in words,
        a gauge of unit 1 gains ``_ratio``.
        Source: https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
        """
        name = prometheus_label(self.name)
        suffix = _unit_suffix(self.unit, self.kind)
        if suffix and not name.endswith(f"_{suffix}"):
            name = f"{name}_{suffix}"
        return name


def prometheus_label(name: str) -> str:
    """An OpenTelemetry attribute or metric name as Prometheus spells it: ``http.route`` -> ``http_route``."""
    name = re.sub(r"[^a-zA-Z0-9_]+", "_", name)
    return f"_{name}" if name[:1].isdigit() else name


_UNITS: Final = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "min": "minutes",
    "h": "hours",
    "d": "days",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "KBy": "kilobytes",
    "MBy": "megabytes",
    "GBy": "gigabytes",
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "Cel": "celsius",
    "Hz": "hertz",
    "%": "percent",
}


def _unit_suffix(unit: str, kind: Kind) -> str:
    if unit == "1":
        return "ratio" if kind is Kind.GAUGE else ""
    unit = re.sub(r"\{[^}]*\}", "", unit)  # annotations such as {request} carry no unit
    if "/" in unit:
        numerator, _, denominator = unit.partition("/")
        per = {"s": "second", "min": "minute", "h": "hour", "d": "day"}.get(denominator, denominator)
        return "_".join(part for part in (_UNITS.get(numerator, numerator), "per", per) if part)
    return re.sub(r"[^a-zA-Z0-9_]+", "_", _UNITS.get(unit, unit)).strip("_")


# --- bucket bounds -----------------------------------------------------------------------------------

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.25, 0.5, 0.75, 1.0, 2.0, 2.5, 5.0, 7.5, 10.0)
"""The HTTP convention's advice plus 0.2 s and 2 s, the objectives for the API and for a page: a share of
requests within an objective can only be read off a bucket that ends there."""

QUERY_SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.4, 0.5, 1.0, 5.0, 10.0)
"""The database convention's advice plus 0.2 s, and 0.4 s, where the database score reaches zero."""

BYTES: Final = (0.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0)
"""Powers of four: the conventions advise none for body sizes."""

CONNECTION_SECONDS: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
"""For connections that stay open on purpose (WebSockets)."""

# --- HTTP --------------------------------------------------------------------------------------------

_HTTP_REQUEST: Final = (
    "http.request.method",
    "http.route",
    "http.response.status_code",
    "url.scheme",
    "network.protocol.version",
    "error.type",
)

HTTP_SERVER_REQUEST_DURATION: Final = Metric(
    "http.server.request.duration",
    "s",
    Kind.HISTOGRAM,
    "Time from the request's arrival to the last byte of its response, without background tasks.",
    _HTTP_REQUEST,
    SECONDS,
)
HTTP_SERVER_TIME_TO_FIRST_BYTE: Final = Metric(
    "restaurant.http.server.time_to_first_byte",
    "s",
    Kind.HISTOGRAM,
    "Time from the request's arrival to the start of its response.",
    ("http.request.method", "http.route"),
    SECONDS,
)
HTTP_SERVER_REQUEST_BODY_SIZE: Final = Metric(
    "http.server.request.body.size",
    "By",
    Kind.HISTOGRAM,
    "Size of request bodies, of those requests that have one: Content-Length, or else what the app has read.",
    _HTTP_REQUEST,
    BYTES,
)
HTTP_SERVER_RESPONSE_BODY_SIZE: Final = Metric(
    "http.server.response.body.size",
    "By",
    Kind.HISTOGRAM,
    "Size of response bodies as the app produced them.",
    _HTTP_REQUEST,
    BYTES,
)
HTTP_SERVER_ACTIVE_REQUESTS: Final = Metric(
    "http.server.active_requests",
    "{request}",
    Kind.UP_DOWN_COUNTER,
    "Requests in flight.",
    ("http.request.method", "url.scheme"),
)
HTTP_SERVER_INTERRUPTED: Final = Metric(
    "restaurant.http.server.interrupted_requests",
    "{request}",
    Kind.COUNTER,
    "Responses that did not reach their end, by what ended them: client_disconnect, cancelled, incomplete.",
    ("http.request.method", "http.route", "restaurant.outcome"),
)

# --- WebSockets --------------------------------------------------------------------------------------

WEBSOCKET_CONNECTION_DURATION: Final = Metric(
    "restaurant.websocket.connection.duration",
    "s",
    Kind.HISTOGRAM,
    "Time from a WebSocket's handshake to its close.",
    ("http.route", "restaurant.websocket.close_code", "error.type"),
    CONNECTION_SECONDS,
)
WEBSOCKET_ACTIVE_CONNECTIONS: Final = Metric(
    "restaurant.websocket.active_connections",
    "{connection}",
    Kind.UP_DOWN_COUNTER,
    "WebSockets open, those in their handshake included.",
    ("url.scheme",),
)
WEBSOCKET_MESSAGES: Final = Metric(
    "restaurant.websocket.messages",
    "{message}",
    Kind.COUNTER,
    "Messages over WebSockets, added when the connection ends.",
    ("http.route", "network.io.direction"),
)

# --- databases ---------------------------------------------------------------------------------------

DB_CLIENT_OPERATION_DURATION: Final = Metric(
    "db.client.operation.duration",
    "s",
    Kind.HISTOGRAM,
    "Time a statement took to execute, without fetching its rows.",
    ("db.system.name", "db.operation.name", "db.collection.name", "db.namespace", "http.route", "error.type"),
    QUERY_SECONDS,
)

# --- functions that are not endpoints ----------------------------------------------------------------

OPERATION_DURATION: Final = Metric(
    "restaurant.operation.duration",
    "s",
    Kind.HISTOGRAM,
    "Time spent in functions and blocks marked with measure().",
    ("restaurant.operation.name", "error.type"),
    SECONDS,
)

# --- the telemetry itself ----------------------------------------------------------------------------

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

METRICS: Final[tuple[Metric, ...]] = tuple(
    value for value in dict(globals()).values() if isinstance(value, Metric)
)
"""All of the above, in the order of this file."""
