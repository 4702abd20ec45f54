"""The committed dashboards keep to the rules of grafana/dashboard-linter, and to our own.

The linter is a Go program; its rules stand here as tests, under its names: https://github.com/grafana/dashboard-linter
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest

from dashboards.src import __main__ as generator
from dashboards.src import grafana as part
from dashboards.src.grafana.alerting import alerts_with
from dashboards.src.grafana.board import COLUMNS, REFRESH, TAG
from restaurant_otel.bundled import runbooks
from restaurant_otel.catalog import METRICS, Across, Kind, Metric, prometheus_label
from restaurant_otel.rules import recording
from restaurant_otel.rules.alerts import alerts
from restaurant_otel.rules.options import Options
from restaurant_otel.rules.runbooks import DASHBOARD, link, panel_id
from tests.dashboards.grafana import (
    DASHBOARDS,
    FILES,
    Asked,
    filled,
    label_values,
    panels,
    queries,
    selectors,
    unit,
)

UNITS = {
    "none",
    "string",
    "short",
    "percentunit",
    "bytes",
    "Bps",
    "s",
    "reqps",
    "ops",
    "cps",
    "pps",
    "dtdurations",
}
"""Grafana's names of units that we use: `@grafana/data`'s categories.ts has all."""

DRAWN = {"stat", "bargauge", "timeseries", "table", "text", "row"}
"""Panel types that dashboards/preview can draw: nothing is committed unseen."""

EVERY = pytest.mark.parametrize("uid", DASHBOARDS)
QUERIES = list(queries())
OF_PANELS = [asked for asked in QUERIES if asked.target]


def _shown() -> Iterator[tuple[str, dict[str, Any]]]:
    for uid, dashboard in DASHBOARDS.items():
        for panel in panels(dashboard):
            if panel["type"] != "row":
                yield uid, panel


def test_the_seven_areas_and_the_runbooks_are_there_and_nothing_is_stale() -> None:
    areas = {"overview", "api", "database", "cache", "resources", "alerts", "slo", "runbooks"}
    assert set(DASHBOARDS) == {f"restaurant-{area}" for area in areas}
    made = {generator.ROOT / name for name in part.files()}
    assert set(FILES) <= made
    assert [file for file, _ in generator.stale() if file in made] == []


def test_every_alert_leads_to_a_dashboard() -> None:
    assert {f"restaurant-{alert.area}" for alert in alerts(Options())} <= set(DASHBOARDS)


# --- grafana/dashboard-linter, dashboards ----------------------------------------------------------------


@EVERY
def test_template_datasource_rule(uid: str) -> None:
    sources = [each for each in DASHBOARDS[uid]["templating"]["list"] if each["type"] == "datasource"]
    assert [(each["name"], each["label"], each["query"]) for each in sources] == [
        ("datasource", "Data source", "prometheus")
    ]


@EVERY
@pytest.mark.parametrize("name", ["job", "instance"])
def test_template_job_and_instance_rules(uid: str, name: str) -> None:
    [variable] = [each for each in DASHBOARDS[uid]["templating"]["list"] if each["name"] == name]
    assert variable["type"] == "query"
    assert variable["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert variable["label"] == name.capitalize()
    assert variable["multi"] is True
    assert variable["allValue"] == ".+"


@EVERY
def test_template_label_promql_and_on_time_change_reload_rules(uid: str) -> None:
    for variable in DASHBOARDS[uid]["templating"]["list"]:
        if variable["type"] == "query":
            assert label_values(variable)
            assert variable["refresh"] == 2, variable["name"]


@EVERY
def test_uneditable_dashboard_rule(uid: str) -> None:
    assert DASHBOARDS[uid]["editable"] is False


# --- grafana/dashboard-linter, panels --------------------------------------------------------------------


def test_panel_datasource_title_and_description_rules() -> None:
    for uid, panel in _shown():
        where = f"{uid}: {panel.get('title')}"
        assert panel["title"], where
        assert panel["description"].strip(), where
        if panel["type"] != "text":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, where


def test_panel_no_targets_rule() -> None:
    assert [
        f"{uid}: {panel['title']}"
        for uid, panel in _shown()
        if panel["type"] != "text" and not panel["targets"]
    ] == []


def test_panel_units_rule() -> None:
    for uid, panel in _shown():
        if panel["type"] == "text":
            continue
        units = [panel["fieldConfig"]["defaults"].get("unit")] + [
            change["value"]
            for override in panel["fieldConfig"]["overrides"]
            for change in override["properties"]
            if change["id"] == "unit"
        ]
        assert set(units) <= UNITS, f"{uid}: {panel['title']}: {units}"


# --- grafana/dashboard-linter, queries -------------------------------------------------------------------


@pytest.mark.parametrize("asked", QUERIES, ids=str)
def test_target_promql_rule(asked: Asked) -> None:
    assert promql_parser.parse(filled(asked)) is not None


@pytest.mark.parametrize("asked", OF_PANELS, ids=str)
def test_target_job_and_rate_interval_and_counter_agg_rules(asked: Asked) -> None:
    for selector, around in selectors(filled(asked)):
        matched = {matcher.name for matcher in selector.matchers.matchers}
        recorded = ":" in str(selector.name)
        narrowed = any(type(each).__name__ == "BinaryExpr" for each in around)
        assert "job" in matched or (recorded and narrowed), f"{selector.name} of which job?"
        calls = [each for each in around if type(each).__name__ == "Call"]
        ranges = [each for each in around if type(each).__name__ == "MatrixSelector"]
        if calls and calls[-1].func.name in ("rate", "irate") and "[5m]" not in asked.expr:
            assert ranges, selector.name
            assert ranges[-1].range.total_seconds() == 20, "rate wants $__rate_interval"
        metric = _SERIES.get(str(selector.name))
        if metric and metric.kind in (Kind.HISTOGRAM, Kind.COUNTER, Kind.OBSERVED_COUNTER):
            assert ranges, f"{selector.name} is a counter"
            assert calls[-1].func.name in ("rate", "irate", "increase"), f"{selector.name} is a counter"


# --- our own: names --------------------------------------------------------------------------------------

_SERIES: dict[str, Metric] = {}
for _metric in METRICS:
    _name = _metric.prometheus_name
    if _metric.kind is Kind.HISTOGRAM:
        _SERIES |= {f"{_name}{end}": _metric for end in ("_bucket", "_sum", "_count")}
    elif _metric.kind in (Kind.COUNTER, Kind.OBSERVED_COUNTER):
        _SERIES[f"{_name}_total"] = _metric
    else:
        _SERIES[_name] = _metric
_RECORDED = {rule.record for group in recording.groups(Options()) for rule in group.rules}
_OF_PROMETHEUS = {"ALERTS", "target_info"}


@pytest.mark.parametrize("asked", QUERIES, ids=str)
def test_every_metric_and_label_is_in_the_catalogue(asked: Asked) -> None:
    for selector, _ in selectors(filled(asked)):
        name = str(selector.name)
        if name in _RECORDED or name in _OF_PROMETHEUS:
            continue
        assert name in _SERIES, f"{name} is no metric of ours"
        metric = _SERIES[name]
        known = {prometheus_label(attribute) for attribute in metric.attributes} | {"job", "instance", "le"}
        known |= {"worker"} if metric.across is Across.PER_WORKER else set()
        assert {matcher.name for matcher in selector.matchers.matchers} <= known, name
        for by in re.findall(r"sum by \(([^)]*)\) \((?:rate|increase)?\(?" + re.escape(name), filled(asked)):
            assert {label.strip() for label in by.split(",")} - {""} <= known, f"{name} by {by}"


@pytest.mark.parametrize("asked", OF_PANELS, ids=str)
def test_a_panels_unit_is_its_metrics_unit(asked: Asked) -> None:
    """Seconds are shown as seconds and bytes as bytes: nothing is multiplied by a thousand on the way."""
    metrics = {_SERIES[name] for s, _ in selectors(filled(asked)) if (name := str(s.name)) in _SERIES}
    units = {metric.unit for metric in metrics}
    shown = unit(asked)
    if shown in ("s", "dtdurations"):
        assert units <= {"s"}
    elif shown in ("bytes", "Bps"):
        assert units <= {"By", "By/s"}
    elif shown == "percentunit":
        assert len(units) <= 1 or units == {"s", "1"}, "a share is of two numbers of one unit"
    elif (
        "restaurant_performance_component" not in asked.expr
    ):  # recommendations: points, shown by whatever there is
        assert not units & {"By", "By/s"}, "bytes without a unit"


def test_descriptions_name_alerts_and_runbooks_that_exist() -> None:
    named = set()
    for uid, dashboard in DASHBOARDS.items():
        for panel in panels(dashboard):
            text = panel.get("description", "") + panel.get("options", {}).get("content", "")
            assert ".md)" not in text, "a page that is nowhere in Grafana"
            found = {int(number) for number in re.findall(rf"/d/{DASHBOARD}\?viewPanel=(\d+)\)", text)}
            assert found <= RUNBOOKS.keys(), f"{uid}: {panel['title']}"
            named |= found if uid != DASHBOARD else set()
    assert {panel_id(alert.runbook) for alert in alerts(Options())} <= named, (
        "an alert that no dashboard mentions"
    )
    with pytest.raises(KeyError):
        alerts_with("no-such-page")


RUNBOOKS = {panel["id"]: panel for panel in panels(DASHBOARDS[DASHBOARD]) if panel["type"] == "text"}


def test_every_runbook_is_a_panel_to_which_its_alerts_link() -> None:
    pages = {page.stem: page.read_text() for page in runbooks().glob("*.md") if page.stem != "README"}
    assert {panel_id(name) for name in pages} == RUNBOOKS.keys()
    assert len(RUNBOOKS) == len(pages)
    for name, text in pages.items():
        panel = RUNBOOKS[panel_id(name)]
        assert f"# {panel['title']}\n" in text
        assert {"#### What it means", "#### What helps"} <= set(panel["options"]["content"].splitlines())
    for alert in alerts(Options()):
        url = alert.data(Options())["annotations"]["runbook_url"]
        assert url.endswith(link(alert.runbook))
        assert alert.name in RUNBOOKS[int(url.rpartition("=")[2])]["description"]


# --- our own: form ---------------------------------------------------------------------------------------


def test_ids_and_titles_are_unique() -> None:
    assert len({dashboard["title"] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)
    for uid, dashboard in DASHBOARDS.items():
        assert dashboard["uid"] == uid
        assert len(uid) <= 40
        ids = [panel["id"] for panel in panels(dashboard)]
        assert len(ids) == len(set(ids)), uid


@EVERY
def test_no_panel_covers_another_or_leaves_the_grid(uid: str) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in panels(DASHBOARDS[uid]):
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= COLUMNS
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} covers {taken[x, y]}"
                taken[x, y] = panel["title"]


@EVERY
def test_a_width_of_one_column_is_enough(uid: str) -> None:
    """Grafana stacks panels on a phone in the order of their places: the file's order must be that one."""
    places = [(panel["gridPos"]["y"], panel["gridPos"]["x"]) for panel in panels(DASHBOARDS[uid])]
    rows = [panel["gridPos"]["y"] for panel in DASHBOARDS[uid]["panels"] if panel["type"] == "row"]
    assert rows == sorted(rows)
    assert len(set(places)) == len(places)


