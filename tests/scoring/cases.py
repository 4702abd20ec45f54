"""Made-up services: what each counted over seventy minutes, for Python's cells and for Prometheus alike.

An hour at one rate, then ten minutes at another, so that the last hour and the last five minutes differ. What a case
lacks, it lacks on purpose: components must be missing in all combinations.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from restaurant_otel import catalog
from restaurant_otel.catalog import Kind, Metric, prometheus_label
from restaurant_otel.metrics.points import Value
from restaurant_otel.metrics.registry import Registry
from restaurant_otel.rules.options import name_of

STEP = 60
"""Seconds between samples."""

BEFORE, LATELY = 60, 10
"""Steps at the first rate, and at the second."""

PAST = 1000
"""Steps at both rates before the first sample: Prometheus's rate() takes care not to extrapolate below zero, so that
counters that have just begun look smaller to it than they are."""


@dataclass
class Series:
    """One series: what each step adds (a gauge: what it reads), before and lately; a histogram's counts and sum."""

    metric: Metric
    values: tuple[Value, ...]
    steps: tuple[float, float] = (0, 0)
    counts: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))

    def set(self, registry: Registry, step: int) -> None:
        """Put the cell where it stands after so many steps."""
        before, lately = min(step, BEFORE), max(0, step - BEFORE)
        before, lately = before + PAST, lately + PAST
        total = self.steps[0] * before + self.steps[1] * lately
        if self.metric.kind is Kind.HISTOGRAM:
            counts = [a * before + b * lately for a, b in zip(*self.counts, strict=True)]
            registry.histogram(self.metric).bind(*self.values).replace(counts, total)
        elif self.metric.kind is Kind.GAUGE:
            registry.gauge(self.metric).bind(*self.values).set(self.steps[int(step > BEFORE)])
        else:
            cell = registry.counter(self.metric).bind(*self.values)
            cell.add(total - cell.block.view[cell.at])

    def prometheus(self, job: str) -> Iterator[tuple[str, str]]:
        """The same as promtool has it: series and samples."""
        labels = {"job": job, "instance": f"{job}:80"}
        for name, value in zip(self.metric.attributes, self.values, strict=True):
            if value is not None:
                labels[prometheus_label(name)] = str(value)
        name = name_of(self.metric)
        if self.metric.kind is not Kind.HISTOGRAM:
            yield _series(name, labels), _samples(*self.steps, gauge=self.metric.kind is Kind.GAUGE)
            return
        yield _series(f"{name}_sum", labels), _samples(*self.steps)
        sums = [0, 0]
        for place in range(len(self.metric.bounds) + 1):
            sums = [total + counts[place] for total, counts in zip(sums, self.counts, strict=True)]
            bound = self.metric.bounds[place] if place < len(self.metric.bounds) else "+Inf"
            yield _series(f"{name}_bucket", {**labels, "le": str(bound)}), _samples(*sums)
        yield _series(f"{name}_count", labels), _samples(*sums)


def _series(name: str, labels: dict[str, str]) -> str:
    inside = ", ".join(f'{key}="{value}"' for key, value in labels.items())
    return f"{name}{{{inside}}}"


def _samples(before: float, lately: float, *, gauge: bool = False) -> str:
    if gauge:
        return f"{before:.10f}+0x{BEFORE} {lately:.10f}+0x{LATELY - 1}"
    past = (before + lately) * PAST
    reached = past + before * BEFORE + lately
    return f"{past:.10f}+{before:.10f}x{BEFORE} {reached:.10f}+{lately:.10f}x{LATELY - 1}"


def services(number: int, seed: int = 7) -> dict[str, list[Series]]:
    """So many services by name, the same ones each time."""
    dice = random.Random(seed)
    return {f"service-{each}": list(_service(dice)) for each in range(number)}


