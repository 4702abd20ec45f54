"""Alerts: what fires and what is pending, by priority, with runbooks."""

from __future__ import annotations

from typing import Final

from dashboards.src.grafana.alerting import SEVERITIES, runbook_list
from dashboards.src.grafana.board import Board, Section, choice_variable
from dashboards.src.grafana.panels import (
    Column,
    Label,
    Query,
    Steps,
    about,
    graph_panel,
    points_steps,
    stat_panel,
    table_panel,
    text_panel,
)
from dashboards.src.grafana.places import to

_WHERE: Final = 'job=~"$job|", instance=~"$instance|"'
_CHOSEN: Final = f'{_WHERE}, severity=~"$severity", alertstate=~"$state"'
_FIRING: Final = f'{_WHERE}, severity=~"$severity", alertstate="firing"'


def _count(severity: str, colour: str) -> object:
    return stat_panel(
        severity.capitalize(),
        f'count(ALERTS{{{_WHERE}, alertstate="firing", severity="{severity}"}}) or vector(0)',
        unit="none",
        decimals=0,
        colours=Steps("green", ((1, colour),)),
        background=True,
        size=(5, 4),
        description=about(f"Alerts of severity {severity} that fire now."),
    )


_STATS: Final = (
    *(_count(severity, colour) for severity, (_, colour) in SEVERITIES.items()),
    stat_panel(
        "Pending",
        f'count(ALERTS{{{_WHERE}, alertstate="pending"}}) or vector(0)',
        unit="none",
        decimals=0,
        colours=Steps("green", ((1, "yellow"),)),
        size=(4, 4),
        description=about("Alerts whose condition holds, and that fire if it goes on."),
    ),
    stat_panel(
        "Score",
        [Query('service:performance_score{job=~"$job"}', "{{job}}")],
        unit="none",
        decimals=0,
        colours=points_steps(),
        size=(5, 4),
        no_value="data missing",
        description=about("The performance score; its bands have alerts of their own.", runbooks=("score",)),
    ),
)
_WHERES: Final = tuple(
    f'"{label}"'
    for label in (
        "slo",
        "window",
        "http_route",
        "restaurant_db_relationship",
        "db_client_connection_pool_name",
        "restaurant_cache_name",
        "restaurant_thread_pool_name",
        "restaurant_metric_name",
        "restaurant_telemetry_part",
        "instance",
        "worker",
        "system_filesystem_mountpoint",
    )
)
"""Labels that say of what an alert is: each has one or two of them."""
_RANK: Final = " or ".join(
    f'label_replace({{}}, "priority", "{number} {name}", "severity", "{name}")'.replace(
        "{}", f'(ALERTS{{{_CHOSEN}, severity="{name}"}})'
    )
    for number, name in enumerate(SEVERITIES, 1)
)
_JOINED: Final = f'label_join({_RANK}, "where", " ", {", ".join(_WHERES)})'
_PLACED: Final = f'label_replace({_JOINED}, "where", "$1", "where", " *(.*?) *")'
_TABLE: Final = table_panel(
    "Alerts",
    [
        Label(
            "Priority",
            "priority",
            width=110,
            texts={
                f"{n} {name}": (name, colour) for n, (name, (_, colour)) in enumerate(SEVERITIES.items(), 1)
            },
            coloured=True,
        ),
        Label("Alert", "alertname"),
        Label(
            "State",
            "alertstate",
            width=85,
            texts={"firing": ("firing", "red"), "pending": ("pending", "yellow")},
            coloured=True,
        ),
        Label("Job", "job", link=to("restaurant-overview", "Overview of this job"), width=130),
        Label("Where", "where", wrap=True),
    ],
    [
        Column(
            "Count",
            f"count by (priority, alertname, alertstate, job, where) ({_PLACED})",
            "none",
            width=75,
        ),
    ],
    sort="Priority",
    ascending=True,
    size=(24, 13),
    description=about(
        "What fires and what is pending, the most urgent first. Severity and state are chosen above."
    ),
)
_GRAPHS: Final = (
    graph_panel(
        "Firing over time",
        [Query(f"count by (severity) (ALERTS{{{_FIRING}}})", "{{severity}}")],
        unit="none",
        bars=True,
        stacked=True,
        size=(12, 8),
        series_colours={name: colour for name, (_, colour) in SEVERITIES.items()},
        description=about("Alerts that fired, by severity."),
    ),
    graph_panel(
        "Which, over time",
        [Query(f"count by (alertname) (ALERTS{{{_FIRING}}})", "{{alertname}}")],
        unit="none",
        bars=True,
        stacked=True,
        size=(12, 8),
        description=about("Alerts that fired, by name."),
    ),
)
_RUNBOOKS: Final = text_panel(
    "Runbooks",
    runbook_list(),
    description="What to do about each alert: what it means, how to look, what helps.",
    size=(24, 9),
)

BOARD: Final = Board(
    "restaurant-alerts",
    "Restaurant: alerts",
    "What fires and what is pending, by priority. Silences and routes are Alertmanager's.",
    (
        Section("", _STATS),
        Section("Now", (_TABLE,)),
        Section("Over time", _GRAPHS),
        Section("Runbooks", (_RUNBOOKS,)),
    ),
    variables=(
        choice_variable("severity", "Severity", list(SEVERITIES), description="Which severities are shown."),
        choice_variable("state", "State", ["firing", "pending"], description="Firing, pending, or both."),
    ),
)
