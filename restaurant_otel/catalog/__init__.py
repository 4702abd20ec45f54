"""Every metric, once: name, unit, kind, attributes, buckets, help, and how workers add up.

Instruments, the exposition, the OTLP export and the metrics reference in the docs are made from this
package, so they cannot disagree. It holds data only and imports nothing of the rest; anybody may read it,
nobody may change it at run time. `metric` says what a metric is; the other modules hold the metrics of one
subject each, and every name of theirs is a name of this package.

Names follow the OpenTelemetry semantic conventions where they have one; ours begin with ``restaurant.``.
A metric's Prometheus name is derived by OpenTelemetry's rules (`Metric.prometheus_name`).
"""

from typing import Final

from restaurant_otel.catalog import (
    administration,
    cache,
    database,
    http,
    operations,
    performance,
    resources,
    telemetry,
)
from restaurant_otel.catalog.administration import *
from restaurant_otel.catalog.cache import *
from restaurant_otel.catalog.database import *
from restaurant_otel.catalog.http import *
from restaurant_otel.catalog.metric import *
from restaurant_otel.catalog.objectives import *
from restaurant_otel.catalog.operations import *
from restaurant_otel.catalog.performance import *
from restaurant_otel.catalog.resources import *
from restaurant_otel.catalog.telemetry import *

_SUBJECTS: Final = (http, database, operations, telemetry, cache, resources, performance, administration)

METRICS: Final[tuple[Metric, ...]] = tuple(
    value for subject in _SUBJECTS for value in vars(subject).values() if isinstance(value, Metric)
)
"""All metrics, subject by subject, each in its file's order."""
