"""``GET /alerts``: what Alertmanager, or Prometheus, says is burning.

Asked by the server, so that a browser need not reach it; at most once in five seconds, and with little patience.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from typing import Any, Final

from restaurant_otel import forks
from restaurant_otel.administration.fetching import AnsweredError, fetch
from restaurant_otel.administration.operations import Call, Problem
from restaurant_otel.errors import survived

LARGEST: Final = 4_194_304
MOST: Final = 500
_KEPT: Final = 5.0


@dataclass(slots=True)
class Alert:
    """One alert. `since` is its beginning (RFC 3339), `state` active, suppressed, unprocessed, firing or pending."""

    name: str
    state: str
    severity: str | None
    since: str | None
    summary: str | None
    runbook: str | None
    labels: dict[str, str]


@dataclass(slots=True)
class Alerts:
    """What is burning, the worst first."""

    source: str
    alerts: list[Alert]


class AlertSource:
    """The Alertmanager or Prometheus at `url`. Any thread."""

    def __init__(self, url: str | None) -> None:
        self._url = url.rstrip("/") if url is not None else None
        self._lock = forks.Lock()
        self._found: tuple[float, Alerts | Problem] | None = None

    def read(self) -> Alerts:
        """The alerts, or as they were five seconds ago, and be it that they could not be had. Raises Problem."""
        if self._url is None:
            raise Problem(HTTPStatus.NOT_FOUND, "The setting admin_alerts_url is not set.")
        with self._lock:
            if self._found is None or time.monotonic() - self._found[0] > _KEPT:
                found = self._ask(self._url)
                self._found = time.monotonic(), found
            found = self._found[1]
        if isinstance(found, Problem):
            raise found
        return found

    def _ask(self, url: str) -> Alerts | Problem:
        try:
            try:
                return _of_alertmanager(_get(f"{url}/api/v2/alerts"))
            except FileNotFoundError:
                return _of_prometheus(_get(f"{url}/api/v1/alerts"))
        except (
            OSError,
            HTTPException,
            LookupError,
            ValueError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            survived("admin alerts", error)
            return Problem(HTTPStatus.BAD_GATEWAY, "The alerts could not be had.")


def _get(url: str) -> Any:
    """The JSON at `url`. Raises FileNotFoundError for 404, else OSError, HTTPException, ValueError."""
    try:
        return json.loads(fetch(url, LARGEST))
    except AnsweredError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            raise FileNotFoundError(url) from None
        raise


def _of_alertmanager(found: list[dict[str, Any]]) -> Alerts:
    return _sorted(
        "alertmanager", [_alert(one, one["status"]["state"], one.get("startsAt")) for one in found[:MOST]]
    )


def _of_prometheus(found: dict[str, Any]) -> Alerts:
    alerts = found["data"]["alerts"][:MOST]
    return _sorted("prometheus", [_alert(one, one["state"], one.get("activeAt")) for one in alerts])


_WORST_FIRST: Final = ("critical", "error", "warning", "info")


def _sorted(source: str, alerts: list[Alert]) -> Alerts:
    def place(alert: Alert) -> tuple[int, str]:
        severity = alert.severity or ""
        return (_WORST_FIRST.index(severity) if severity in _WORST_FIRST else 9), alert.since or ""

    return Alerts(source, sorted(alerts, key=place))


def _alert(one: dict[str, Any], state: str, since: str | None) -> Alert:
    labels = {str(name): str(value) for name, value in one.get("labels", {}).items()}
    notes = one.get("annotations", {})
    return Alert(
        name=labels.get("alertname", ""),
        state=str(state),
        severity=labels.get("severity"),
        since=since,
        summary=notes.get("summary") or notes.get("description"),
        runbook=notes.get("runbook_url"),
        labels=labels,
    )


def read_alerts(call: Call) -> Alerts:
    """``GET /alerts``."""
    return call.service.alerts.read()
