"""What is to come, as Prometheus's past tells it: when memory, disks and error budgets run out, and tomorrow's load."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from restaurant_otel import catalog
from restaurant_otel.rules import expressions
from restaurant_otel.rules.options import Options, name_of, number
from restaurant_otel.scorecard.fleet import Prometheus, service_of
from restaurant_otel.scorecard.forecast import DAY, predict_load, seconds_of_budget, seconds_until

HOUR: Final = 3600.0
_WEEKS: Final = 3
_FAR: Final = 30 * 24 * HOUR


@dataclass(frozen=True, slots=True)
class Outlook:
    """One thing to come. `seconds`: until it runs out. Load has none, but requests a second at its highest: `peak`."""

    service: str
    what: str
    subject: str
    seconds: float | None = None
    peak: float | None = None


def outlooks(server: Prometheus, options: Options | None = None, at: float | None = None) -> list[Outlook]:
    """All that can be told, the soonest first; nothing that lasts for more than a month. Raises FleetError."""
    o, now = options or Options(), at or time.time()
    found = [*_resources(server, o, now), *_budgets(server, o, now), *_load(server, o, now)]
    soon = [each for each in found if each.seconds is None or each.seconds <= _FAR]
    return sorted(soon, key=lambda each: _FAR if each.seconds is None else each.seconds)


def _resources(server: Prometheus, o: Options, now: float) -> Iterator[Outlook]:
    for what, metric, label in (
        ("memory", catalog.MEMORY_UTILIZATION, ""),
        ("disk", catalog.SYSTEM_FILESYSTEM_UTILIZATION, "system_filesystem_mountpoint"),
    ):
        labels = o.labels("instance", *filter(None, [label]))
        expr = f"max by ({labels}) ({o.series(name_of(metric))})"
        for series in server.query_range(expr, now - 6 * HOUR, now, 300):
            seconds = seconds_until(1.0, series.samples)
            if seconds is not None:
                subject = " ".join(filter(None, (series.labels.get("instance"), series.labels.get(label))))
                yield Outlook(service_of(o, series.labels), what, subject, seconds)


def _budgets(server: Prometheus, o: Options, now: float) -> Iterator[Outlook]:
    """From the recording rules: nothing where they are not installed."""
    for slo in o.objectives.slos:
        this = f'{{slo="{slo.name}"}}'
        remaining = {
            service_of(o, each.labels): each.value
            for each in server.query(f"service_slo:budget_remaining:ratio30d{this}", now)
        }
        for each in server.query(f"service_slo:errors:ratio1h{this} / {number(1 - slo.target)}", now):
            service = service_of(o, each.labels)
            seconds = seconds_of_budget(remaining.get(service, 1.0), each.value)
            if seconds is not None:
                yield Outlook(service, "error budget", slo.name, seconds)


def _load(server: Prometheus, o: Options, now: float) -> Iterator[Outlook]:
    expr = expressions.requests(o, "1h")
    for series in server.query_range(expr, now - _WEEKS * 7 * DAY * HOUR, now, HOUR):
        by_hour = {round((moment - now) / HOUR): value for moment, value in series.samples}
        hours = [by_hour.get(hour) for hour in range(min(by_hour), 1)]  # None where Prometheus has a gap
        if len(hours) >= DAY:
            yield Outlook(
                service_of(o, series.labels), "load", "next 24 hours", peak=max(predict_load(hours))
            )
