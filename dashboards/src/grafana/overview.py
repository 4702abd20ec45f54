"""Overview: how the app does, why, and what to do first."""

from __future__ import annotations

from typing import Final

from dashboards.src.grafana.alerting import SEVERITIES
from dashboards.src.grafana.board import Board, Section
from dashboards.src.grafana.panels import (
    BAD,
    FAIR,
    GOOD,
    Column,
    Label,
    Query,
    Steps,
    about,
    bars_panel,
    graph_panel,
    points_steps,
    stat_panel,
    steps_of,
    table_panel,
)
from dashboards.src.grafana.places import to
from dashboards.src.grafana.queries import FAILED, HTTP, busiest, mean, quantile, ratio, total
from dashboards.src.grafana.recommendations import LABEL, SHOWN_BY, WHERE, recommendations
from restaurant_otel.catalog.objectives import DEFAULT_OBJECTIVES

_JOB: Final = 'job=~"$job"'
_COMPONENT: Final = "restaurant_performance_component"

_SCORE: Final = stat_panel(
    "Score",
    [Query(f"service:performance_score{{{_JOB}}}", "{{job}}")],
    unit="none",
    decimals=0,
    colours=points_steps(),
    background=True,
    size=(6, 9),
    no_value="data missing",
    description=about(
        f"0 to 100: the weighted mean of the components for which there is a value. A critical component (availability,"
        f" errors) caps it at 50 + half of its own score. {DEFAULT_OBJECTIVES.good:g} and above is good, below"
        f" {DEFAULT_OBJECTIVES.fair:g} is poor. With less than {100 * DEFAULT_OBJECTIVES.coverage:g}"
        f" % of the weights known"
        " there is no score: missing data are not a good sign.",
        runbooks=("score",),
    ),
)

_COMPONENTS: Final = bars_panel(
    "Components",
    [
        Query(
            f"avg by ({_COMPONENT}) (service_component:performance_score{{{_JOB}}})", f"{{{{{_COMPONENT}}}}}"
        )
    ],
    unit="none",
    decimals=0,
    top=100,
    colours=points_steps(),
    size=(9, 9),
    description=about(
        "Each component's score: 100 at its objective, 0 at its limit, a straight line between. "
        + " ".join(f"{each.component}: {each.explain}" for each in DEFAULT_OBJECTIVES.components)
    ),
)

_RATE: Final = stat_panel(
    "Requests",
    total(HTTP, "", end="_count"),
    unit="reqps",
    size=(5, 3),
    trend=False,
    description=about("Requests a second."),
)
_ERRORS: Final = stat_panel(
    "Failed",
    ratio(total(HTTP, "", FAILED, end="_count"), total(HTTP, "", end="_count")),
    unit="percentunit",
    decimals=2,
    colours=steps_of("errors"),
    size=(4, 3),
    trend=False,
    description=about(
        "Share of requests that the server failed (status 5xx).",
        component="errors",
        runbooks=("high-error-ratio",),
    ),
)
_MEAN: Final = stat_panel(
    "Mean time",
    mean(HTTP, ""),
    unit="s",
    colours=steps_of("api"),
    size=(5, 3),
    trend=False,
    description=about(
        "Mean time of a request, to its last byte.", component="api", runbooks=("slow-requests",)
    ),
)
_P95: Final = stat_panel(
    "Slowest 5 % above",
    quantile(0.95, HTTP, ""),
    unit="s",
    colours=steps_of("api"),
    size=(4, 3),
    trend=False,
    description=about(
        "The time that the slowest twentieth of the requests exceeds.", runbooks=("slow-requests",)
    ),
)
_AVAILABILITY: Final = stat_panel(
    "Available",
    f'avg(service_component:performance_value{{{_JOB}, {_COMPONENT}="availability"}})',
    unit="percentunit",
    decimals=2,
    colours=steps_of("availability"),
    size=(5, 3),
    trend=False,
    description=about(
        "Share of the last hour's requests that the server did not fail.",
        component="availability",
        runbooks=("availability-burn",),
    ),
)
_COVERAGE: Final = stat_panel(
    "Coverage",
    f"min(service:performance_coverage{{{_JOB}}})",
    unit="percentunit",
    decimals=0,
    colours=Steps(BAD, ((DEFAULT_OBJECTIVES.coverage, FAIR), (0.999, GOOD))),
    size=(4, 3),
    trend=False,
    description=about("Share of the score's weights for which there is a value.", runbooks=("data-missing",)),
)

