"""Where `top` gets its figures: the /metrics of an app, or its admin API, on any host.

Both give a `Look`. /metrics counts since the start, so rates come from comparing looks: those of the last minute. The
admin API has compared already, and also answers where /metrics is not for strangers.
"""

from __future__ import annotations

import json
import time
from collections import deque
from http.client import HTTPException
from typing import Any, Final, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from restaurant_otel import catalog
from restaurant_otel.administration import figures
from restaurant_otel.administration.figures import EndpointFigures, QueryFigures, Totals
from restaurant_otel.live import text
from restaurant_otel.live.screen import CacheLook, Component, Look
from restaurant_otel.metrics.points import Family, HistogramPoint
from restaurant_otel.sql.book import query_book

PATIENCE: Final = 5.0
LARGEST: Final = 64 * 1024 * 1024
_WINDOW: Final = 60.0


class AwayError(Exception):
    """The app does not answer, or not with figures; the message says which, and what may be the matter."""


class Source(Protocol):
    """Gives looks."""

    def look(self) -> Look:
        """The app now. Raises AwayError."""


class Scrapes:
    """An app's /metrics at `url`."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url if urlsplit(url).path not in ("", "/") else url.rstrip("/") + "/metrics"
        self._token = token
        self._past: deque[Totals] = deque()

    def look(self) -> Look:
        """The app now, compared with a minute ago at most."""
        answer = get(self._url, self._token).decode("utf-8", "replace")
        try:
            families = text.families(answer)
        except (ValueError, KeyError, IndexError):
            raise AwayError(f"{self._url} answers, but not with metrics") from None
        if not families:
            raise AwayError(f"{self._url} has no metrics of restaurant-otel")
        now = figures.totals(families, time.monotonic())
        while self._past and now.time - self._past[0].time > _WINDOW:
            self._past.popleft()
        if self._past and now.requests.count < self._past[-1].requests.count:
            self._past.clear()  # started anew
        window = [*self._past, now]
        self._past.append(now)
        return _look(families, window, text.service(answer))


def _look(families: list[Family], window: list[Totals], service: str) -> Look:
    summary = figures.summary(window)
    numbers = window[-1].numbers
    return Look(
        service=service,
        at=time.time(),
        window_seconds=summary.window_seconds,
        workers=summary.workers,
        score=numbers.get(catalog.PERFORMANCE_SCORE.name),
        coverage=numbers.get(catalog.PERFORMANCE_COVERAGE.name),
        components=_components(families),
        request_rate=summary.request_rate,
        error_ratio=summary.error_ratio,
        mean=summary.mean,
        p95=summary.p95,
        active_requests=summary.active_requests,
        query_rate=summary.query_rate,
        query_mean=summary.query_mean,
        cpu=summary.cpu,
        memory=summary.memory,
        routes=figures.endpoints(window, trends=False),
        queries=figures.query_figures(query_book(families)),
        caches=_caches(families),
    )


def _components(families: list[Family]) -> list[Component]:
    points = {}
    for family in families:
        if family.metric is catalog.PERFORMANCE_COMPONENT_SCORE:
            points = {str(point.values[0]): getattr(point, "value", None) for point in family.points}
    names = [objective.component for objective in catalog.COMPONENTS if objective.weight > 0]
    return [Component(name, points.get(name)) for name in [*names, *sorted(points.keys() - set(names))]]


_STATES: Final = ("closed", "half_open", "open")


def _caches(families: list[Family]) -> list[CacheLook]:
    counted: dict[str, dict[str, float]] = {}
    for family in families:
        if family.metric.attributes[:1] == ("restaurant.cache.name",):
            for point in family.points:
                if not isinstance(point, HistogramPoint) and not point.overflow:
                    of_cache = counted.setdefault(str(point.values[0]), {})
                    of_cache[family.metric.name] = of_cache.get(family.metric.name, 0.0) + point.value
    looks = []
    for name, numbers in sorted(counted.items()):
        answered = numbers.get(catalog.CACHE_HITS.name, 0.0) + numbers.get(catalog.CACHE_STALE.name, 0.0)
        lookups = answered + numbers.get(catalog.CACHE_MISSES.name, 0.0)
        state = numbers.get(catalog.CACHE_BREAKER.name)
        redis = "none" if state is None or state != state else _STATES[min(2, max(0, int(state)))]
        looks.append(CacheLook(name, figures.ratio(answered, lookups), int(lookups), redis))
    return looks


class Administered:
    """An app's admin API at `url`, with a token that may read."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url.rstrip("/")
        self._token = token

    def look(self) -> Look:
        """The app now."""
        summary, score = self._get("/metrics/summary"), self._get("/score")
        routes = self._get("/endpoints?limit=200")
        queries, caches = self._get("/queries?limit=200"), self._get("/cache")
        try:
            return Look(
                service=urlsplit(self._url).netloc,
                at=time.time(),
                **{name: summary[name] for name in _SUMMARIZED},
                score=score["total"],
                coverage=score["coverage"],
                components=[Component(one["name"], one["points"]) for one in score["components"]],
                routes=[EndpointFigures(**{**one, "trend": []}) for one in routes["items"]],
                queries=[QueryFigures(**one) for one in queries["items"]],
                caches=[_cache_look(one) for one in caches["caches"]],
            )
        except (KeyError, TypeError):
            raise AwayError(f"{self._url} is no admin API of this version") from None

    def _get(self, path: str) -> Any:
        try:
            return json.loads(get(self._url + path, self._token))
        except ValueError:
            raise AwayError(f"{self._url} is no admin API") from None


_SUMMARIZED: Final = (
    "window_seconds",
    "workers",
    "request_rate",
    "error_ratio",
    "mean",
    "p95",
    "active_requests",
    "query_rate",
    "query_mean",
    "cpu",
    "memory",
)


def _cache_look(one: dict[str, Any]) -> CacheLook:
    lookups = one["hits"] + one["misses"] + one["stale"]
    return CacheLook(one["name"], one["hit_ratio"], lookups, one["redis"])


_MEANINGS: Final = {
    401: "it wants a token, or a better one: --token",
    403: "the token does not allow it",
    404: "not for you, or not there: see `restaurant-otel doctor --url`",
    429: "too many tries; wait a minute",
}


def get(url: str, token: str | None, accept: str = "text/plain, application/json") -> bytes:
    """The answer of `url`. Raises AwayError."""
    headers = {"Accept": accept}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if not url.startswith(("http://", "https://")):
        raise AwayError(f"{url} is no URL: http://host:port")
    try:
        with urlopen(Request(url, headers=headers), timeout=PATIENCE) as answer:  # noqa: S310 - http and https only
            body: bytes = answer.read(LARGEST)
            return body
    except HTTPError as error:
        meaning = _MEANINGS.get(error.code, error.reason)
        raise AwayError(f"{url} answers {error.code}: {meaning}") from None
    except (URLError, OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise AwayError(f"{url} does not answer: {getattr(reason, 'strerror', None) or reason}") from None
