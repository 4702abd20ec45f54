"""The score of an app, 0 to 100, how it came about, and what to do about it.

`score(snapshot, objectives)` is pure. A snapshot comes from this app's own workers (`current_snapshot`) or, for a
fleet, from anything that answers as Prometheus does (`restaurant_otel.scorecard.fleet`). docs/score.md has the formula;
the recording rules in ``dashboards/prometheus`` are the same arithmetic: every face of it shows one figure.
"""

from __future__ import annotations

from restaurant_otel.catalog.objectives import DEFAULT_OBJECTIVES, Objective, Objectives, Slo
from restaurant_otel.scorecard.advice import ADVICE, Advice, Recommendation, recommend
from restaurant_otel.scorecard.files import Goals, ObjectivesError, load
from restaurant_otel.scorecard.formula import (
    Band,
    Component,
    Fact,
    Reading,
    Scorecard,
    Snapshot,
    band,
    points,
    score,
)

__all__ = [
    "ADVICE",
    "DEFAULT_OBJECTIVES",
    "Advice",
    "Band",
    "Component",
    "Fact",
    "Goals",
    "Objective",
    "Objectives",
    "ObjectivesError",
    "Reading",
    "Recommendation",
    "Scorecard",
    "Slo",
    "Snapshot",
    "band",
    "current_goals",
    "current_recommendations",
    "current_score",
    "current_snapshot",
    "load",
    "points",
    "recommend",
    "score",
    "trend",
]


def current_goals() -> Goals:
    """What this app is measured by: the setting `objectives`, or the defaults."""
    from restaurant_otel.scorecard.keeper import keeper

    return keeper().goals


def current_snapshot() -> Snapshot:
    """What the last minutes of this app were like, all workers together. Takes what one scrape takes. Any thread."""
    from restaurant_otel.scorecard.keeper import keeper

    return keeper().snapshot()


def current_score() -> Scorecard:
    """The score of this app now, all workers together, by the objectives it was started with. Any thread."""
    from restaurant_otel.scorecard.keeper import keeper

    return keeper().current()


def current_recommendations() -> tuple[Scorecard, list[Recommendation]]:
    """The score of this app now, and what to do about it, from one look at the numbers. Any thread."""
    from restaurant_otel.scorecard.keeper import keeper

    goals, snapshot = keeper().goals, keeper().snapshot()
    card = score(snapshot, goals.objectives)
    return card, recommend(card, snapshot, goals.objectives, goals.advice)


def trend() -> list[tuple[float, float]]:
    """The score of up to the last day, every five minutes: (seconds since the epoch, total). Any thread."""
    from restaurant_otel.scorecard.keeper import keeper

    return keeper().trend()
