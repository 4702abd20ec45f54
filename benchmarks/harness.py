"""Variants side by side: rounds in random order, medians, ratios, and the promises they are held to.

What every benchmark of this folder shares, and nothing about what is measured. A benchmark hands `measure`
its variants, makes `Figure`s of the costs, and ends with `report`:

    options = harness.options(__doc__)
    variants = [Variant("bare", bare), Variant("ours", ours), Variant("peer", peer)]
    costs = harness.measure(variants, number=200, rounds=options.rounds)
    figures = [Figure("ours / peer", costs.ratio("ours", "peer", over="bare"), goal=0.10, aim=0.05)]
    sys.exit(harness.report("A title", costs, figures, options, over="bare"))

Run benchmarks as modules, from the folder above: ``python -m benchmarks.http``.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of doing the work: `run(n)` does it n times in a row, and all that follows from it.

    A queue that the work fills is emptied by `run` before it returns; otherwise the next variant pays for it.
    `setting` gives what is to stand around each sample, and is not timed: what is switched on and off again.
    """

    name: str
    run: Callable[[int], object]
    setting: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True, slots=True)
class Summary:
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float
    rounds: int

    @property
    def error(self) -> float:
        """The standard error of the median, as far as the quartiles tell."""
        return 0.93 * (self.high - self.low) / math.sqrt(self.rounds)

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        if len(values) == 1:
            return cls(values[0], values[0], values[0], 1)
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high, len(values))


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with what it must not exceed (`goal`) and what we would like it to be (`aim`)."""

    name: str
    value: float
    goal: float
    aim: float | None = None
    unit: str = "ratio"

    @property
    def holds(self) -> bool:
        return self.value <= self.goal


class Costs:
    """What one operation cost each variant, in microseconds, round by round."""

    def __init__(self, samples: Mapping[str, Sequence[float]]) -> None:
        self.samples = samples

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.samples)

    def cost(self, name: str) -> Summary:
        return Summary.of(self.samples[name])

    def added(self, name: str, over: str) -> Summary:
        """What `name` cost more than `over`, compared within each round, so that a slow spell hits both."""
        pairs = zip(self.samples[name], self.samples[over], strict=True)
        return Summary.of([cost - base for cost, base in pairs])

    def added_at_best(self, name: str, over: str) -> float:
        """What the fastest samples of `name`, a twentieth of them, took more than those of `over`.

        For a few microseconds on top of many: others on the machine can only add to a sample, and add more than that.
        """
        return self.at_best(name) - self.at_best(over)

    def at_best(self, name: str) -> float:
        """The mean of the fastest twentieth of the samples."""
        fastest = sorted(self.samples[name])[: max(1, len(self.samples[name]) // 20)]
        return sum(fastest) / len(fastest)

    def ratio(self, name: str, other: str, *, over: str | None = None) -> float:
        """The median cost of `name` by that of `other`; of what each adds to `over`, if given."""
        if over is None:
            return self.cost(name).median / self.cost(other).median
        return self.added(name, over).median / self.added(other, over).median


def measure(variants: Sequence[Variant], *, number: int, rounds: int, seed: int = 1) -> Costs:
    """Run every variant `number` times in each of `rounds` rounds, each round in another order.

    The clock is the CPU time of the whole process: background threads are paid by whoever caused their
    work, and other processes on the machine disturb little. The collector runs as it would in an app, so
    that a variant pays for the cycles it makes, but each sample starts clean, and what was alive before the
    first is left out.
    """
    shuffle = random.Random(seed).shuffle
    samples: dict[str, list[float]] = {variant.name: [] for variant in variants}
    if len(samples) != len(variants):
        raise ValueError("two variants have the same name")
    for variant in variants:  # warm up: caches, lazy imports, specialised bytecode
        with variant.setting():
            variant.run(number)
    gc.collect()
    gc.freeze()
    try:
        for _ in range(rounds):
            order = list(variants)
            shuffle(order)
            for variant in order:
                with variant.setting():
                    gc.collect()
                    begin = time.process_time_ns()
                    variant.run(number)
                    end = time.process_time_ns()
                samples[variant.name].append((end - begin) / number / 1000)
    finally:
        gc.unfreeze()
    return Costs(samples)


QUICK_ROUNDS = 8


def parser(description: str | None, *, rounds: int = 60) -> argparse.ArgumentParser:
    """The command line that all benchmarks have; add switches of your own, and hand it to `parse`."""
    made = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    made.add_argument("--rounds", type=int, default=rounds, metavar="N", help="rounds to run (%(default)s)")
    made.add_argument("--quick", action="store_true", help="a few rounds only: a first look, not a verdict")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    return made


def parse(made: argparse.ArgumentParser) -> argparse.Namespace:
    """What the command line says: `rounds` (cut down if `quick`), `quick`, `json`."""
    arguments = made.parse_args()
    if arguments.quick:
        arguments.rounds = min(arguments.rounds, QUICK_ROUNDS)
    return arguments


def options(description: str | None, *, rounds: int = 60) -> argparse.Namespace:
    """`parse(parser(...))`, for a benchmark without switches of its own."""
    return parse(parser(description, rounds=rounds))


# --- telling ----------------------------------------------------------------------------------------


def report(
    title: str,
    costs: Costs | None,
    figures: Sequence[Figure],
    arguments: argparse.Namespace,
    *,
    over: str | None = None,
) -> int:
    """Print costs and figures, write them where ``--json`` says; the exit status: 1 if a goal is missed."""
    show(title, costs, figures, over=over)
    write_json(arguments, as_json(title, costs, figures, over=over))
    return 0 if all(figure.holds for figure in figures) else 1


def show(title: str, costs: Costs | None, figures: Sequence[Figure], *, over: str | None = None) -> None:
    print(f"\n{title}")
    if costs is not None:
        print()
        table(("", "median us", "quartiles", "added us", "quartiles"), _cost_rows(costs, over))
    if figures:
        print()
        table(("figure", "is", "must be", "aim", ""), [_figure_row(figure) for figure in figures])
    sys.stdout.flush()


def write_json(arguments: argparse.Namespace, content: object) -> None:
    """Write `content` where ``--json`` says, if it says."""
    if arguments.json:
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")


def as_json(
    title: str, costs: Costs | None, figures: Sequence[Figure], *, over: str | None = None
) -> dict[str, object]:
    return {
        "title": title,
        "python": platform.python_version(),
        "packages": packages(),
        "microseconds": {} if costs is None else {name: asdict(costs.cost(name)) for name in costs.names},
        "added_microseconds": {}
        if costs is None or over is None
        else {name: asdict(costs.added(name, over)) for name in costs.names if name != over},
        "figures": [{**asdict(figure), "holds": figure.holds} for figure in figures],
    }


_PEERS = (
    "opentelemetry-sdk",
    "opentelemetry-instrumentation-asgi",
    "opentelemetry-instrumentation-wsgi",
    "opentelemetry-instrumentation-system-metrics",
    "starlette",
    "flask",
    "prometheus-client",
    "prometheus-fastapi-instrumentator",
    "prometheus-flask-exporter",
    "starlette-exporter",
    "sqlalchemy",
    "redis",
)


def packages() -> dict[str, str]:
    """The versions that a reader of the figures must know."""
    found = {}
    for name in _PEERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cost_rows(costs: Costs, over: str | None) -> list[tuple[str, ...]]:
    rows = []
    for name in costs.names:
        row: tuple[str, ...] = (name, *_spread(costs.cost(name)))
        if over is not None and name != over:
            row = (*row, *_spread(costs.added(name, over)))
        rows.append(row)
    return rows


def _spread(summary: Summary) -> tuple[str, str]:
    return _number(summary.median), f"{_number(summary.low)} .. {_number(summary.high)}"


def _figure_row(figure: Figure) -> tuple[str, ...]:
    unit = "" if figure.unit == "ratio" else f" {figure.unit}"
    aim = "" if figure.aim is None else f"{_number(figure.aim)}{unit}"
    mark = "ok" if figure.holds else "MISSED"
    return figure.name, f"{_number(figure.value)}{unit}", f"<= {_number(figure.goal)}{unit}", aim, mark


def _number(value: float) -> str:
    """Three digits that say something, never an exponent."""
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3f}"


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as they need to be: the first to the left, the others to the right."""
    lines = [head, *(row + ("",) * (len(head) - len(row)) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        cells = [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        print(("  " + "   ".join(cells)).rstrip())
