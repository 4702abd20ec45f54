"""Alerts about requests: error budgets, the components of the score, routes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from restaurant_otel.catalog import Objective, Slo
from restaurant_otel.rules.alerts.model import CRITICAL, DURATION, INFO, PERCENT, WARNING, Alert, where
from restaurant_otel.rules.options import Options, number
from restaurant_otel.rules.performance import COMPONENT, routes_of

# --- error budgets ----------------------------------------------------------------------------------------

BURNS: Final = (
    (14.4, "1h", "5m", CRITICAL, "2m"),
    (6.0, "6h", "30m", CRITICAL, "15m"),
    (3.0, "1d", "2h", WARNING, "1h"),
    (1.0, "3d", "6h", INFO, "3h"),
)
"""How many times too fast, over which long and short window, how urgent, for how long."""


def budgets(o: Options) -> Iterator[Alert]:
    """Of each error budget, by how fast it burns."""
    for slo in o.objectives.slos:
        for factor, long, short, severity, hold in BURNS:
            yield _burn(o, slo, factor, long, short, severity, hold)


def _burn(o: Options, slo: Slo, factor: float, long: str, short: str, severity: str, hold: str) -> Alert:
    most = number(factor * (1 - slo.target))
    this = f'{{slo="{slo.name}"}}'
    requests = f"service:http_requests:slo_rate{long} * {number(o.seconds(long))}"
    bad = "failed" if slo.seconds is None else f"failed or took longer than {slo.seconds:g} s"
    return Alert(
        f"{slo.name.title()}BudgetBurn",
        severity,
        "slo",
        f"{slo.name}-burn",
        f"service_slo:errors:ratio{long}{this} > {most}\n"
        f"and on ({o.labels()}) service_slo:errors:ratio{short}{this} > {most}\n"
        f"and on ({o.labels()}) {requests} >= {number(slo.minimum)}",
        hold,
        f"{{service}} uses up its {slo.name} budget {factor:g} times too fast",
        f"{PERCENT} of the requests to {{service}} in the last {long} {bad}. "
        f"{number((1 - slo.target) * 100)} % may, over 30 days; at this rate the budget lasts {_lasts(factor)}.",
        slo.name,
        long,
    )


def _lasts(factor: float) -> str:
    days = 30 / factor
    return f"{days:.0f} days" if days >= 3 else f"{days * 24:.0f} hours"


# --- components of the score ------------------------------------------------------------------------------

_COMPONENTS: Final = {
    "errors": ("ErrorRatioHigh", "api", "high-error-ratio", "requests to {service} fail"),
    "api": ("RequestsSlow", "api", "slow-requests", "requests to {service} are slow"),
    "page": ("PagesSlow", "api", "slow-pages", "pages of {service} load slowly"),
    "database": ("DatabaseSlow", "database", "slow-database", "statements of {service} are slow"),
    "cache": ("CacheHitsLow", "cache", "cache-hits-low", "the cache of {service} misses too often"),
    "cpu": ("CpuHigh", "resources", "cpu-high", "the CPUs of {service} are busy"),
    "memory": ("MemoryHigh", "resources", "memory-high", "the memory of {service} is full"),
}
"""Availability has its error budget instead."""

_GENTLE: Final = ("cpu", "memory")
"""Missing these objectives costs money, not users: nobody is disturbed before the limit."""


def components(o: Options) -> Iterator[Alert]:
    """Of each component of the score: beyond its objective, beyond its limit."""
    for objective in o.objectives.components:
        if objective.component in _COMPONENTS and objective.weight > 0:
            severity = INFO if objective.component in _GENTLE else WARNING
            yield _missed(objective, objective.objective, severity, "10m", "objective")
            yield _missed(objective, objective.limit, CRITICAL, "5m", "limit")


def _missed(objective: Objective, bound: float, severity: str, hold: str, what: str) -> Alert:
    name, area, runbook, words = _COMPONENTS[objective.component]
    worse = "<" if objective.higher_is_better else ">"
    shown = "humanizePercentage" if objective.unit == "1" else "humanizeDuration"
    text = f"{number(bound * 100)} %" if objective.unit == "1" else f"{number(bound)} s"
    side = "at least" if objective.higher_is_better else "at most"
    return Alert(
        name,
        severity,
        area,
        runbook,
        f'service_component:performance_value{{{COMPONENT}="{objective.component}"}} {worse} {number(bound)}',
        hold,
        words[0].upper() + words[1:] if not words.startswith("{") else words,
        f"{{{{ $value | {shown} }}}} for {{service}}; the {what} is {side} {text}. {objective.explain}",
    )


# --- routes -----------------------------------------------------------------------------------------------


def routes(o: Options) -> Iterator[Alert]:
    """Of each route that the component looks at: streams that are left out there are left out here."""
    api = o.objectives["api"]
    looked_at = f"{{{', '.join(routes_of(api))}}}" if routes_of(api) else ""
    enough = f"service_route:http_requests:rate5m * {number(o.seconds('5m'))} >= 20"
    route = o.labels("http_route")
    yield Alert(
        "RouteMeanSlow",
        INFO,
        "api",
        "slow-route",
        f"service_route:http_duration_seconds:mean5m{looked_at} > {number(api.objective)}\nand on ({route}) {enough}",
        "15m",
        f"{{service}} answers {where('http_route')} slowly",
        f"A request to {where('http_route')} of {{service}} takes {DURATION} on average. "
        f"The objective is {number(api.objective)} s.",
    )
    yield Alert(
        "RouteP95Slow",
        WARNING,
        "api",
        "slow-route",
        f"service_route:http_duration_seconds:p95_5m{looked_at} > {number(api.limit)}\nand on ({route}) {enough}",
        "10m",
        f"{{service}} answers some requests to {where('http_route')} very slowly",
        f"One request in twenty to {where('http_route')} of {{service}} takes longer than "
        f"{DURATION}. The limit is {number(api.limit)} s.",
    )
