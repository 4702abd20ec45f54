"""Readings of this app, from the cells of all of its workers: two looks at the totals, and what lies between them.

`Totals` are what one look finds, reduced to what the score needs; `between` makes a `Snapshot` of two of them.
Numbers by route, statement or group are bounded as the metrics are. Nothing here keeps time: `keeper` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import add
from typing import Any, Final

from restaurant_otel import catalog
from restaurant_otel.catalog import COMPONENTS, SECONDS, Objectives
from restaurant_otel.metrics.points import Family, HistogramPoint, NumberPoint
from restaurant_otel.scorecard import evidence
from restaurant_otel.scorecard.evidence import PAGE_SHARE, Key, quantile
from restaurant_otel.scorecard.formula import Reading, Snapshot
from restaurant_otel.sql.book import OTHER


@dataclass(slots=True)
class Totals:
    """What had been counted at one moment (`at`, seconds since the epoch), and the gauges of that moment.

    `start`: since when it was counted; None when nothing was. Requests by route are (count, failed, seconds); `pages`
    are bucket counts of GET requests by route.
    """

    at: float
    start: float | None = None
    requests: dict[Key, list[float]] = field(default_factory=dict)
    gets: dict[Key, list[int]] = field(default_factory=dict)
    statements: dict[Key, list[float]] = field(default_factory=dict)
    queries: dict[Key, list[float]] = field(default_factory=dict)
    lookups: dict[Key, list[float]] = field(default_factory=dict)
    n_plus_one: dict[Key, list[float]] = field(default_factory=dict)
    page_routes: set[str] = field(default_factory=set)
    cpu: float | None = None
    memory: float | None = None
    leaks: dict[str, float] = field(default_factory=dict)

    @property
    def all_requests(self) -> tuple[float, float]:
        """Requests, and those of them that the server failed."""
        counts = self.requests.values()
        return sum(each[0] for each in counts), sum(each[1] for each in counts)


def read(families: Iterable[Family], at: float) -> Totals:
    """Reduce all points of all workers to what the score needs."""
    totals = Totals(at)
    for family in families:
        take = _READERS.get(family.metric.name)
        if take is not None:
            take(totals, family)
    return totals


def between(
    now: Totals,
    before: Totals | None,
    hour: tuple[float, float],
    objectives: Objectives,
    cpu: float | None = None,
) -> Snapshot:
    """A snapshot of what happened from `before` (None: from the beginning) to `now`.

    `hour`: requests of the last hour, and those of them that failed. `cpu`: the mean use in between.
    """
    start = before or Totals(now.at)
    requests = _grown(now.requests, start.requests)
    gets = _grown(now.gets, start.gets)
    statements = _grown(now.statements, start.statements)
    queries = _grown(now.queries, start.queries)
    groups = _grown(now.lookups, start.lookups)
    goals = {each.component: each for each in (*COMPONENTS, *objectives.components)}
    api = [(key, each) for key, each in requests.items() if evidence.looked_at(key[0], goals["api"])]
    pages = {
        key[0]: counts
        for key, counts in gets.items()
        if evidence.looked_at(key[0], goals["page"]) and (goals["page"].routes or key[0] in now.page_routes)
    }
    return Snapshot(
        {
            "availability": _availability(*hour),
            "errors": _share([(count, failed) for count, failed, _ in requests.values()]),
            "api": _mean([(count, total) for _, (count, _, total) in api]),
            "database": _mean(list(statements.values())),
            "page": _page(pages.values()),
            "cache": _share(list(groups.values())),
            "cpu": Reading(now.cpu if cpu is None else cpu),
            "memory": Reading(now.memory),
        },
        {
            "failing_routes": evidence.failing(requests),
            "slow_routes": evidence.slow([(key, (each[0], each[2])) for key, each in api], goals["api"]),
            "slow_pages": evidence.slow_pages(
                (
                    (route, quantile(PAGE_SHARE, counts, SECONDS), sum(counts))
                    for route, counts in pages.items()
                ),
                goals["page"],
            ),
            "statements": evidence.slow((queries or statements).items(), goals["database"]),
            "n_plus_one": evidence.most(_grown(now.n_plus_one, start.n_plus_one)),
            "cache_groups": evidence.missing(groups, goals["cache"]),
            "leaks": evidence.leaks((f"worker {worker}", slope) for worker, slope in now.leaks.items()),
        },
        now.at,
    )


# --- values -------------------------------------------------------------------------------------------


def _availability(count: float, failed: float) -> Reading:
    return Reading(1 - failed / count if count else None, count)


def _share(pairs: Sequence[Sequence[float]]) -> Reading:
    """How many of the counted were so, of (count, so)."""
    every, such = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    return Reading(such / every if every else None, every)


def _mean(pairs: Sequence[Sequence[float]]) -> Reading:
    """Of (count, sum)."""
    count, total = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    return Reading(total / count if count else None, count)


def _page(pages: Iterable[Sequence[float]]) -> Reading:
    together: list[float] = [0.0] * (len(SECONDS) + 1)
    for counts in pages:
        together = list(map(add, together, counts))
    value = quantile(PAGE_SHARE, together, SECONDS)
    return Reading(None if math.isnan(value) else value, sum(together))


def _grown(now: Mapping[Key, Any], before: Mapping[Key, Any]) -> dict[Key, list[float]]:
    """What was added to each total; those that did not grow are left out. One that shrank has begun anew."""
    grown = {}
    for key, values in now.items():
        old = before.get(key)
        if old is None or old[0] > values[0]:
            more = list(values)
        else:
            more = [value - was for value, was in zip(values, old, strict=True)]
        if any(more):
            grown[key] = more
    return grown


# --- families -----------------------------------------------------------------------------------------


def _places(family: Family, *names: str) -> list[int | None]:
    attributes = family.metric.attributes
    return [attributes.index(name) if name in attributes else None for name in names]


def _text(values: Sequence[Any], place: int | None) -> str:
    value = None if place is None else values[place]
    return "" if value is None else str(value)


def _add(into: dict[Key, list[Any]], key: Key, values: Sequence[Any]) -> None:
    old = into.get(key)
    into[key] = list(values) if old is None else list(map(add, old, values))


def _read_requests(totals: Totals, family: Family) -> None:
    method, route, status, error = _places(
        family, "http.request.method", "http.route", "http.response.status_code", "error.type"
    )
    same_bounds = family.metric.bounds == SECONDS
    for point in family.points:
        if isinstance(point, HistogramPoint):
            values, count = point.values, point.count
            key = (_text(values, route),)
            failed = bool(_text(values, error)) or _text(values, status).startswith("5")
            _add(totals.requests, key, (count, count if failed else 0, point.sum))
            if same_bounds and _text(values, method) == "GET":
                _add(totals.gets, key, point.counts)
            if totals.start is None or point.start < totals.start:
                totals.start = point.start


def _read_means(field_name: str, *names: str) -> Callable[[Totals, Family], None]:
    def take(totals: Totals, family: Family) -> None:
        places = _places(family, *names)
        into = getattr(totals, field_name)
        for point in family.points:
            if isinstance(point, HistogramPoint):
                key = (OTHER,) if point.overflow else tuple(_text(point.values, place) for place in places)
                _add(into, key, (point.count, point.sum))

    return take


def _read_lookups(*, answered: bool) -> Callable[[Totals, Family], None]:
    def take(totals: Totals, family: Family) -> None:
        name, group = _places(family, "restaurant.cache.name", "restaurant.cache.group")
        for point in family.points:
            if isinstance(point, NumberPoint):
                key = (_text(point.values, name), _text(point.values, group))
                _add(totals.lookups, key, (point.value, point.value if answered else 0))

    return take


def _read_n_plus_one(totals: Totals, family: Family) -> None:
    places = _places(family, "http.route", "restaurant.db.relationship")
    for point in family.points:
        if isinstance(point, NumberPoint) and not point.overflow:  # of those nobody knows which they are
            _add(totals.n_plus_one, tuple(_text(point.values, place) for place in places), (point.value,))


def _read_pages(totals: Totals, family: Family) -> None:
    (route,) = _places(family, "http.route")
    totals.page_routes.update(_text(point.values, route) for point in family.points)


def _read_gauge(name: str) -> Callable[[Totals, Family], None]:
    def take(totals: Totals, family: Family) -> None:
        values = [point.value for point in family.points if isinstance(point, NumberPoint)]
        if values:
            setattr(totals, name, max(values))

    return take


def _read_leaks(totals: Totals, family: Family) -> None:
    suspects = family.metric is catalog.MEMORY_LEAK_SUSPECTED
    for point in family.points:
        if isinstance(point, NumberPoint) and point.worker is not None:
            if suspects and not point.value:
                totals.leaks.pop(point.worker, None)
            elif not suspects and point.value > 0:
                totals.leaks[point.worker] = point.value


_READERS: Final[dict[str, Callable[[Totals, Family], None]]] = {
    catalog.HTTP_SERVER_REQUEST_DURATION.name: _read_requests,
    catalog.DB_CLIENT_OPERATION_DURATION.name: _read_means(
        "statements", "db.operation.name", "db.collection.name"
    ),
    catalog.DB_QUERY_DURATION.name: _read_means("queries", "db.query.summary"),
    catalog.DB_N_PLUS_ONE.name: _read_n_plus_one,
    catalog.CACHE_HITS.name: _read_lookups(answered=True),
    catalog.CACHE_STALE.name: _read_lookups(answered=True),
    catalog.CACHE_MISSES.name: _read_lookups(answered=False),
    catalog.HTTP_SERVER_PAGE.name: _read_pages,
    catalog.CPU_UTILIZATION.name: _read_gauge("cpu"),
    catalog.MEMORY_UTILIZATION.name: _read_gauge("memory"),
    catalog.MEMORY_LEAK_SLOPE.name: _read_leaks,
    catalog.MEMORY_LEAK_SUSPECTED.name: _read_leaks,
}
"""What is taken from which metric; all others are passed over."""
