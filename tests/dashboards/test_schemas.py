"""The committed dashboards are what Grafana's own models read and write: the classic schema, and v2 with tabs.

The models are those of grafana-foundation-sdk, generated from Grafana's schemas. What they do not know they drop, and
what they need they miss, so a dashboard that comes out as it went in has nothing that Grafana does not know.
"""

from __future__ import annotations

import copy
import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard as classic_models
from grafana_foundation_sdk.models import dashboardv2 as v2_models

from dashboards.src.__main__ import ROOT
from restaurant_otel.cli import main
from tests.dashboards.grafana import DASHBOARDS, panels

V2: dict[str, dict[str, Any]] = {
    file.stem: json.loads(file.read_text()) for file in sorted((ROOT / "grafana" / "v2").glob("*.json"))
}
OF_VARIABLES = re.compile(r"\.variables\[\d+\]\.spec\.query\.spec\.(query|qryType)")
"""The SDK reads a variable's query in v2 as if it were a panel's, which has neither of these."""

EVERY = pytest.mark.parametrize("uid", DASHBOARDS)


@pytest.fixture(scope="module", autouse=True)
def _panels_are_known() -> None:
    register_default_plugins()


class Encoder(JSONEncoder):
    """As the SDK's, which writes v2's kinds of panels as sets of one (0.0.21)."""

    def default(self, o: Any) -> Any:
        return next(iter(o)) if isinstance(o, set) and len(o) == 1 else super().default(o)


def through(models: Any, plain: dict[str, Any]) -> dict[str, Any]:
    """What the SDK makes of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        read = models.Dashboard.from_json(copy.deepcopy(plain))
    written: dict[str, Any] = json.loads(json.dumps(read, cls=Encoder))
    return written


def differences(mine: Any, theirs: Any, place: str = "") -> list[str]:
    """Where the two differ, what the SDK adds of its own left out."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        return [
            each
            for key in mine
            for each in (
                differences(mine[key], theirs[key], f"{place}.{key}")
                if key in theirs
                else [f"{place}.{key} is not known"]
            )
            if key in theirs or not (mine[key] is None or OF_VARIABLES.fullmatch(f"{place}.{key}"))
        ]
    if isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        pairs = enumerate(zip(mine, theirs, strict=True))
        return [each for number, (a, b) in pairs for each in differences(a, b, f"{place}[{number}]")]
    return [] if mine == theirs else [f"{place}: {mine!r} became {theirs!r}"]


@EVERY
def test_the_classic_schema_comes_out_as_it_went_in(uid: str) -> None:
    assert differences(DASHBOARDS[uid], through(classic_models, DASHBOARDS[uid])) == []


@EVERY
def test_v2_comes_out_as_it_went_in(uid: str) -> None:
    assert V2[uid]["apiVersion"] == "dashboard.grafana.app/v2"
    assert (V2[uid]["kind"], V2[uid]["metadata"]) == ("Dashboard", {"name": uid})
    assert differences(V2[uid]["spec"], through(v2_models, V2[uid]["spec"])) == []


def test_what_grafana_does_not_know_is_found() -> None:
    for models, plain, panel in (
        (classic_models, DASHBOARDS["restaurant-cache"], lambda plain: plain["panels"][0]),
        (v2_models, V2["restaurant-cache"]["spec"], lambda plain: plain["elements"]["panel-1"]["spec"]),
    ):
        broken = copy.deepcopy(plain)
        panel(broken)["titel"] = "Hits"
        broken["refreshed"] = "30s"
        found = differences(broken, through(models, broken))
        assert len(found) == 2, found
        assert all("is not known" in each for each in found)


@EVERY
def test_v2_holds_the_panels_and_queries_of_the_classic_one(uid: str) -> None:
    classic, spec = DASHBOARDS[uid], V2[uid]["spec"]
    shown = {panel["id"]: panel for panel in panels(classic) if panel["type"] != "row"}
    found = {element["spec"]["id"]: element["spec"] for element in spec["elements"].values()}
    assert list(found) == list(shown)
    for number, panel in found.items():
        same = shown[number]
        assert (panel["title"], panel["vizConfig"]["group"]) == (same["title"], same["type"])
        assert panel["vizConfig"]["spec"]["options"] == same["options"]
        assert panel["vizConfig"]["spec"]["fieldConfig"] == same.get(
            "fieldConfig", {"defaults": {}, "overrides": []}
        )
        queries = [each["spec"] for each in panel["data"]["spec"]["queries"]]
        assert [(each["refId"], each["query"]["spec"]["expr"]) for each in queries] == [
            (target["refId"], target["expr"]) for target in same.get("targets", [])
        ]
    for kind, listed in (("variables", "templating"), ("annotations", "annotations")):
        names = [each["spec"]["name"] for each in spec[kind]]
        assert names == [each["name"] for each in classic.get(listed, {}).get("list", [])]


@EVERY
def test_v2_has_a_tab_a_section_and_each_panel_in_one(uid: str) -> None:
    tabs = [tab["spec"] for tab in V2[uid]["spec"]["layout"]["spec"]["tabs"]]
    titles = [panel["title"] for panel in DASHBOARDS[uid]["panels"] if panel["type"] == "row"]
    assert [tab["title"] for tab in tabs if tab["title"] != "At a glance"] == titles
    items = [item["spec"] for tab in tabs for item in tab["layout"]["spec"]["items"]]
    assert sorted(item["element"]["name"] for item in items) == sorted(V2[uid]["spec"]["elements"])
    for tab in tabs:
        assert min(item["spec"]["y"] for item in tab["layout"]["spec"]["items"]) == 0


def test_exported_in_the_schema_that_is_asked_for(tmp_path: Path) -> None:
    assert main(["dashboards", "export", str(tmp_path / "v2"), "--schema", "v2"]) == 0
    assert main(["dashboards", "export", str(tmp_path / "classic")]) == 0
    assert main(["dashboards", "export", str(tmp_path), "--schema", "v3"]) == 2
    found = {name: {file.name for file in (tmp_path / name).iterdir()} for name in ("v2", "classic")}
    assert found["v2"] - found["classic"] == {"v2"}
    assert found["classic"] - found["v2"] == {"dashboards"}
    exported = json.loads((tmp_path / "v2" / "v2" / "restaurant-slo.json").read_text())
    assert exported == V2["restaurant-slo"]
