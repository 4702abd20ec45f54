"""Recommendations: what to do first, how much it would give, and what shows it.

What is recommended when is data: `ADVICE`, and what a team adds of its own (`[[advice]]` in the objectives file).
A piece of advice applies when its component loses points and there is evidence of its kind; a component that loses
points and has no such evidence gets the advice that asks for none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from restaurant_otel.catalog import DEFAULT_OBJECTIVES, Objectives
from restaurant_otel.scorecard.formula import Component, Fact, Scorecard, Snapshot, total_if

LEAST_POINTS: Final = 1.0
"""Below this nobody should be sent looking."""


@dataclass(frozen=True, slots=True)
class Advice:
    """A rule: for `component`, where there is `evidence` of this kind, do `action`.

    `evidence` is a key of `Snapshot.facts`; empty: none is needed. `runbook` is a page of docs/runbooks, or a URL.
    """

    name: str
    component: str
    evidence: str
    action: str
    runbook: str


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One thing to do.

    `recoverable`: the points of the mean that the component loses. `gain`: by how much the total would rise if the
    things in `evidence` met the objective (the whole component, where that cannot be told): none while another
    component caps the total, which then is what to mend first. `confidence`: the share of the score that is known.
    """

    advice: Advice
    component: str
    gain: float
    recoverable: float
    evidence: tuple[Fact, ...]
    confidence: float


ADVICE: Final = (
    Advice(
        "failing-routes",
        "errors",
        "failing_routes",
        "Mend the routes that fail most: open their traces, start with the exception that is most frequent.",
        "high-error-ratio",
    ),
    Advice("errors", "errors", "", "Find out what fails: look at failed traces.", "high-error-ratio"),
    Advice(
        "availability",
        "availability",
        "",
        "Find out when the last hour's failures happened, and what was deployed or broke then.",
        "availability-burn",
    ),
    Advice(
        "slow-routes",
        "api",
        "slow_routes",
        "Speed up the routes that cost most of the time above the objective: first their queries, then by caching.",
        "slow-requests",
    ),
    Advice(
        "slow-requests",
        "api",
        "",
        "Many routes are a little slow: look at CPU, pool and event loop.",
        "slow-requests",
    ),
    Advice(
        "n-plus-one",
        "database",
        "n_plus_one",
        "Load these relationships together (selectinload, joinedload) instead of one by one.",
        "n-plus-one",
    ),
    Advice(
        "slow-statements",
        "database",
        "statements",
        "Give the costliest statements an index or a better plan: `restaurant-otel advise` says which.",
        "slow-database",
    ),
    Advice(
        "database",
        "database",
        "",
        "Look for locks, a full pool or a slow disk at the database.",
        "slow-database",
    ),
    Advice(
        "slow-pages",
        "page",
        "slow_pages",
        "Make the slowest pages lighter: cache what all visitors share, load the rest later.",
        "slow-pages",
    ),
    Advice("pages", "page", "", "Look at the slowest traces of pages.", "slow-pages"),
    Advice(
        "cache-groups",
        "cache",
        "cache_groups",
        "Look at the groups that miss most: longer expiry, earlier refresh, or no cache where keys never repeat.",
        "cache-hits-low",
    ),
    Advice(
        "cache", "cache", "", "Find out why lookups miss: expiry, evictions, or Redis away.", "cache-hits-low"
    ),
    Advice(
        "busy-hosts",
        "cpu",
        "busy_hosts",
        "Spread the load or add hosts; a profile of the busiest worker shows what the CPU does.",
        "cpu-high",
    ),
    Advice("cpu", "cpu", "", "Profile the busiest worker, or add workers and hosts.", "cpu-high"),
    Advice(
        "memory-leak",
        "memory",
        "leaks",
        "A worker's memory grows steadily: find what it keeps (tracemalloc), recycle workers meanwhile.",
        "memory-leak",
    ),
    Advice(
        "full-hosts",
        "memory",
        "full_hosts",
        "Give the fullest hosts fewer workers or more memory.",
        "memory-high",
    ),
    Advice("memory", "memory", "", "Fewer workers, smaller caches in memory, or more memory.", "memory-high"),
)
"""What comes with the library, the most telling evidence of a component first."""


def recommend(
    card: Scorecard,
    snapshot: Snapshot,
    objectives: Objectives = DEFAULT_OBJECTIVES,
    advice: Sequence[Advice] = ADVICE,
) -> list[Recommendation]:
    """What to do, by what it would give; pure. Nothing where there is no score, or nothing is worth a point."""
    if card.total is None:
        return []
    found = []
    for component in card.components:
        if component.recoverable >= LEAST_POINTS or (component.name == card.capped_by):
            for each in _applying(component, snapshot, advice):
                evidence = snapshot.facts.get(each.evidence, ()) if each.evidence else ()
                gain = _gain(card, objectives, component, evidence)
                found.append(
                    Recommendation(
                        each, component.name, gain, component.recoverable, tuple(evidence), card.coverage
                    )
                )
    # The gain, before rounding noise; what caps the total comes before what it hides.
    found.sort(key=lambda each: (-round(each.gain, 6), -round(each.recoverable, 6)))
    return found


def _applying(component: Component, snapshot: Snapshot, advice: Sequence[Advice]) -> list[Advice]:
    its = [each for each in advice if each.component == component.name]
    shown = [each for each in its if each.evidence and snapshot.facts.get(each.evidence)]
    return shown or [each for each in its if not each.evidence]


def _gain(card: Scorecard, objectives: Objectives, component: Component, evidence: Sequence[Fact]) -> float:
    assert card.total is not None and component.value is not None  # noqa: S101, PT018 - asked before
    objective = component.objective
    reliefs = [fact.relief for fact in evidence]
    if reliefs and all(relief is not None for relief in reliefs):
        relief = sum(relief for relief in reliefs if relief is not None)
        value = component.value + (relief if objective.higher_is_better else -relief)
    else:
        value = objective.objective
    better = total_if(card, objectives, component.name, value)
    return max(0.0, (better or 0.0) - card.total)