@EVERY
def test_refresh_annotations_and_links(uid: str) -> None:
    dashboard = DASHBOARDS[uid]
    assert dashboard["refresh"] == REFRESH == "30s"
    assert REFRESH in dashboard["timepicker"]["refresh_intervals"]
    [others] = dashboard["links"]
    assert (others["type"], others["tags"], others["keepTime"], others["includeVars"]) == (
        "dashboards",
        [TAG],
        True,
        True,
    )
    assert TAG in dashboard["tags"]
    assert {each["name"] for each in dashboard["annotations"]["list"]} >= {"Deploys", "Alerts"}
    assert all("placement" not in each for each in (*dashboard["links"], *dashboard["annotations"]["list"]))


def test_links_of_panels_lead_to_dashboards_that_exist_and_variables_that_they_have() -> None:
    found = 0
    for uid, panel in _shown():
        for url in re.findall(r'"url": "(/d/[^"]*)"', _text(panel)):
            target = re.match(r"/d/([\w-]+)\?", url)
            if target is None:
                assert url.startswith("/d/restaurant-${__value.raw}?"), f"{uid}: {url}"
                continue
            found += 1
            assert target[1] in DASHBOARDS, url
            assert "${__url_time_range}" in url, "the time is kept"
            names = {each["name"] for each in DASHBOARDS[target[1]]["templating"]["list"]}
            assert set(re.findall(r"var-(\w+)=", url)) <= names, url
    assert found > 5


