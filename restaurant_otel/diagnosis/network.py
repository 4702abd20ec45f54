"""Over the network: whether the collector is there, what /metrics says, and whose clock is right."""

from __future__ import annotations

import http.client
import itertools
import socket
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from restaurant_otel.diagnosis.finding import Finding, Patient
from restaurant_otel.live import text

MOST_SKEW: Final = 30.0
"""Seconds by which clocks may differ."""

_LOOKS: Final = 12


def check_collector(patient: Patient) -> Iterator[Finding]:
    """Somebody must listen where telemetry is sent."""
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        endpoint = patient.environ.get(name, "").strip()
        if not endpoint:
            continue
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            yield Finding("endpoint", "fault", f"{name}={endpoint} is no URL.", "Write http://host:4318.")
            continue
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((parts.hostname, port), timeout=patient.patience).close()
        except OSError as error:
            yield Finding(
                "endpoint",
                "fault",
                f"Nobody answers at {endpoint} ({name}): {error.strerror or error}.",
                "Start the collector, or correct the variable; in a container, localhost is the container.",
            )


def check_metrics(patient: Patient, now: Callable[[], float] = time.time) -> Iterator[Finding]:
    """/metrics must answer, be ours, and be the same whichever worker answers."""
    if patient.url is None:
        return
    url = patient.url.rstrip("/")
    url = url if urlsplit(url).path else f"{url}/metrics"
    try:
        first, date = _get(url, patient)
    except HTTPError as error:
        yield _refused(url, error.code)
        return
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        why = getattr(reason, "strerror", None) or reason
        yield Finding("app", "fault", f"{url} does not answer: {why}.", "Is the app running, and there?")
        return
    yield from _check_clock(url, date, now())
    try:
        families = text.families(first)
    except (ValueError, KeyError, IndexError):
        families = []
    if not families:
        yield Finding(
            "not-ours",
            "fault",
            f"{url} answers, but not with metrics of restaurant-otel.",
            "The app has a /metrics of its own: set RESTAURANT_OTEL_METRICS_PATH to another path.",
        )
        return
    yield from _check_workers(url, patient)


def _refused(url: str, status: int) -> Finding:
    if status in (401, 403, 404):
        return Finding(
            "guard",
            "fault",
            f"{url} answers {status}: /metrics is not for whoever asks from here, or not there at all.",
            "It answers direct requests from near, with no proxy in between. Set RESTAURANT_OTEL_METRICS_TOKEN and "
            "give --token, add this network to RESTAURANT_OTEL_METRICS_NETWORKS, or set "
            "RESTAURANT_OTEL_METRICS_PORT and scrape that.",
        )
    return Finding("app", "fault", f"{url} answers {status}.", "See the app's log.")


def _check_clock(url: str, date: str | None, now: float) -> Iterator[Finding]:
    try:
        skew = parsedate_to_datetime(date or "").timestamp() - now
    except (ValueError, TypeError):
        return
    if abs(skew) > MOST_SKEW:
        yield Finding(
            "clock",
            "fault",
            f"The clock of {urlsplit(url).netloc} is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}.",
            "Let both follow NTP: samples from the future or the past are dropped, and tokens are refused.",
        )


def _check_workers(url: str, patient: Patient) -> Iterator[Finding]:
    """Totals that go back from look to look come from workers that do not know each other."""
    totals = []
    for _ in range(_LOOKS):
        try:
            answer, _date = _get(url, patient)
            totals.append(_total(answer))
        except (OSError, http.client.HTTPException, ValueError, KeyError, IndexError):
            return
    if any(later < earlier for earlier, later in itertools.pairwise(totals)):
        yield Finding(
            "workers",
            "fault",
            "Counters go back from one look to the next: several workers answer, each for itself alone.",
            "Give them one name: RESTAURANT_OTEL_GROUP=shop (and, in containers, one RESTAURANT_OTEL_WORKERS_DIR).",
        )


def _total(answer: str) -> float:
    total = 0.0
    for family in text.families(answer):
        if family.metric.name == "http.server.request.duration":
            total += sum(getattr(point, "count", 0) for point in family.points)
    return total


def _get(url: str, patient: Patient) -> tuple[str, str | None]:
    """A new connection each time, so that any worker may answer."""
    headers = {"Accept": "text/plain", "Connection": "close"}
    if patient.token:
        headers["Authorization"] = f"Bearer {patient.token}"
    if not url.startswith(("http://", "https://")):
        raise ValueError("no URL")
    with urlopen(Request(url, headers=headers), timeout=patient.patience) as answer:  # noqa: S310 - checked
        return answer.read(64 * 1024 * 1024).decode("utf-8", "replace"), answer.headers.get("Date")
