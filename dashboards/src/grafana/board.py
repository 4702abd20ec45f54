"""A dashboard from its panels: places for them, variables, links between dashboards, annotations, and its JSON.

All dashboards look alike in this: the same refresh, the same variables under the same names (so that links can keep
them), the same annotations for deploys and alerts.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard, prometheus
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from dashboards.src.grafana.panels import SOURCE, Panel

TAG: Final = "restaurant-otel"
COLUMNS: Final = 24
REFRESH: Final = "30s"
INTERVALS: Final = ("5s", "10s", "30s", "1m", "5m", "15m", "30m", "1h")
"""What the refresh may be set to; Grafana always offers "Off" as well."""

DEPLOYS: Final = (
    'count by (job, service_version) (target_info{job=~"$job"})'
    ' unless count by (job, service_version) (target_info{job=~"$job"} offset 2m)'
)
ALERTS: Final = 'ALERTS{alertstate="firing", job=~"$job|"}'


@dataclass(frozen=True, slots=True)
class Section:
    """A row of the dashboard: its title ("" for none) and its panels, left to right, where there is room."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Board:
    """What one dashboard is. `uid` is its address: ``/d/<uid>``."""

    uid: str
    title: str
    description: str
    sections: Sequence[Section]
    variables: Sequence[Any] = field(default=())
    """Beside the data source, job and instance."""
    hours: float = 3
    annotations: bool = True


# --- variables --------------------------------------------------------------------------------------------


def labels_variable(
    name: str, label: str, query: str, *, description: str, every: str = ".+"
) -> dashboard.QueryVariable:
    """A choice among a label's values; `every` is what "All" matches."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(SOURCE)
        .query({"query": query, "refId": name, "qryType": 1})
        .definition(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.NATURAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(every)
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def choice_variable(
    name: str, label: str, values: Sequence[str], *, description: str
) -> dashboard.CustomVariable:
    """A choice among given values."""
    return (
        dashboard.CustomVariable(name)
        .label(label)
        .description(description)
        .values(",".join(values))
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def text_variable(name: str, label: str, value: str, *, description: str) -> dashboard.TextBoxVariable:
    """A text that the reader may change."""
    return dashboard.TextBoxVariable(name).label(label).description(description).default_value(value)


def _common_variables() -> list[Any]:
    source = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    return [
        source.description("The Prometheus, or a compatible store, that everything here is read from."),
        labels_variable(
            "job",
            "Job",
            "label_values(restaurant_telemetry_workers, job)",
            description="The service: its scrape job.",
        ),
        labels_variable(
            "instance",
            "Instance",
            'label_values(restaurant_telemetry_workers{job=~"$job"}, instance)',
            description="The hosts of the service. Figures that are made of a whole service do not depend on it.",
        ),
    ]


# --- links and annotations --------------------------------------------------------------------------------


def _links() -> list[dashboard.DashboardLink]:
    others = dashboard.DashboardLink("Dashboards").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
    return [
        others.as_dropdown(True)
        .keep_time(True)
        .include_vars(True)
        .tooltip("The other dashboards, same time and filters")
    ]


def _annotation(name: str, expr: str, colour: str, title: str, text: str) -> dashboard.AnnotationQuery:
    target = prometheus.Dataquery().ref_id("Anno").datasource(SOURCE).expr(expr).range()
    return (
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(SOURCE)
        .enable(True)
        .icon_color(colour)
        .target(target)
        .expr(expr)
        .step("60s")
        .title_format(title)
        .text_format(text)
    )


def _annotations() -> list[dashboard.AnnotationQuery]:
    return [
        _annotation("Deploys", DEPLOYS, "blue", "Deploy of {{job}}", "Version {{service_version}}"),
        _annotation("Alerts", ALERTS, "red", "{{alertname}}", "{{severity}} {{job}} {{instance}}"),
    ]


# --- the whole --------------------------------------------------------------------------------------------


def build(board: Board) -> dict[str, Any]:
    """The dashboard as Grafana reads it: classic schema, no data source's name, ids in order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the SDK would rather have schema v2
        made = dashboard.Dashboard(board.title)
    made = (
        made.uid(board.uid)
        .description(board.description)
        .tags([TAG])
        .readonly()
        .refresh(REFRESH)
        .timezone("browser")
        .time(f"now-{board.hours:g}h", "now")
        .timepicker(dashboard.TimePicker().refresh_intervals(list(INTERVALS)))
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .variables([*_common_variables(), *board.variables])
        .links(_links())
    )
    if board.annotations:
        made = made.annotations(_annotations())
    plain: dict[str, Any] = json.loads(json.dumps(made.build(), cls=JSONEncoder))
    plain["panels"] = list(_placed(board.sections))
    plain["id"] = None
    for entry in (*plain["links"], *plain.get("annotations", {}).get("list", [])):
        entry.pop("placement", None)  # the SDK would move them into a menu
    for variable in plain["templating"]["list"]:
        for key in [key for key in variable if key.startswith("auto")]:
            del variable[key]  # of interval variables only
    return plain


def _placed(sections: Iterable[Section]) -> Iterator[dict[str, Any]]:
    """The panels with ids, each in the highest, then leftmost place that is free below its section's title."""
    number, top = 0, 0
    for section in sections:
        if section.title:
            number += 1
            place = {"h": 1, "w": COLUMNS, "x": 0, "y": top}
            yield {
                "id": number,
                "type": "row",
                "title": section.title,
                "collapsed": False,
                "panels": [],
                "gridPos": place,
            }
            top += 1
        filled = [top] * COLUMNS  # to which height each column is taken
        for panel in section.panels:
            number += 1
            plain: dict[str, Any] = json.loads(json.dumps(panel.build(), cls=JSONEncoder))
            width, height = plain["gridPos"]["w"], plain["gridPos"]["h"]
            y, x = min((max(filled[x : x + width]), x) for x in range(COLUMNS - width + 1))
            filled[x : x + width] = [y + height] * width
            yield {
                **plain,
                "id": plain.get("id", number),
                "gridPos": {"h": height, "w": width, "x": x, "y": y},
            }
        top = max(filled)


def text_of(board: Board) -> str:
    """The dashboard's file."""
    return json.dumps(build(board), indent=2, ensure_ascii=False) + "\n"
