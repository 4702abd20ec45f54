"""Looking ahead: when something runs out, and how much load comes.

What runs out is told by a straight line that a single leap does not bend (the median of slopes). Load has days and
weeks in it: `predict_load` repeats the mean week, at the level of the last day. That is the plainest model that beats
repeating the last week on recorded traces; Holt-Winters, which is here to be compared with, does not beat it.
`python -m benchmarks.forecast` shows both. Pure; plain floats, no dependency.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Final

Samples = Sequence[tuple[float, float]]
"""(seconds, value), in order of time."""

DAY: Final = 24
WEEK: Final = 7 * DAY
MOST_POINTS: Final = 200


def slope(samples: Samples) -> float | None:
    """By how much a second the values grow: the median of the slopes between all pairs (Theil and Sen).

    Of more than 200 samples every so-many-th is taken. None for fewer than two moments.
    Source: https://en.wikipedia.org/wiki/Theil%E2%80%93Sen_estimator
    """
    step = -(-len(samples) // MOST_POINTS)
    some = samples[:: step or 1]
    slopes = [(b - a) / (later - at) for (at, a), (later, b) in itertools.combinations(some, 2) if later > at]
    return median(slopes) if slopes else None


def seconds_until(limit: float, samples: Samples) -> float | None:
    """In how many seconds the line through the samples reaches `limit` from below; None if it does not.

    0 where it has been reached.
    """
    if samples and samples[-1][1] >= limit:
        return 0.0
    growth = slope(samples)
    if not samples or growth is None or growth <= 0:
        return None
    middle = median(value - growth * at for at, value in samples)
    return max(0.0, (limit - middle) / growth - samples[-1][0])


def seconds_of_budget(remaining: float, burn_rate: float, period: float = 30 * 86_400.0) -> float | None:
    """How long an error budget lasts at a burn rate (1: just the `period`); None if it is not burning."""
    if burn_rate <= 0:
        return None
    return max(0.0, remaining) * period / burn_rate


# --- load -------------------------------------------------------------------------------------------------


def seasonal_naive(values: Sequence[float], horizon: int, season: int) -> list[float]:
    """What was one season ago. Raises ValueError for less than one season."""
    _enough(values, season)
    return [values[len(values) - season + step % season] for step in range(horizon)]


def seasonal_mean(
    values: Sequence[float | None], horizon: int, season: int = WEEK, recent: int = DAY
) -> list[float]:
    """The mean season, at the level of the last `recent` values; None stands for what nobody knows.

    Raises ValueError for less than one season.
    """
    _enough(values, season)
    first = len(values) % season
    columns = [
        [each for each in values[slot::season] if each is not None] for slot in range(first, first + season)
    ]
    whole = [each for column in columns for each in column]
    usual = fmean(whole) if whole else 0.0
    profile = [fmean(column) if column else usual for column in columns]
    known = [(had, profile[at]) for at, had in enumerate(values[-recent:], -recent) if had is not None]
    expected = sum(mean for _, mean in known)
    level = sum(had for had, _ in known) / expected if expected > 0 else 1.0
    return [profile[step % season] * level for step in range(horizon)]


@dataclass(frozen=True, slots=True)
class Smoothing:
    """How fast Holt and Winters forget: level, trend, season, each from 0 (never) to 1 (at once)."""

    level: float
    trend: float
    season: float


GRID: Final = tuple(
    Smoothing(*each) for each in itertools.product((0.05, 0.2, 0.5), (0.0, 0.01), (0.05, 0.2, 0.5))
)


def holt_winters(
    values: Sequence[float], horizon: int, season: int = WEEK, smoothing: Smoothing | None = None
) -> list[float]:
    """Additive triple exponential smoothing; without `smoothing` the one that fits best, of `GRID`.

    Raises ValueError for less than two seasons.
    Source: Winters, Forecasting Sales by Exponentially Weighted Moving Averages (1960)
    """
    _enough(values, 2 * season)
    best = smoothing or min(GRID, key=lambda each: _smooth(values, season, each)[0])
    _, level, trend, seasonal = _smooth(values, season, best)
    return [
        max(0.0, level + (step + 1) * trend + seasonal[(len(values) + step) % season])
        for step in range(horizon)
    ]


def _smooth(values: Sequence[float], season: int, by: Smoothing) -> tuple[float, float, float, list[float]]:
    """Squared errors one step ahead, and level, trend and season at the end."""
    level = fmean(values[:season])
    trend = (fmean(values[season : 2 * season]) - level) / season
    seasonal = [value - level for value in values[:season]]
    errors = 0.0
    for at in range(season, len(values)):
        slot = at % season
        errors += (values[at] - level - trend - seasonal[slot]) ** 2
        before = level
        level = by.level * (values[at] - seasonal[slot]) + (1 - by.level) * (level + trend)
        trend = by.trend * (level - before) + (1 - by.trend) * trend
        seasonal[slot] = by.season * (values[at] - level) + (1 - by.season) * seasonal[slot]
    return errors, level, trend, seasonal


def predict_load(hours: Sequence[float | None], horizon: int = DAY) -> list[float]:
    """The load of the next hours from that of the last ones, at least a day's; a week's or more is better.

    None stands for an hour that nobody knows. Raises ValueError for less than a day.
    """
    return seasonal_mean(hours, horizon, WEEK if len(hours) >= WEEK else DAY)


def _enough(values: Sequence[float | None], least: int) -> None:
    if len(values) < least:
        raise ValueError(f"{len(values)} values are too few: a forecast needs {least}")
