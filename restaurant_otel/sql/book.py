"""The query book: each statement with its numbers, its routes, an example and its place in the code.

For this process and all its siblings, living and dead. The numbers come from the cells, the words from
`notes.py`; nothing is worked out until somebody reads. Read by the score, the admin API, the command line and
the index advisor. Nothing in here holds a parameter's value or a literal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import add
from typing import Any, Final

from restaurant_otel import catalog
from restaurant_otel.metrics import Family, registry
from restaurant_otel.sql.notes import Note, notes

OTHER: Final = "other"
"""The fingerprint of all statements that got no place of their own."""


@dataclass(frozen=True, slots=True)
class RouteUse:
    """What one route makes of a query. `route` is None for queries outside of requests."""

    route: str | None
    calls: int
    seconds: float
    rows: int


@dataclass(frozen=True, slots=True)
class QueryEntry:
    """One statement. Times are in seconds, executions only; `p95` is None without calls.

    `text` is an example without literals, `locations` are ``module:function:line`` of the app, newest last
    (sampled: where a route asked for the first time). `rows` counts those that are known.
    """

    fingerprint: str
    summary: str
    text: str | None
    system: str | None
    calls: int
    total: float
    mean: float
    p95: float | None
    rows: int
    routes: tuple[RouteUse, ...]
    locations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RepeatedQuery:
    """A statement that requests repeat. `relationship` is ``Model.attribute``, or the statement's summary.

    `requests` were found to repeat it, with `queries` in all of them; `fix` says what to do instead.
    """

    route: str | None
    relationship: str
    requests: int
    queries: int
    fix: str | None
    fingerprint: str | None
    location: str | None


@dataclass(frozen=True, slots=True)
class SlowQuery:
    """The slowest execution of a statement that took longer than the objective.

    `seconds` it took, at `when` (seconds since the epoch), for `route`, in the trace `trace_id` (hexadecimal,
    None where it was not sampled). `plan` is the database's, literals replaced, or None; `no_plan` says why.
    """

    fingerprint: str
    summary: str
    text: str
    route: str | None
    seconds: float
    when: float
    trace_id: str | None
    plan: str | None
    no_plan: str | None
    location: str | None


def query_book(families: Iterable[Family] | None = None) -> list[QueryEntry]:
    """Every statement of all workers, the one that takes most time first.

    `families` saves a collection to who has just made one. Any thread; takes milliseconds. Raises OSError as
    `Registry.collect` does.
    """
    durations: dict[str, dict[tuple[str, str | None], tuple[list[int], float]]] = {}
    rows: dict[tuple[str, str | None], int] = {}
    for family in _families(families):
        if family.metric.name == catalog.DB_QUERY_DURATION.name:
            for point in family.points:
                fingerprint, summary, route = (OTHER, OTHER, None) if point.overflow else point.values
                durations.setdefault(str(fingerprint), {})[str(summary), _text(route)] = (
                    point.counts,  # type: ignore[union-attr]
                    point.sum,  # type: ignore[union-attr]
                )
        elif family.metric.name == catalog.DB_QUERY_RETURNED_ROWS.name:
            for point in family.points:
                fingerprint, _, route = (OTHER, OTHER, None) if point.overflow else point.values
                rows[str(fingerprint), _text(route)] = int(point.value)  # type: ignore[union-attr]
    words = notes.all("query")
    entries = [_entry(each, series, rows, words.get(each, {})) for each, series in durations.items()]
    return sorted((entry for entry in entries if entry.calls), key=lambda entry: entry.total, reverse=True)


def _entry(
    fingerprint: str,
    series: dict[tuple[str, str | None], tuple[list[int], float]],
    rows: dict[tuple[str, str | None], int],
    note: Note,
) -> QueryEntry:
    counts = [0] * (len(catalog.DB_QUERY_DURATION.bounds) + 1)
    uses: dict[str | None, RouteUse] = {}
    total = 0.0
    for (_, route), (some, seconds) in series.items():
        counts = list(map(add, counts, some))
        total += seconds
        use = uses.get(route)
        known = 0 if use is not None else rows.get((fingerprint, route), 0)
        calls = sum(some)
        if calls or use is not None:
            before = use or RouteUse(route, 0, 0.0, 0)
            uses[route] = RouteUse(route, before.calls + calls, before.seconds + seconds, before.rows + known)
    calls = sum(counts)
    return QueryEntry(
        fingerprint=fingerprint,
        summary=next(iter(series))[0],
        text=note.get("text"),
        system=note.get("system"),
        calls=calls,
        total=total,
        mean=total / calls if calls else 0.0,
        p95=quantile(catalog.DB_QUERY_DURATION.bounds, counts, 0.95),
        rows=sum(use.rows for use in uses.values()),
        routes=tuple(sorted(uses.values(), key=lambda use: use.seconds, reverse=True)),
        locations=tuple(note.get("locations", ())),
    )


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The value below which `share` (0-1) of a histogram lies, as Prometheus's ``histogram_quantile`` works it out.

    Linear within a bucket; the highest bound for what lies beyond. None for an empty histogram.
    """
    rank = share * sum(counts)
    if not rank:
        return None
    below = 0
    for place, count in enumerate(counts):
        if count and below + count >= rank:
            if place == len(bounds):
                return bounds[-1]
            low = bounds[place - 1] if place else 0.0
            return low + (bounds[place] - low) * (rank - below) / count
        below += count
    return bounds[-1]


def repeated_queries(families: Iterable[Family] | None = None) -> list[RepeatedQuery]:
    """Every N+1 and every other repeated statement of all workers, the one with most queries first."""
    numbers: dict[tuple[str | None, str], list[int]] = {}
    places = {catalog.DB_N_PLUS_ONE.name: 0, catalog.DB_N_PLUS_ONE_QUERIES.name: 1}
    for family in _families(families):
        place = places.get(family.metric.name)
        for point in family.points if place is not None else ():
            if place is not None and not point.overflow:
                route, relationship = point.values
                pair = numbers.setdefault((_text(route), str(relationship)), [0, 0])
                pair[place] = int(point.value)  # type: ignore[union-attr]
    words = {(note.get("route"), note.get("relationship")): note for note in notes.all("repeat").values()}
    found = []
    for (route, relationship), (requests, queries) in numbers.items():
        note = words.get((route, relationship), {})
        found.append(
            RepeatedQuery(
                route,
                relationship,
                requests,
                queries,
                note.get("fix"),
                note.get("fingerprint"),
                note.get("location"),
            )
        )
    return sorted((each for each in found if each.requests), key=lambda each: each.queries, reverse=True)


def slow_queries() -> list[SlowQuery]:
    """The slowest execution of each statement over the objective, of all workers, the slowest first."""
    found = [
        SlowQuery(
            fingerprint=key,
            summary=str(note.get("summary", "")),
            text=str(note.get("text", "")),
            route=note.get("route"),
            seconds=float(note.get("seconds", 0.0)),
            when=float(note.get("when", 0.0)),
            trace_id=note.get("trace_id"),
            plan=note.get("plan"),
            no_plan=note.get("no_plan"),
            location=note.get("location"),
        )
        for key, note in notes.all("slow").items()
    ]
    return sorted(found, key=lambda each: each.seconds, reverse=True)


def _families(families: Iterable[Family] | None) -> Iterable[Family]:
    return registry().collect() if families is None else families


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
