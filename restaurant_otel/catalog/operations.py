"""Functions and blocks that are not endpoints."""

from __future__ import annotations

from typing import Final

from restaurant_otel.catalog.metric import SECONDS, Kind, Metric

OPERATION_DURATION: Final = Metric(
    "restaurant.operation.duration",
    "s",
    Kind.HISTOGRAM,
    "Time spent in functions and blocks marked with measure().",
    ("restaurant.operation.name", "error.type"),
    SECONDS,
)
