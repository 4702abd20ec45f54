"""A dashboard in Grafana's schema v2, with a tab a section, made of the classic one: the same panels and queries.

Plain data in, plain data out; the tests read it with the SDK's models. The uid is the classic one's, so that links
between dashboards hold: a Grafana has the one or the other.
Source: https://github.com/grafana/grafana-foundation-sdk, `dashboardv2`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from dashboards.src.grafana.board import Board, build

API_VERSION: Final = "dashboard.grafana.app/v2"
FIRST_TAB: Final = "At a glance"
"""What stands above the first title in the classic schema."""

_CURSORS: Final = ("Off", "Crosshair", "Tooltip")
_REFRESHES: Final = ("never", "onDashboardLoad", "onTimeRangeChanged")
_SORTS: Final = (
    "disabled",
    "alphabeticalAsc",
    "alphabeticalDesc",
    "numericalAsc",
    "numericalDesc",
    "alphabeticalCaseInsensitiveAsc",
    "alphabeticalCaseInsensitiveDesc",
    "naturalAsc",
    "naturalDesc",
)
_PLACED: Final = ("datasource", "refId", "hide")
"""Keys of a classic query that have a place of their own."""


def text_of(board: Board) -> str:
    """The dashboard's file."""
    return json.dumps(resource(build(board)), indent=2, ensure_ascii=False) + "\n"


def resource(classic: Mapping[str, Any]) -> dict[str, Any]:
    """The classic dashboard as Grafana's API has resources."""
    panels = [panel for panel in classic["panels"] if panel["type"] != "row"]
    spec = {
        "title": classic["title"],
        "description": classic["description"],
        "tags": classic["tags"],
        "editable": classic["editable"],
        "cursorSync": _CURSORS[classic["graphTooltip"]],
        "preload": False,
        "links": classic["links"],
        "timeSettings": _times(classic),
        "variables": [_variable(each) for each in classic["templating"]["list"]],
        "annotations": [_annotation(each) for each in classic.get("annotations", {}).get("list", [])],
        "elements": {_name(panel): _panel(panel) for panel in panels},
        "layout": {"kind": "TabsLayout", "spec": {"tabs": _tabs(classic["panels"])}},
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "Dashboard",
        "metadata": {"name": classic["uid"]},
        "spec": spec,
    }


def _name(panel: Mapping[str, Any]) -> str:
    return f"panel-{panel['id']}"


def _times(classic: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "timezone": classic["timezone"],
        "from": classic["time"]["from"],
        "to": classic["time"]["to"],
        "autoRefresh": classic["refresh"],
        "autoRefreshIntervals": classic["timepicker"]["refresh_intervals"],
        "hideTimepicker": classic["timepicker"]["hidden"],
        "fiscalYearStartMonth": classic["fiscalYearStartMonth"],
    }


def _tabs(panels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A tab for each title, each with its panels from the top of the tab."""
    found: list[tuple[str, list[dict[str, Any]]]] = []
    for panel in panels:
        if panel["type"] == "row":
            found.append((panel["title"], []))
            continue
        if not found:
            found.append((FIRST_TAB, []))
        found[-1][1].append(panel)
    return [_tab(title, inside) for title, inside in found if inside]


def _tab(title: str, panels: list[dict[str, Any]]) -> dict[str, Any]:
    top = min(panel["gridPos"]["y"] for panel in panels)
    items = []
    for panel in panels:
        place = panel["gridPos"]
        where = {"x": place["x"], "y": place["y"] - top, "width": place["w"], "height": place["h"]}
        element = {"kind": "ElementReference", "name": _name(panel)}
        items.append({"kind": "GridLayoutItem", "spec": {**where, "element": element}})
    layout = {"kind": "GridLayout", "spec": {"items": items}}
    return {"kind": "TabsLayoutTab", "spec": {"title": title, "layout": layout}}


def _panel(panel: Mapping[str, Any]) -> dict[str, Any]:
    queries = [
        {
            "kind": "PanelQuery",
            "spec": {"query": _query(target), "refId": target["refId"], "hidden": target.get("hide", False)},
        }
        for target in panel.get("targets", [])
    ]
    changes = [
        {"kind": "Transformation", "group": each["id"], "spec": {"options": each["options"]}}
        for each in panel.get("transformations", [])
    ]
    shown = {
        "options": panel.get("options", {}),
        "fieldConfig": panel.get("fieldConfig", {"defaults": {}, "overrides": []}),
    }
    spec = {
        "id": panel["id"],
        "title": panel["title"],
        "description": panel["description"],
        "links": panel.get("links", []),
        "data": {
            "kind": "QueryGroup",
            "spec": {"queries": queries, "transformations": changes, "queryOptions": {}},
        },
        "vizConfig": {"kind": "VizConfig", "group": panel["type"], "version": "", "spec": shown},
        "transparent": panel.get("transparent", False),
    }
    return {"kind": "Panel", "spec": spec}


def _query(classic: Mapping[str, Any], source: Mapping[str, str] | None = None) -> dict[str, Any]:
    source = source or classic["datasource"]
    return {
        "kind": "DataQuery",
        "group": source["type"],
        "version": "v0",
        "datasource": {"name": source["uid"]},
        "spec": {key: value for key, value in classic.items() if key not in _PLACED},
    }


def _variable(classic: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("name", "label", "description", "skipUrlSync")
    spec: dict[str, Any] = {key: classic[key] for key in kept} | {"hide": "dontHide"}
    current = {key: value for key, value in classic.get("current", {}).items() if key != "selected"}
    nothing = {"text": "", "value": ""}
    if classic["type"] == "textbox":
        own = {"query": classic["query"], "current": {"text": classic["query"], "value": classic["query"]}}
        return {"kind": "TextVariable", "spec": {**spec, **own}}
    kept = ("multi", "includeAll", "allowCustomValue")
    spec |= {key: classic[key] for key in kept} | {"current": current or nothing, "options": []}
    if "allValue" in classic:
        spec["allValue"] = classic["allValue"]
    if classic["type"] == "datasource":
        own = {"pluginId": classic["query"], "refresh": "onDashboardLoad", "regex": ""}
        return {"kind": "DatasourceVariable", "spec": {**spec, **own}}
    if classic["type"] == "custom":
        return {"kind": "CustomVariable", "spec": {**spec, "query": classic["query"]}}
    own = {
        "query": _query(classic["query"], classic["datasource"]),
        "definition": classic["definition"],
        "refresh": _REFRESHES[classic["refresh"]],
        "sort": _SORTS[classic["sort"]],
        "regex": "",
    }
    return {"kind": "QueryVariable", "spec": {**spec, **own}}


def _annotation(classic: Mapping[str, Any]) -> dict[str, Any]:
    of_prometheus = ("expr", "textFormat", "titleFormat", "step")
    spec = {
        "name": classic["name"],
        "enable": classic["enable"],
        "hide": classic["hide"],
        "iconColor": classic["iconColor"],
        "builtIn": False,
        "query": _query(classic["target"]),
        "legacyOptions": {key: classic[key] for key in of_prometheus if key in classic},
    }
    return {"kind": "AnnotationQuery", "spec": spec}
