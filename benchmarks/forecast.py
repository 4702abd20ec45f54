"""Which forecast of load is worth having: each model against repeating the last week.

Two traces are recorded: a month each of a public web server's requests an hour (`traces/README.md` says whose). One is
made by `make_trace` here: six weeks with two peaks a day, other weekends, slow growth, noise that grows with load, a
holiday, an outage and a campaign. From each midnight after the first two weeks every model forecasts 24 hours from what
came before; the error is the mean absolute one, as a share of the mean load. The recorded traces decide, together;
of models as good as each other the plainest is taken.

    python -m benchmarks.forecast            the table
    python -m benchmarks.forecast --write    make the generated trace anew
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Final

from restaurant_otel.scorecard.forecast import (
    DAY,
    WEEK,
    holt_winters,
    predict_load,
    seasonal_naive,
)

TRACES: Final = Path(__file__).parent / "traces"
RECORDED: Final = ("nasa-1995-07", "nasa-1995-08")
GENERATED: Final = "generated"
WEEKS: Final = 6

Model = Callable[[Sequence[float], int], list[float]]

MODELS: Final[dict[str, Model]] = {
    "the last day again": lambda values, horizon: seasonal_naive(values, horizon, DAY),
    "the last week again": lambda values, horizon: seasonal_naive(values, horizon, WEEK),
    "Holt-Winters, by day": lambda values, horizon: holt_winters(values, horizon, DAY),
    "Holt-Winters, by week": lambda values, horizon: holt_winters(values, horizon, WEEK),
    "the mean week at yesterday's level": predict_load,
}
BASE: Final = "the last week again"
OURS: Final = "the mean week at yesterday's level"


def make_trace(seed: int = 20_261) -> list[int]:
    """Requests an hour of a restaurant's site."""
    dice = random.Random(seed)
    trace = []
    for hour in range(WEEKS * WEEK):
        day, of_day = divmod(hour, DAY)
        weekend = day % 7 >= 5
        lunch = math.exp(-(((of_day - 12.5) / 1.8) ** 2)) * (0.7 if weekend else 1.0)
        dinner = math.exp(-(((of_day - 19.5) / 2.2) ** 2)) * (1.6 if weekend else 1.1)
        load = (400 + 9_000 * lunch + 11_000 * dinner) * (1 + 0.004 * day)
        if day == 26:
            load *= 0.35  # a holiday
        if day in (33, 34, 35):
            load *= 1.4  # a campaign
        if day == 30 and of_day in (12, 13):
            load *= 0.05  # an outage
        trace.append(max(0, round(dice.gauss(load, 0.07 * load + 15))))
    return trace


def read_trace(name: str) -> list[float]:
    """A committed trace."""
    text = (TRACES / f"{name}.csv").read_text(encoding="utf-8")
    return [float(line) for line in text.splitlines()[1:]]


def error_of(model: Model, trace: Sequence[float], first_week: int = 2) -> float:
    """Mean absolute error of all forecasts of a day from `first_week` on, as a share of the mean load."""
    errors = []
    for start in range(first_week * WEEK, len(trace), DAY):
        forecast = model(trace[:start], DAY)
        errors += [abs(a - b) for a, b in zip(forecast, trace[start : start + DAY], strict=True)]
    return fmean(errors) / fmean(trace[first_week * WEEK :])


def errors() -> dict[str, list[float]]:
    """Each model's error on both recorded traces together, on each of them, and on the generated one."""
    traces = [read_trace(name) for name in (*RECORDED, GENERATED)]
    found = {}
    for name, model in MODELS.items():
        each = [error_of(model, trace) for trace in traces]
        found[name] = [fmean(each[: len(RECORDED)]), *each]
    return dict(sorted(found.items(), key=lambda entry: entry[1]))


def main(arguments: list[str] | None = None) -> int:
    """The table; 1 if the model in use is not the best on what was recorded."""
    parser = argparse.ArgumentParser(description="Compare forecasts of load.")
    parser.add_argument("--write", action="store_true", help="make the generated trace anew")
    if parser.parse_args(arguments).write:
        lines = "".join(f"{value}\n" for value in make_trace())
        (TRACES / f"{GENERATED}.csv").write_text(f"requests_per_hour\n{lines}", encoding="utf-8")
    found = errors()
    heads = ("recorded", "July", "August", "generated")
    print(f"{'error, of the mean load':36}", *(f"{head:>10}" for head in heads))
    for name, shares in found.items():
        print(f"{name:36}", *(f"{share:10.1%}" for share in shares))
    return int(next(iter(found)) != OURS)


if __name__ == "__main__":
    sys.exit(main())
