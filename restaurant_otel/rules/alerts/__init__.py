"""The alerts: when, how urgent, in words that somebody woken by them understands.

A component of the score warns when its objective is missed for ten minutes and is critical when its limit is missed for
five. Error budgets burn: fourteen times too fast wakes somebody, as fast as they may do over three days makes a
ticket (https://sre.google/workbook/alerting-on-slos/). Everything else is a fact that needs somebody's eye, or a
forecast that gives them time. Each alert has a page in docs/runbooks, and a test that it fires, ends, and else is
silent.
"""

from __future__ import annotations

from typing import Any

from restaurant_otel.rules.alerts import requests, resources, stores, telemetry
from restaurant_otel.rules.alerts.model import CRITICAL, INFO, SEVERITIES, WARNING, Alert
from restaurant_otel.rules.options import Options

__all__ = ["CRITICAL", "INFO", "SEVERITIES", "WARNING", "Alert", "alerts", "groups"]


def alerts(o: Options) -> list[Alert]:
    """All alerts, by area."""
    return [
        *requests.budgets(o),
        *requests.components(o),
        *requests.routes(o),
        *stores.database(o),
        *stores.cache(o),
        *resources.resources(o),
        *telemetry.telemetry(o),
        *telemetry.score(o),
    ]


def groups(o: Options) -> list[dict[str, Any]]:
    """The rule groups of all alerts, as Prometheus reads them: one an area."""
    every = alerts(o)
    return [
        {
            "name": f"restaurant-otel-alerts-{area}",
            "interval": o.step(),
            "rules": [alert.data(o) for alert in every if alert.area == area],
        }
        for area in dict.fromkeys(alert.area for alert in every)
    ]
