"""The score's advice as one query: a row for each rule that applies, with the points that its component loses.

The rules are `restaurant_otel.scorecard.advice.ADVICE`. A rule with evidence applies where the evidence is found in
Prometheus, and names the weightiest; one without, where its component loses points and no other rule of it applies.
What counts as evidence, and what weighs most, is what `restaurant_otel.scorecard.evidence` says; a test compares them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from restaurant_otel import catalog
from restaurant_otel.catalog.objectives import DEFAULT_OBJECTIVES
from restaurant_otel.rules.options import Options, name_of
from restaurant_otel.rules.performance import COMPONENT, page_loads, page_seconds
from restaurant_otel.scorecard.advice import ADVICE, LEAST_POINTS, Advice

LABEL: Final = "advice"
"""The label with what to do, in words: as long as it is, so that Grafana makes its row high enough."""
WHERE: Final = "dashboard"
"""The label with the dashboard where to look: its address without ``restaurant-``."""
SHOWN_BY: Final = "evidence"
"""The label with the route, statement, group, host or worker that weighs most."""

PLACES: Final = {
    "availability": "slo",
    "errors": "api",
    "api": "api",
    "page": "api",
    "database": "database",
    "cache": "cache",
    "cpu": "resources",
    "memory": "resources",
}


def recommendations(job: str = 'job=~"$job"') -> str:
    """The query."""
    return "\nor\n".join(_row(each, job) for each in ADVICE)


def _row(advice: Advice, job: str) -> str:
    lost = f'service_component:performance_recoverable{{{job}, {COMPONENT}="{advice.component}"}} >= {LEAST_POINTS:g}'
    if advice.evidence:
        weightiest = f"topk by (job) (1, {EVIDENCE[advice.evidence](job)})"
        lost = f"({lost}) * on (job) group_left ({SHOWN_BY}) (0 * {weightiest} + 1)"
    else:
        for other in ADVICE:
            if other.component == advice.component and other.evidence:
                lost = f"({lost}) unless on (job) ({EVIDENCE[other.evidence](job)})"
        lost = f'label_replace({lost}, "{SHOWN_BY}", "-", "", "")'
    named = f'label_replace({lost}, "{LABEL}", "{_words(advice)}", "", "")'
    placed = f'label_replace({named}, "{WHERE}", "{PLACES[advice.component]}", "", "")'
    return f"max by ({LABEL}, {SHOWN_BY}, {WHERE}) ({placed})"


def _words(advice: Advice) -> str:
    return advice.action.replace("`", "").replace("\\", "").replace('"', "'").replace("$", "")


# --- evidence: by job and subject, what weighs how much ----------------------------------------------------


def _objective(component: str) -> str:
    return f"{DEFAULT_OBJECTIVES[component].objective:g}"


def _named(expr: str, *labels: str) -> str:
    """`expr` with the values of these labels, those that there are, as its subject."""
    quoted = ", ".join(f'"{label}"' for label in labels)
    joined = f'label_join({expr}, "{SHOWN_BY}", " ", {quoted})'
    trimmed = f'label_replace({joined}, "{SHOWN_BY}", "$1", "{SHOWN_BY}", " *(.*?) *")'
    return f'label_replace({trimmed}, "{SHOWN_BY}", "no route", "{SHOWN_BY}", "")'


def _failing_routes(job: str) -> str:
    return _named(f"service_route:http_failures:rate5m{{{job}}} > 0", "http_route")


def _slow_routes(job: str) -> str:
    mean = f"service_route:http_duration_seconds:mean5m{{{job}}}"
    above = f"({mean} - {_objective('api')}) * service_route:http_requests:rate5m{{{job}}}"
    return _named(f"{above} > 0", "http_route")


def _slow_pages(job: str) -> str:
    o, page = Options(selector=job), DEFAULT_OBJECTIVES["page"]
    slow = f"{page_seconds(o, page, 'http_route')} > {_objective('page')}"
    return _named(f"({slow}) * {page_loads(o, page, 'http_route')}", "http_route")


def _statements(job: str) -> str:
    """By statement; where an app has no query book, by what is done to which table."""
    by_statement, by_table = (
        f"({level}:{mean}:mean5m{{{job}}} - {_objective('database')}) * {level}:{count}:rate5m{{{job}}}"
        for level, mean, count in (
            ("service_statement", "db_query_seconds", "db_queries"),
            ("service_operation", "db_operation_seconds", "db_operations"),
        )
    )
    book = f"service_statement:db_queries:rate5m{{{job}}} > 0"
    tables = f"({by_table} > 0) unless on (job) ({book})"
    return (
        f"({_named(f'{by_statement} > 0', 'db_query_summary')}"
        f" or {_named(tables, 'db_operation_name', 'db_collection_name')})"
    )


def _n_plus_one(job: str) -> str:
    labels = "http_route", "restaurant_db_relationship"
    times = f"increase({name_of(catalog.DB_N_PLUS_ONE)}{{{job}}}[5m])"
    return _named(f"sum by (job, {', '.join(labels)}) ({times}) > 0", *labels)


def _cache_groups(job: str) -> str:
    lookups, hits = (f"service_cache_group:cache_{what}:rate5m{{{job}}}" for what in ("lookups", "hits"))
    return _named(
        f"{_objective('cache')} * {lookups} - {hits} > 0", "restaurant_cache_name", "restaurant_cache_group"
    )


def _busy_hosts(job: str) -> str:
    return _named(f"instance:cpu_utilization:avg5m{{{job}}} > {_objective('cpu')}", "instance")


def _full_hosts(job: str) -> str:
    return _named(f"instance:memory_utilization:max{{{job}}} > {_objective('memory')}", "instance")


def _leaks(job: str) -> str:
    slope, suspected = (
        f"{name_of(metric)}{{{job}}}" for metric in (catalog.MEMORY_LEAK_SLOPE, catalog.MEMORY_LEAK_SUSPECTED)
    )
    return _named(f"{slope} and {suspected} == 1", "instance", "worker")


EVIDENCE: Final[dict[str, Callable[[str], str]]] = {
    "failing_routes": _failing_routes,
    "slow_routes": _slow_routes,
    "slow_pages": _slow_pages,
    "statements": _statements,
    "n_plus_one": _n_plus_one,
    "cache_groups": _cache_groups,
    "busy_hosts": _busy_hosts,
    "full_hosts": _full_hosts,
    "leaks": _leaks,
}
"""The query for each kind of evidence, of the services that the given matchers select."""