_RECOMMENDATIONS: Final = table_panel(
    "What to do first",
    [
        Label("What to do", LABEL, wrap=True),
        Label("Shown by", SHOWN_BY, width=170, wrap=True),
        Label(
            "Where",
            WHERE,
            width=95,
            link=("Open", "/d/restaurant-${__value.raw}?${__url_time_range}&${job:queryparam}"),
        ),
    ],
    [Column("Points", recommendations(), "none", decimals=1, width=70)],
    sort="Points",
    no_value="nothing that would gain a point",
    size=(14, 9),
    description=about(
        "Recommendations, by the points that the score's mean would gain if the component met its objective. Each is"
        " shown by what weighs most: the route that fails, the statement, the group of keys that misses."
        " While a critical component"
        " caps the score, it goes first. `restaurant-otel score` names all evidence, and what exactly would be gained."
    ),
)

_ALERTS: Final = table_panel(
    "Active alerts",
    [
        Label("Alert", "alertname", link=to("restaurant-alerts", "All alerts")),
        Label("Severity", "severity", width=95, texts=SEVERITIES, coloured=True),
        Label("State", "alertstate", width=85),
    ],
    [Column("Count", 'count by (alertname, severity, alertstate) (ALERTS{job=~"$job|"})', "none", width=75)],
    sort="Count",
    no_value="none",
    size=(10, 9),
    description=about(
        "Alerts that fire, and pending ones that will if it goes on. The dashboard of alerts has their runbooks."
    ),
)

_BY_ROUTE: Final = graph_panel(
    "Requests by route",
    [
        Query(
            busiest(6, total(HTTP, "http_route", end="_count"), "http_route", HTTP, end="_count"),
            "{{http_route}}",
        )
    ],
    unit="reqps",
    stacked=True,
    size=(8, 9),
    description=about(
        "Requests a second, of the six busiest routes. Those that match no route have no name."
    ),
)
_FAILURES: Final = graph_panel(
    "Failed by route",
    [
        Query(
            busiest(
                6,
                f"{total(HTTP, 'http_route', FAILED, end='_count')} / {total(HTTP, 'http_route', end='_count')}",
                "http_route",
                HTTP,
                FAILED,
                end="_count",
            ),
            "{{http_route}}",
        )
    ],
    unit="percentunit",
    size=(8, 9),
    colours=steps_of("errors"),
    description=about(
        "Share of each route's requests that the server failed.",
        component="errors",
        runbooks=("high-error-ratio",),
    ),
)
_TIMES: Final = graph_panel(
    "Time of requests",
    [
        Query(mean(HTTP, ""), "mean"),
        Query(quantile(0.5, HTTP, ""), "half below"),
        Query(quantile(0.95, HTTP, ""), "95 % below"),
        Query(quantile(0.99, HTTP, ""), "99 % below"),
    ],
    unit="s",
    size=(8, 9),
    colours=steps_of("api"),
    description=about("How long requests take.", component="api", runbooks=("slow-requests",)),
)
_TREND: Final = graph_panel(
    "Score over time",
    [Query(f"service:performance_score{{{_JOB}}}", "{{job}}")],
    unit="none",
    most=100,
    size=(12, 8),
    colours=points_steps(),
    description=about("The score's course; blue marks are deploys, red ones alerts.", runbooks=("score",)),
)
_DEPLOYS: Final = graph_panel(
    "Hosts by version",
    [Query(f"count by (job, service_version) (target_info{{{_JOB}}})", "{{job}} {{service_version}}")],
    unit="none",
    stacked=True,
    size=(12, 8),
    description=about(
        "Hosts that run each version (`service.version` of the resource): a deploy is where one takes another's place."
    ),
)

BOARD: Final = Board(
    "restaurant-overview",
    "Restaurant: overview",
    "How the app does, why, and what to do first. Made from the catalogue of restaurant-otel.",
    (
        Section("", (_SCORE, _COMPONENTS, _RATE, _ERRORS, _MEAN, _P95, _AVAILABILITY, _COVERAGE)),
        Section("What needs attention", (_RECOMMENDATIONS, _ALERTS)),
        Section("Rate, errors, duration", (_BY_ROUTE, _FAILURES, _TIMES)),
        Section("Trend and deploys", (_TREND, _DEPLOYS)),
    ),
)
