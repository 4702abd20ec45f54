"""Looking ahead: lines that leaps do not bend, budgets, and a model of load that is worth having."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.forecast import BASE, GENERATED, OURS, errors, make_trace, read_trace
from restaurant_otel.scorecard.forecast import (
    DAY,
    WEEK,
    Smoothing,
    holt_winters,
    predict_load,
    seconds_of_budget,
    seconds_until,
    slope,
)


@given(st.floats(1e-3, 1e3), st.floats(0, 1e3), st.integers(2, 400))
def test_a_line_is_followed_to_its_limit(growth: float, begin: float, number: int) -> None:
    samples = [(float(at), begin + growth * at) for at in range(number)]
    assert slope(samples) == pytest.approx(growth, rel=1e-6)
    last = samples[-1][1]
    assert seconds_until(last + 10 * growth, samples) == pytest.approx(10, rel=1e-3)


def test_a_leap_and_noise_do_not_bend_the_line() -> None:
    dice = random.Random(1)
    samples = [(60.0 * at, 0.5 + 0.0001 * at + dice.gauss(0, 0.001)) for at in range(360)]
    samples[100:110] = [(at, 0.9) for at, _ in samples[100:110]]  # somebody's backup
    seconds = seconds_until(1.0, samples)
    assert seconds == pytest.approx((1 - 0.536) / 0.0001 * 60, rel=0.1)


def test_what_does_not_grow_does_not_run_out() -> None:
    assert seconds_until(1.0, []) is None
    assert seconds_until(1.0, [(0, 0.5)]) is None
    assert seconds_until(1.0, [(0, 0.5), (60, 0.4)]) is None
    assert seconds_until(1.0, [(0, 0.5), (60, 1.0)]) == 0


def test_a_budget_lasts_its_period_at_rate_one_and_not_at_all_when_it_is_gone() -> None:
    assert seconds_of_budget(1, 1) == 30 * 86_400
    assert seconds_of_budget(0.5, 14.4) == pytest.approx(90_000)
    assert seconds_of_budget(-0.2, 2) == 0
    assert seconds_of_budget(0.5, 0) is None


def test_the_model_in_use_beats_repeating_the_last_week_and_all_others_on_what_was_recorded() -> None:
    found = errors()
    recorded = {name: each[0] for name, each in found.items()}
    assert recorded[OURS] == min(recorded.values())
    for ours, base in zip(found[OURS], found[BASE], strict=True):  # and on each trace by itself
        assert ours < 0.9 * base


def test_the_generated_trace_is_the_one_that_the_benchmark_makes() -> None:
    assert read_trace(GENERATED) == make_trace()


def test_what_repeats_is_repeated_at_the_level_of_the_last_day() -> None:
    week = [float(10 + hour % DAY + (50 if hour >= 5 * DAY else 0)) for hour in range(WEEK)]
    assert predict_load(week * 3) == pytest.approx(week[:DAY])
    grown = [*week * 2, *(value * 2 for value in week[:DAY])]
    assert predict_load(grown) == pytest.approx([2 * value for value in week[DAY : 2 * DAY]], rel=0.4)
    assert predict_load([5.0] * 30) == [5.0] * DAY
    with pytest.raises(ValueError, match="too few"):
        predict_load([1.0] * 23)


def test_hours_of_which_nothing_is_known_move_no_other_hour() -> None:
    week: list[float | None] = [
        float(10 + hour % DAY + (50 if hour >= 5 * DAY else 0)) for hour in range(WEEK)
    ]
    gaps = [*week * 2]
    gaps[30:41] = [None] * 11  # Prometheus was away
    gaps[-5:] = [None] * 5
    assert predict_load(gaps) == pytest.approx(week[:DAY])
    assert predict_load([*[7.0] * DAY, *[None] * DAY]) == [7.0] * DAY
    assert predict_load([None] * DAY) == [0.0] * DAY


def test_holt_and_winters_follow_a_trend_with_seasons() -> None:
    values = [100 + 0.5 * at + (20 if at % 4 == 0 else 0) for at in range(80)]
    expected = [100 + 0.5 * at + (20 if at % 4 == 0 else 0) for at in range(80, 88)]
    assert holt_winters(values, 8, season=4, smoothing=Smoothing(0.2, 0.1, 0.2)) == pytest.approx(
        expected, rel=0.02
    )