def _service(dice: random.Random) -> Iterator[Series]:
    if dice.random() < 0.9:
        quiet = dice.random() < 0.2  # too few requests for a share to mean anything
        yield from _requests(dice, quiet)
    if dice.random() < 0.7:
        for operation in ("SELECT", "INSERT")[: dice.randint(1, 2)]:
            known = {"db.system.name": "sqlite", "db.operation.name": operation, "http.route": "/menu"}
            values = tuple(known.get(name) for name in catalog.DB_CLIENT_OPERATION_DURATION.attributes)
            yield _histogram(
                catalog.DB_CLIENT_OPERATION_DURATION, values, dice, dice.uniform(0.01, 0.6), (0, 30)
            )
    if dice.random() < 0.7:
        rates = {
            metric: dice.choice([0, 0, 1, 5, 40]) for metric in (catalog.CACHE_HITS, catalog.CACHE_MISSES)
        }
        rates[catalog.CACHE_STALE] = dice.choice([0, 0, 2])
        for metric, rate in rates.items():
            if dice.random() < 0.9:
                yield Series(metric, ("menu", "memory", "dish"), (dice.choice([0, 3]), rate))
    yield from _evidence(dice)
    for metric, low in ((catalog.CPU_UTILIZATION, 0.1), (catalog.MEMORY_UTILIZATION, 0.5)):
        if dice.random() < 0.7:
            yield Series(metric, (), (dice.random(), round(dice.uniform(low, 1), 6)))
    yield Series(catalog.TELEMETRY_WORKERS, (), (1, 1))


def _requests(dice: random.Random, quiet: bool) -> Iterator[Series]:
    http, seconds = catalog.HTTP_SERVER_REQUEST_DURATION, dice.choice([0.05, 0.3, 0.9, 3.0])
    most = 1 if quiet else 60
    pages = [route for route in ("/menu", "/home") if dice.random() < 0.7]
    for method, route in (("GET", "/menu"), ("GET", "/home"), ("POST", "/orders")):
        yield _histogram(http, (method, route, 200, "http", "1.1", None), dice, seconds, (0, most))
        if dice.random() < 0.5:  # failures, as rare as the objectives are strict
            share = dice.choice([0, 0.0005, 0.003, 0.008, 0.02, 0.04, 0.2])
            count = (round(share * most * dice.random(), 3), round(share * most, 3))
            yield _histogram(http, ("GET", route, 500, "http", "1.1", "KeyError"), dice, seconds, count)
    if dice.random() < 0.2:
        yield _histogram(http, ("GET", None, 404, "http", "1.1", None), dice, 0.001, (0, most))
    for page in pages:
        yield Series(catalog.HTTP_SERVER_PAGE, (page,), (1, 1))


def _evidence(dice: random.Random) -> Iterator[Series]:
    """What no component is made of, and recommendations are."""
    if dice.random() < 0.5:
        for number in range(7):  # more than are named
            values = (f"{number:x}", f"SELECT t{number}", "/menu")
            yield _histogram(catalog.DB_QUERY_DURATION, values, dice, dice.uniform(0.01, 0.4), (0, 20))
    for relationship in ("Menu.dishes", "User.branch"):
        if dice.random() < 0.4:
            yield Series(catalog.DB_N_PLUS_ONE, ("/menu", relationship), (0, dice.choice([0, 0.5, 4])))
    for group in ("order", "user"):
        if dice.random() < 0.4:
            yield Series(catalog.CACHE_MISSES, ("menu", None, group), (0, dice.randint(1, 30)))


def _histogram(
    metric: Metric, values: tuple[Value, ...], dice: random.Random, seconds: float, rates: tuple[float, float]
) -> Series:
    buckets = len(metric.bounds) + 1
    counts: tuple[list[int], list[int]] = ([0] * buckets, [0] * buckets)
    totals = [0.0, 0.0]
    for phase in (0, 1):
        high = rates[phase] if 500 in values else dice.randint(0, int(rates[1]))
        high = 0 if phase == 0 and rates[1] == 1 else high  # quiet: a few lately, none before
        for _ in range(max(0, round(high))):
            value = dice.expovariate(1 / seconds)
            place = next((n for n, bound in enumerate(metric.bounds) if value <= bound), buckets - 1)
            counts[phase][place] += 1
            totals[phase] += value
    return Series(metric, values, (round(totals[0], 6), round(totals[1], 6)), counts)
