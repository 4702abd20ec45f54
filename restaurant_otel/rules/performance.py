"""The score as recording rules: the same arithmetic as `restaurant_otel.scorecard.formula`, in PromQL.

All of it is one group, so that one evaluation goes from the raw series to the score. A component without a value
has no series at all, so that nobody takes it for zero or for perfect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from restaurant_otel import catalog
from restaurant_otel.catalog import Objective
from restaurant_otel.rules.expressions import HTTP, OLD_HTTP, failures, lookups, requests
from restaurant_otel.rules.model import Rule
from restaurant_otel.rules.options import Options, name_of, number, one_of
from restaurant_otel.scorecard.evidence import PAGE_SHARE

COMPONENT: Final = "restaurant_performance_component"
"""The label that names a component, as in the metrics that apps export."""

_PAGE: Final = name_of(catalog.HTTP_SERVER_PAGE)


def performance(o: Options) -> Iterator[Rule]:
    """The score of each service, its components, coverage, and what each could still give."""
    labels = o.labels()
    for objective in o.objectives.components:
        if objective.weight <= 0:
            continue
        this = {COMPONENT: objective.component}
        yield Rule("service_component:performance_value", VALUES[objective.component](o, objective), this)
        value = f'service_component:performance_value{{{COMPONENT}="{objective.component}"}}'
        objective_text, limit = number(objective.objective), number(objective.limit)
        yield Rule(
            "service_component:performance_score",
            f"clamp(100 * ({limit} - {value}) / ({limit} - {objective_text}), 0, 100)",
            this,
        )
        yield Rule("service_component:performance_weight", f"{value} * 0 + {number(objective.weight)}", this)
    score, weight = "service_component:performance_score", "service_component:performance_weight"
    every_weight = number(sum(objective.weight for objective in o.objectives.components))
    yield Rule(
        "service:performance_coverage",
        f"(\n  sum by ({labels}) ({weight})\n  or 0 * {known_services(o)}\n) / {every_weight}",
    )
    yield Rule(
        "service:performance_mean", f"sum by ({labels}) ({score} * {weight}) / sum by ({labels}) ({weight})"
    )
    critical = tuple(each.component for each in o.objectives.components if each.critical and each.weight > 0)
    lowest = "service:performance_mean"
    if critical:
        worst = f"min by ({labels}) ({score}{{{COMPONENT}=~{one_of(critical)}}})"
        yield Rule("service:performance_cap", f"50 + 0.5 * {worst}")
        lowest = (
            f'min by ({labels}) (\n  label_replace(service:performance_mean, "of", "mean", "", "")\n'
            '  or label_replace(service:performance_cap, "of", "cap", "", "")\n)'
        )
    least = number(o.objectives.coverage)
    yield Rule(
        "service:performance_score",
        f"round({lowest}, 0.1)\nand on ({labels}) service:performance_coverage >= {least}",
    )
    yield Rule(
        "service_component:performance_recoverable",
        f"{weight} * (100 - {score}) / on ({labels}) group_left () sum by ({labels}) ({weight})",
    )


def known_services(o: Options) -> str:
    """1 for each service that was there in the last hour, so that one that has fallen silent is still known."""
    hour = o.time("1h")
    seen = (
        f"last_over_time({o.series(name)}[{hour}])"
        for name in (name_of(catalog.TELEMETRY_WORKERS), f"{HTTP}_count")
    )
    return f"group by ({o.labels()}) ({' or '.join(seen)})"


# --- the value of each component --------------------------------------------------------------------------


def routes_of(objective: Objective) -> tuple[str, ...]:
    """Matchers for the routes that an objective looks at."""
    matchers = []
    if objective.routes:
        matchers.append(f"http_route=~{one_of(objective.routes)}")
    if objective.exclude_routes:
        matchers.append(f"http_route!~{one_of(objective.exclude_routes)}")
    return tuple(matchers)


def _enough(o: Options, objective: Objective, value: str, rate: str) -> str:
    """`value` where there are enough events in the window; never NaN."""
    known = f"({value}) >= 0"
    if objective.minimum <= 0:
        return known
    events = f"({rate}) * {number(o.seconds(objective.window))}"
    return f"({known})\nand on ({o.labels()}) {events} >= {number(objective.minimum)}"


def _failed(o: Options, objective: Objective) -> tuple[str, str]:
    """Rates of failed and of all requests, in the objective's window."""
    return failures(o, objective.window), requests(o, objective.window)


