"""Databases."""

from __future__ import annotations

from typing import Final

from restaurant_otel.catalog.metric import QUERY_SECONDS, Kind, Metric

DB_CLIENT_OPERATION_DURATION: Final = Metric(
    "db.client.operation.duration",
    "s",
    Kind.HISTOGRAM,
    "Time a statement took to execute, without fetching its rows.",
    ("db.system.name", "db.operation.name", "db.collection.name", "db.namespace", "http.route", "error.type"),
    QUERY_SECONDS,
)
