"""SLO: what is left of the error budgets, how fast they burn, and when they will be gone."""

from __future__ import annotations

from typing import Final

from dashboards.src.grafana.board import Board, Section, choice_variable
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
    stat_panel,
    table_panel,
    text_panel,
)
from restaurant_otel.catalog.objectives import DEFAULT_OBJECTIVES
from restaurant_otel.rules.recording import SLO_WINDOWS

_SLO: Final = 'job=~"$job", slo=~"$slo"'
_LEFT: Final = Steps(BAD, ((0.0, FAIR), (0.25, GOOD)))
_BURN: Final = Steps(GOOD, ((1, FAIR), (6, BAD)))
_SLOS: Final = ", ".join(
    f"{each.name}: {100 * each.target:g} % ({each.explain[0].lower()}{each.explain[1:]})"
    for each in DEFAULT_OBJECTIVES.slos
)


def _burn(window: str) -> str:
    """How many times faster than allowed the budget is spent."""
    return (
        f"service_slo:errors:ratio{window}{{{_SLO}}} / on (job, slo) (1 - service_slo:target:ratio{{{_SLO}}})"
    )


_BUDGET: Final = f"service_slo:budget_remaining:ratio30d{{{_SLO}}}"

_BARS: Final = (
    bars_panel(
        "Budget left",
        [Query(f"min by (slo) ({_BUDGET})", "{{slo}}")],
        unit="percentunit",
        decimals=1,
        colours=_LEFT,
        size=(8, 7),
        description=about(
            f"What is left of 30 days' error budget. The objectives are {_SLOS}",
            runbooks=("availability-burn", "latency-burn"),
        ),
    ),
    stat_panel(
        "Burn rate, last hour",
        [Query(f"max by (slo) ({_burn('1h')})", "{{slo}}")],
        unit="none",
        decimals=1,
        colours=_BURN,
        size=(8, 7),
        description=about(
            "1 spends exactly the budget in 30 days; 14.4 spends 2 % of it in an hour.",
            runbooks=("availability-burn", "latency-burn"),
        ),
    ),
    stat_panel(
        "Budget gone in",
        [Query(f"min by (slo) (clamp_min({_BUDGET}, 0) * 30 * 86400 / ({_burn('6h')} > 1))", "{{slo}}")],
        unit="dtdurations",
        colours=Steps(BAD, ((86400, FAIR), (30 * 86400, GOOD))),
        size=(8, 7),
        no_value="not in sight",
        mappings={"0": ("spent", BAD)},
        trend=False,
        description=about(
            "At the burn rate of the last six hours. Nothing is shown while it is below 1.",
            runbooks=("availability-burn", "latency-burn"),
        ),
    ),
)
_TABLE: Final = table_panel(
    "Burn rates",
    [Label("Job", "job", width=110), Label("Objective", "slo")],
    [
        Column("Target", f"service_slo:target:ratio{{{_SLO}}}", "percentunit", decimals=2, width=90),
        *(
            Column(window, _burn(window), "none", colours=_BURN, decimals=2, width=70)
            for window in SLO_WINDOWS
        ),
        Column("Budget left", _BUDGET, "percentunit", colours=_LEFT, decimals=1, width=110),
    ],
    sort="1h",
    size=(18, 8),
    description=about(
        "How many times faster than allowed the budget is spent, over each window. Alerts look at"
        " two windows at once: 5m and 1h above"
        " 14.4, 30m and 6h above 6, 2h and 1d above 3, 6h and 3d above 1.",
        runbooks=("availability-burn", "latency-burn"),
    ),
)
_GRAPHS: Final = (
    graph_panel(
        "Burn rate",
        [Query(_burn(window), f"{{{{slo}}}} {window}") for window in ("5m", "1h", "6h")],
        unit="none",
        colours=Steps(GOOD, ((1, FAIR), (14.4, BAD))),
        description=about(
            "Above the first line the budget will not last; above the second somebody is woken.",
            runbooks=("availability-burn", "latency-burn"),
        ),
    ),
    graph_panel(
        "Budget left, and in three days",
        [
            Query(f"clamp_min({_BUDGET}, -1)", "{{slo}}"),
            Query(f"clamp(predict_linear({_BUDGET}[6h], 3 * 86400), -1, 1)", "{{slo}}, in three days"),
        ],
        unit="percentunit",
        least=None,
        most=1,
        colours=_LEFT,
        description=about(
            "What is left of the budget, and what will be in three days if the last six hours go on;"
            " what is below -100 % is drawn there, and a budget is never more than whole.",
            runbooks=("availability-burn", "latency-burn"),
        ),
    ),
    graph_panel(
        "Bad requests",
        [Query(f"service_slo:bad:rate5m{{{_SLO}}}", "{{slo}}")],
        unit="reqps",
        description=about("Requests a second that miss an objective."),
    ),
    graph_panel(
        "Requests",
        [
            Query('service:http_requests:rate5m{job=~"$job"}', "{{job}}"),
            Query('avg_over_time(service:http_requests:rate5m{job=~"$job"}[1d])', "{{job}}, mean of a day"),
        ],
        unit="reqps",
        description=about("Load. What it will be is told by `restaurant-otel score --outlook`."),
    ),
)
_TEXT: Final = text_panel(
    "What this means",
    "An objective of 99.9 % leaves a budget of 0.1 % of the requests of 30 days. A **burn rate** of"
    " 1 spends it in just 30 days."
    " Alerts fire on fast burns (a page) and slow ones (a ticket), each over a long and a short window, so that they"
    " are neither nervous nor late, and stop soon after the cause is gone.",
    description="What budgets and burn rates are.",
    size=(6, 8),
)

BOARD: Final = Board(
    "restaurant-slo",
    "Restaurant: SLO",
    "What is left of the error budgets, how fast they burn, and when they will be gone.",
    (Section("", _BARS), Section("Burn", (_TABLE, _TEXT, *_GRAPHS))),
    variables=(
        choice_variable(
            "slo",
            "Objective",
            [each.name for each in DEFAULT_OBJECTIVES.slos],
            description="Which objectives are shown.",
        ),
    ),
    hours=24,
)
