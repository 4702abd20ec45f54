"""What shows where points are lost: the few things that weigh most, of each kind.

Plain figures in, facts out, wherever the figures come from (`cells`, `fleet`). Counts may as well be rates: only their
proportions matter. A fact's relief is what the component's value would gain if that one thing met the objective.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from restaurant_otel.catalog import Objective
from restaurant_otel.scorecard.formula import Fact

PAGE_SHARE: Final = 0.9
"""The page component looks at the slowest tenth."""

MOST_FACTS: Final = 5
"""Of each kind."""

Key = tuple[str, ...]


def failing(requests: Mapping[Key, Sequence[float]]) -> tuple[Fact, ...]:
    """Of (count, failed, seconds) by route: those that fail most, with the share of their requests that failed."""
    every = sum(each[0] for each in requests.values())
    return _top(
        (failed, Fact(_named(key), failed / count if count else 1.0, "1", failed / every))
        for key, (count, failed, _) in requests.items()
        if every
    )


def slow(items: Iterable[tuple[Key, Sequence[float]]], objective: Objective) -> tuple[Fact, ...]:
    """Of (count, seconds) by route or statement: whose mean is above the objective, by all the time above it."""
    items = list(items)
    every = sum(each[0] for _, each in items)

    def facts() -> Iterator[tuple[float, Fact]]:
        for key, (count, total) in items:
            above = total - count * objective.objective
            if count and above > 0:
                yield above, Fact(_named(key), total / count, "s", above / every)

    return _top(facts())


def slow_pages(pages: Iterable[tuple[str, float, float]], objective: Objective) -> tuple[Fact, ...]:
    """Of (route, time that the slowest tenth exceeds, loads): who misses the objective, by time and loads."""
    return _top(
        (time * loads, Fact(_named((route,)), time, "s"))
        for route, time, loads in pages
        if time > objective.objective
    )


def missing(groups: Mapping[Key, Sequence[float]], objective: Objective) -> tuple[Fact, ...]:
    """Of (lookups, answered) by cache and group: which lie below the objective, by what they lack."""
    every = sum(each[0] for each in groups.values())

    def facts() -> Iterator[tuple[float, Fact]]:
        for key, (count, answered) in groups.items():
            lacking = objective.objective * count - answered
            if lacking > 0:
                yield lacking, Fact(_named(key), answered / count, "1", lacking / every)

    return _top(facts())


def most(counts: Mapping[Key, Sequence[float]]) -> tuple[Fact, ...]:
    """Of (count,): what happened most often."""
    return _top((each[0], Fact(_named(key), each[0], "{time}")) for key, each in counts.items())


def leaks(slopes: Iterable[tuple[str, float]]) -> tuple[Fact, ...]:
    """Of bytes a second by worker: what grows fastest, in bytes an hour."""
    return _top((slope, Fact(name, slope * 3600, "By/h")) for name, slope in slopes)


def above(values: Iterable[tuple[str, float]], objective: Objective, unit: str) -> tuple[Fact, ...]:
    """Of figures by name: those above the objective."""
    return _top((value, Fact(name, value, unit)) for name, value in values if value > objective.objective)


def looked_at(route: str, objective: Objective) -> bool:
    """Whether a component of requests looks at this route."""
    return (not objective.routes or route in objective.routes) and route not in objective.exclude_routes


def _named(key: Key) -> str:
    return " ".join(filter(None, key)) or "no route"


def _top(facts: Iterable[tuple[float, Fact]]) -> tuple[Fact, ...]:
    return tuple(fact for weight, fact in sorted(facts, key=lambda each: -each[0])[:MOST_FACTS] if weight > 0)


def quantile(share: float, counts: Sequence[float], bounds: Sequence[float]) -> float:
    """The value that `share` of the measurements do not exceed, as PromQL's histogram_quantile has it; NaN for none.

    `counts` has one more than `bounds`, and is not cumulative. Between a bucket's bounds measurements are taken to be
    spread evenly; above the last bound nothing is known but the bound.
    Source: https://github.com/prometheus/prometheus/blob/main/promql/quantile.go
    """
    every = sum(counts)
    if not every:
        return math.nan
    rank = share * every
    below = 0.0
    for place, bound in enumerate(bounds):
        if below + counts[place] >= rank:
            if place == 0 and bound <= 0:
                return bound
            lower = bounds[place - 1] if place else 0.0
            return lower + (bound - lower) * ((rank - below) / counts[place])
        below += counts[place]
    return bounds[-1]