def test_variables_in_queries_are_those_of_the_dashboard() -> None:
    for asked in QUERIES:
        names = {each["name"] for each in DASHBOARDS[asked.dashboard]["templating"]["list"]}
        used = set(re.findall(r"\$\{?([a-z_]\w*)", asked.expr)) - {"__rate_interval", "__range", "__interval"}
        assert used <= names, str(asked)


def test_only_panels_that_can_be_looked_at() -> None:
    assert {panel["type"] for dashboard in DASHBOARDS.values() for panel in panels(dashboard)} <= DRAWN


def test_the_cache_is_cleared_by_a_confirmed_post_that_carries_no_secret() -> None:
    [panel] = [panel for panel in panels(DASHBOARDS["restaurant-cache"]) if panel["title"] == "Clear a cache"]
    [changes] = [
        each["properties"]
        for each in panel["fieldConfig"]["overrides"]
        if each["matcher"]["options"] == "Clear"
    ]
    properties = {change["id"]: change["value"] for change in changes}
    assert properties["custom.cellOptions"] == {"type": "actions"}
    [action] = properties["actions"]
    assert action["confirmation"]
    assert action["fetch"]["method"] == "POST"
    assert action["fetch"]["url"] == "${admin_url}/cache/clear?name=${__data.fields.Cache}"
    assert dict(action["fetch"]["headers"]) == {
        "Content-Type": "application/json",
        "Authorization": "Bearer $token",  # which the reader types when asked for confirmation
    }
    assert [each["key"] for each in action["variables"]] == ["token"]


def test_nothing_names_a_data_source_or_a_machine() -> None:
    for file in FILES:
        text = file.read_text()
        assert "__inputs" not in text
        assert set(re.findall(r'"uid": "(\$?[^"]*)"', text)) <= {
            "${datasource}",
            file.stem,
            "-- Grafana --",
            "grafana",
        }


def _text(panel: dict[str, Any]) -> str:
    return json.dumps(panel)