def _availability(o: Options, objective: Objective) -> str:
    failed, every = _failed(o, objective)
    return _enough(o, objective, f"1 - ({failed})\n/ on ({o.labels()}) ({every})", every)


def _errors(o: Options, objective: Objective) -> str:
    failed, every = _failed(o, objective)
    return _enough(o, objective, f"({failed})\n/ on ({o.labels()}) ({every})", every)


def _api(o: Options, objective: Objective) -> str:
    def mean(name: str) -> tuple[str, str]:
        total, count = (
            f"sum by ({o.labels()}) ({o.rate(f'{name}_{end}', objective.window, *routes_of(objective))})"
            for end in ("sum", "count")
        )
        return f"{total} / {count}", count

    (new, new_count), (old, old_count) = mean(HTTP), mean(OLD_HTTP)
    return _enough(o, objective, f"{new}\nor {old} / 1000", f"{new_count} or {old_count}")


def _database(o: Options, objective: Objective) -> str:
    name = name_of(catalog.DB_CLIENT_OPERATION_DURATION)
    total, count = (
        f"sum by ({o.labels()}) ({o.rate(f'{name}_{end}', objective.window)})" for end in ("sum", "count")
    )
    return _enough(o, objective, f"{total} / {count}", count)


def page_seconds(o: Options, objective: Objective, *by: str) -> str:
    """The time that the slowest tenth of the page loads exceeds."""
    loads = _load_rates(o, objective, "bucket")
    return f"histogram_quantile({PAGE_SHARE}, sum by ({o.labels(*by, 'le')}) ({loads}))"


def _load_rates(o: Options, objective: Objective, end: str) -> str:
    matchers = ('http_request_method="GET"', *routes_of(objective))
    rate = o.rate(f"{HTTP}_{end}", objective.window, *matchers)
    if objective.routes:
        return rate
    pages = o.labels("instance", "http_route")
    return f"{rate} * on ({pages}) group_left () max by ({pages}) ({o.series(_PAGE)})"


def page_loads(o: Options, objective: Objective, *by: str) -> str:
    """Page loads a second."""
    return f"sum by ({o.labels(*by)}) ({_load_rates(o, objective, 'count')})"


def _page(o: Options, objective: Objective) -> str:
    return _enough(o, objective, page_seconds(o, objective), page_loads(o, objective))


def _cache(o: Options, objective: Objective) -> str:
    every = lookups(o, objective.window)
    answered = lookups(o, objective.window, answered=True)
    return _enough(o, objective, f"(\n{answered}\nor 0 * {every}\n)\n/ on ({o.labels()}) {every}", every)


def _cpu(o: Options, objective: Objective) -> str:
    used = o.series(name_of(catalog.CPU_UTILIZATION))
    return f"avg by ({o.labels()}) (avg_over_time({used}[{o.time(objective.window)}])) >= 0"


def _memory(o: Options, _: Objective) -> str:
    return f"max by ({o.labels()}) ({o.series(name_of(catalog.MEMORY_UTILIZATION))}) >= 0"


VALUES: Final[dict[str, Callable[[Options, Objective], str]]] = {
    "availability": _availability,
    "errors": _errors,
    "api": _api,
    "database": _database,
    "page": _page,
    "cache": _cache,
    "cpu": _cpu,
    "memory": _memory,
}
