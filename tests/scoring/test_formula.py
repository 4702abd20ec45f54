"""The formula: straight lines in both directions, what is missing, the cap, the bands. And what to do first."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restaurant_otel.bundled import runbooks
from restaurant_otel.catalog import COMPONENTS, DEFAULT_OBJECTIVES, Objective
from restaurant_otel.scoring import (
    ADVICE,
    Advice,
    Band,
    Fact,
    Reading,
    Scorecard,
    Snapshot,
    band,
    points,
    recommend,
    score,
)

PERFECT = {objective.component: objective.objective for objective in COMPONENTS}

any_objective = st.sampled_from(COMPONENTS)
values = st.floats(0, 20, allow_nan=False)
readings = st.dictionaries(
    st.sampled_from([each.component for each in COMPONENTS]),
    st.one_of(st.none(), st.floats(0, 20), st.just(math.nan), st.just(math.inf)),
)


def card_of(**changed: float | None) -> Scorecard:
    """The scorecard of a perfect service, but for these components."""
    return score(Snapshot({name: Reading(value) for name, value in {**PERFECT, **changed}.items()}))


# --- points -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", COMPONENTS, ids=lambda each: each.component)
def test_a_component_has_100_points_at_its_objective_none_at_its_limit_and_half_between(
    objective: Objective,
) -> None:
    assert points(objective.objective, objective) == 100
    assert points(objective.limit, objective) == 0
    assert points((objective.objective + objective.limit) / 2, objective) == pytest.approx(50)


@given(any_objective, values, values)
def test_better_is_never_worth_less(objective: Objective, one: float, other: float) -> None:
    worse, better = sorted((one, other), reverse=not objective.higher_is_better)
    assert 0 <= points(worse, objective) <= points(better, objective) <= 100


# --- the total --------------------------------------------------------------------------------------------


def test_a_perfect_service_has_100_and_one_at_all_its_limits_none() -> None:
    assert card_of().total == 100
    worst = score(Snapshot({each.component: Reading(each.limit) for each in COMPONENTS}))
    assert (worst.total, worst.band) == (0, Band.POOR)


def test_the_total_is_the_weighted_mean() -> None:
    card = card_of(api=0.5, cpu=0.9)  # half of 20, all of 6
    assert card.total == 84
    assert card["api"].recoverable == pytest.approx(10)
    assert card["cpu"].recoverable == pytest.approx(6)
    assert sum(each.recoverable for each in card.components) == pytest.approx(100 - card.total)


def test_what_is_missing_does_not_count_and_too_much_of_it_leaves_no_score() -> None:
    card = card_of(cpu=None, memory=None)
    assert (card.total, card.coverage) == (100, pytest.approx(0.88))
    assert card["cpu"].why == "no data"
    missing = card_of(availability=None, errors=None, api=None)
    assert (missing.total, missing.band) == (None, Band.UNKNOWN)
    assert missing.coverage == pytest.approx(0.4)
    nothing = score(Snapshot({}))
    assert (nothing.total, nothing.coverage, nothing.mean) == (None, 0, None)


def test_a_share_of_too_few_says_nothing() -> None:
    few = score(Snapshot({"errors": Reading(0.5, events=19)}))
    assert few["errors"].value is None
    assert few["errors"].why == "19 in 5m, fewer than 20"
    assert score(Snapshot({"errors": Reading(0.5, events=20)}))["errors"].points == 0


def test_a_critical_component_caps_the_total() -> None:
    card = card_of(errors=0.05)
    assert (card.total, card.capped_by) == (50, "errors")
    assert card.mean == pytest.approx(80)
    assert card_of(errors=0.03).total == 75
    assert card_of(api=0.8).capped_by is None


@given(readings)
def test_whatever_is_measured_there_is_a_score_from_0_to_100_or_none(
    measured: dict[str, float | None],
) -> None:
    card = score(Snapshot({name: Reading(value) for name, value in measured.items()}))
    assert 0 <= card.coverage <= 1
    if card.total is None:
        assert card.band is Band.UNKNOWN
        assert card.coverage < 0.5
    else:
        assert 0 <= card.total <= 100
        assert card.total == pytest.approx(round(card.total, 1))


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (100, Band.GOOD),
        (90, Band.GOOD),
        (89.9, Band.FAIR),
        (60, Band.FAIR),
        (59.9, Band.POOR),
        (0, Band.POOR),
    ],
)
def test_bands_begin_at_90_and_60(total: float, expected: Band) -> None:
    assert band(total) is expected


# --- recommendations --------------------------------------------------------------------------------------


def advise(
    facts: dict[str, tuple[Fact, ...]], *own: Advice, **changed: float | None
) -> list[tuple[str, float]]:
    snapshot = Snapshot({name: Reading(value) for name, value in {**PERFECT, **changed}.items()}, facts)
    found = recommend(score(snapshot), snapshot, DEFAULT_OBJECTIVES, (*own, *ADVICE))
    return [(each.advice.name, round(each.gain, 1)) for each in found]


def test_what_would_give_most_comes_first_and_what_gives_nothing_does_not_come() -> None:
    assert advise({}, api=0.5, memory=0.95, page=2.1) == [("slow-requests", 10), ("memory", 6)]
    assert advise({}) == []


def test_evidence_says_how_much_mending_it_would_give() -> None:
    route = Fact("/report", 3.0, "s", relief=0.15)  # of the 0.3 s above the objective
    assert advise({"slow_routes": (route,)}, api=0.5) == [("slow-routes", 5)]
    nowhere = Fact("Menu.dishes", 40, "{time}")
    assert advise({"n_plus_one": (nowhere,)}, database=0.25) == [("n-plus-one", 6)]


def test_what_caps_the_total_comes_first_and_nothing_else_gives_anything_until_it_is_mended() -> None:
    assert advise({}, errors=0.05, api=0.8) == [("errors", 30), ("slow-requests", 0)]


def test_without_a_score_nothing_is_recommended() -> None:
    assert advise({}, availability=None, errors=None, api=None, memory=0.95) == []


def test_a_team_may_add_advice_of_its_own() -> None:
    own = Advice("ask-the-bakers", "database", "statements", "Ask the bakers.", "https://wiki/bakers")
    slow = {"statements": (Fact("SELECT menu", 0.9, "s"),)}
    assert [name for name, _ in advise(slow, own, database=0.4)] == ["ask-the-bakers", "slow-statements"]


@pytest.mark.parametrize("advice", ADVICE, ids=lambda advice: advice.name)
def test_each_piece_of_advice_has_a_component_and_a_runbook(advice: Advice) -> None:
    assert advice.component in {each.component for each in COMPONENTS}
    assert (runbooks() / f"{advice.runbook}.md").is_file()


def test_each_component_has_advice_that_needs_no_evidence() -> None:
    assert {each.component for each in ADVICE if not each.evidence} == {each.component for each in COMPONENTS}
