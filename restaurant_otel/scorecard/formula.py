"""The arithmetic of the score: pure, and the same as that of the recording rules (`restaurant_otel.rules.performance`).

A component's score falls in a straight line from 100 at its objective to 0 at its limit. The total is the weighted
mean of those that are present, capped by the critical ones at half of their score above 50. With too little present
there is no total: missing is never healthy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from restaurant_otel.catalog import DEFAULT_OBJECTIVES, Objective, Objectives


@dataclass(frozen=True, slots=True)
class Reading:
    """What a component measured: `value` in the unit of its objective, from so many `events` (None: not counted)."""

    value: float | None
    events: float | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """A piece of evidence: what it is about, its figure, and what mending it would do for its component.

    `relief` is by how much the component's value would improve, in the component's unit, if this one thing met the
    objective; None where nobody can tell.
    """

    subject: str
    value: float
    unit: str
    relief: float | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a score is made from: a reading for each component, and facts by kind, the weightiest first.

    `at`: seconds since the epoch. `service`: whose numbers these are, where there are several.
    """

    readings: Mapping[str, Reading]
    facts: Mapping[str, tuple[Fact, ...]] = field(default_factory=dict)
    at: float = 0.0
    service: str = ""


class Band(Enum):
    """How good a total is, in a word."""

    GOOD = "good"
    FAIR = "fair"
    POOR = "poor"
    UNKNOWN = "unknown"
    """Too little is known for a total."""


@dataclass(frozen=True, slots=True)
class Component:
    """One line of a scorecard.

    `value` is None where it is missing, and `why` says for what reason; `points` (0 to 100) then is None too.
    `recoverable`: the points of the mean that are lost here.
    """

    objective: Objective
    value: float | None
    points: float | None
    recoverable: float
    why: str = ""

    @property
    def name(self) -> str:
        """The component's name."""
        return self.objective.component

    @property
    def weight(self) -> float:
        """Its weight, which counts where there is a value."""
        return self.objective.weight


@dataclass(frozen=True, slots=True)
class Scorecard:
    """A score and how it came about. `total` is None where the coverage is too low.

    `mean` is the total before the cap; `capped_by` the critical component whose cap is lower than that.
    """

    total: float | None
    band: Band
    coverage: float
    components: tuple[Component, ...]
    mean: float | None
    capped_by: str | None
    at: float = 0.0
    service: str = ""

    def __getitem__(self, name: str) -> Component:
        """The component of that name; KeyError if there is none."""
        for component in self.components:
            if component.name == name:
                return component
        raise KeyError(name)


def points(value: float, objective: Objective) -> float:
    """A component's score for a value: 0 to 100, NaN for NaN. In both directions."""
    score = 100 * (objective.limit - value) / (objective.limit - objective.objective)
    return score if math.isnan(score) else min(100.0, max(0.0, score))


def score(snapshot: Snapshot, objectives: Objectives = DEFAULT_OBJECTIVES) -> Scorecard:
    """The scorecard of a snapshot. Pure; never raises for missing, infinite or undefined values."""
    judged = [
        _judge(objective, snapshot.readings.get(objective.component)) for objective in objectives.components
    ]
    counted = [(objective, value, why) for objective, value, why in judged if objective.weight > 0]
    every_weight = sum(objective.weight for objective, _, _ in counted)
    weights = sum(objective.weight for objective, value, _ in counted if value is not None)
    components = []
    lost = 0.0
    for objective, value, why in counted:
        its_points = None if value is None else points(value, objective)
        recoverable = 0.0 if its_points is None else objective.weight * (100 - its_points) / weights
        lost += 0.0 if its_points is None else objective.weight * its_points
        components.append(Component(objective, value, its_points, recoverable, why))
    coverage = weights / every_weight if every_weight else 0.0
    mean = lost / weights if weights else None
    cap, capping = _cap(components)
    total = None
    if mean is not None and coverage >= objectives.coverage:
        total = math.floor(min(mean, cap) * 10 + 0.5) / 10  # halves up, as PromQL's round does
    capped_by = capping if total is not None and mean is not None and cap < mean else None
    return Scorecard(
        total,
        band(total, objectives),
        coverage,
        tuple(components),
        mean,
        capped_by,
        snapshot.at,
        snapshot.service,
    )


def band(total: float | None, objectives: Objectives = DEFAULT_OBJECTIVES) -> Band:
    """The band of a total."""
    if total is None:
        return Band.UNKNOWN
    if total >= objectives.good:
        return Band.GOOD
    return Band.FAIR if total >= objectives.fair else Band.POOR


def total_if(card: Scorecard, objectives: Objectives, component: str, value: float) -> float | None:
    """What the total would be, were one component's value this one and all else as it is."""
    readings = {each.name: Reading(each.value) for each in card.components if each.value is not None}
    readings[component] = Reading(value)
    return score(Snapshot(readings), objectives).total


def _judge(objective: Objective, reading: Reading | None) -> tuple[Objective, float | None, str]:
    if reading is None or reading.value is None or not math.isfinite(reading.value):
        return objective, None, "no data"
    if reading.events is not None and reading.events < objective.minimum:
        return (
            objective,
            None,
            f"{reading.events:.0f} in {objective.window}, fewer than {objective.minimum:g}",
        )
    return objective, reading.value, ""


def _cap(components: list[Component]) -> tuple[float, str | None]:
    critical = [each for each in components if each.objective.critical and each.points is not None]
    if not critical:
        return math.inf, None
    worst = min(critical, key=lambda each: each.points or 0.0)
    return 50 + 0.5 * (worst.points or 0.0), worst.name
