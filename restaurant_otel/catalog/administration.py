"""The admin API."""

from __future__ import annotations

from typing import Final

from restaurant_otel.catalog.metric import Kind, Metric

ADMIN_REQUESTS: Final = Metric(
    "restaurant.admin.requests",
    "{request}",
    Kind.COUNTER,
    "Requests to the admin API, by operation and outcome (done, refused, limited, invalid, failed); why, where it was "
    "not done.",
    ("restaurant.admin.operation", "restaurant.admin.outcome", "error.type"),
)
