"""What a metric is, and the bucket bounds that several share: the words in which the catalogue is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Kind(Enum):
    """What a metric's number means; one of OpenTelemetry's instrument kinds."""

    COUNTER = "counter"
    """Only ever grows. Workers, living and dead, are summed."""
    OBSERVED_COUNTER = "observed_counter"
    """A total that somebody else counts, the kernel say, and that is read off like a gauge. Living workers only."""
    UP_DOWN_COUNTER = "up_down_counter"
    """Grows and shrinks by steps (requests in flight). Living workers only."""
    GAUGE = "gauge"
    """A reading that replaces the last one. Living workers only."""
    HISTOGRAM = "histogram"
    """Counts by bucket, and a sum. Workers, living and dead, are summed."""


class Across(Enum):
    """How the living workers of one app become one series, for up-down counters, observed counters and gauges."""

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

WAIT_SECONDS: Final = (
    0.0001,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
"""For waiting that should hardly be there: for the event loop, the collector, a CPU, a worker."""

CONNECTION_SECONDS: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
"""For connections that stay open on purpose (WebSockets)."""
