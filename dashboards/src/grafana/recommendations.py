"""The score's advice as one query: a row for each rule that applies, with the points that its component loses.

The rules are `restaurant_otel.scorecard.advice.ADVICE`. A rule with evidence applies where the evidence is found in
Prometheus; one without, where its component loses points and no other rule of the component applies.
"""

from __future__ import annotations

from typing import Final

from restaurant_otel import catalog
from restaurant_otel.catalog.objectives import DEFAULT_OBJECTIVES
from restaurant_otel.rules.options import name_of
from restaurant_otel.scorecard.advice import ADVICE, LEAST_POINTS, Advice

LABEL: Final = "advice"
"""The label with what to do, in words: as long as it is, so that Grafana makes its row high enough."""
WHERE: Final = "dashboard"
"""The label with the dashboard where to look: its address without ``restaurant-``."""

_COMPONENT: Final = "restaurant_performance_component"

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


def _objective(component: str) -> str:
    return f"{DEFAULT_OBJECTIVES[component].objective:g}"


EVIDENCE: Final = {
    "failing_routes": "service_route:http_failures:rate5m{%s} > 0",
    "slow_routes": f"service_route:http_duration_seconds:mean5m{{%s}} > {_objective('api')}",
    "n_plus_one": f"rate({name_of(catalog.DB_N_PLUS_ONE)}{{%s}}[5m]) > 0",
    "statements": f"service_statement:db_query_seconds:mean5m{{%s}} > {_objective('database')}",
    "slow_pages": f"max by (job, http_route) (restaurant_http_server_page{{%s}})"
    f" and on (job, http_route) service_route:http_duration_seconds:p95_5m > {_objective('page')}",
    "cache_groups": f"service_cache_group:cache_hits:ratio5m{{%s}} < {_objective('cache')}",
    "busy_hosts": f"instance:cpu_utilization:avg5m{{%s}} > {_objective('cpu')}",
    "full_hosts": f"instance:memory_utilization:max{{%s}} > {_objective('memory')}",
    "leaks": f"{name_of(catalog.MEMORY_LEAK_SUSPECTED)}{{%s}} == 1",
}
"""What shows each kind of evidence; ``%s`` takes matchers."""


def _words(advice: Advice) -> str:
    return advice.action.replace("`", "").replace("\\", "").replace('"', "'").replace("$", "")


def recommendations(job: str = 'job=~"$job"') -> str:
    """The query."""
    return "\nor\n".join(_row(each, job) for each in ADVICE)


def _row(advice: Advice, job: str) -> str:
    lost = f'service_component:performance_recoverable{{{job}, {_COMPONENT}="{advice.component}"}} >= {LEAST_POINTS:g}'
    if advice.evidence:
        lost = f"{lost} and on (job) ({EVIDENCE[advice.evidence] % job})"
    else:
        for other in ADVICE:
            if other.component == advice.component and other.evidence:
                lost = f"({lost}) unless on (job) ({EVIDENCE[other.evidence] % job})"
    named = f'label_replace({lost}, "{LABEL}", "{_words(advice)}", "", "")'
    return (
        f'max by ({LABEL}, {WHERE}) (label_replace({named}, "{WHERE}", "{PLACES[advice.component]}", "", ""))'
    )
