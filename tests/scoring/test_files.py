"""Objectives from a file, a mapping or words; and a clear word about every mistake."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from restaurant_otel import Settings, SettingsError
from restaurant_otel.catalog import DEFAULT_OBJECTIVES
from restaurant_otel.scorecard.files import assign, read
from restaurant_otel.scoring import ADVICE, ObjectivesError, Reading, Snapshot, load, score

FILE = """
[components.api]
objective = 0.3
limit = 1.2
weight = 10
critical = true
exclude_routes = ["/export"]

[components.cache]
weight = 0

[slo.latency]
target = 0.9
seconds = 0.5

[score]
good = 95
coverage = 0.3

[[advice]]
name = "ask-the-bakers"
component = "database"
action = "Ask the bakers."
runbook = "https://wiki/bakers"
"""


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "objectives.toml"
    file.write_text(FILE)
    goals = load(file)
    api = goals.objectives["api"]
    assert (api.objective, api.limit, api.weight, api.critical) == (0.3, 1.2, 10, True)
    assert api.exclude_routes == ("/export",)
    assert goals.objectives["errors"] == DEFAULT_OBJECTIVES["errors"]
    assert (goals.objectives.good, goals.objectives.fair, goals.objectives.coverage) == (95, 60, 0.3)
    latency = next(slo for slo in goals.objectives.slos if slo.name == "latency")
    assert (latency.target, latency.seconds) == (0.9, 0.5)
    assert goals.advice[0].name == "ask-the-bakers"
    assert goals.advice[1:] == ADVICE
    card = score(
        Snapshot({"api": Reading(0.75), "cache": Reading(0.1), "errors": Reading(0)}), goals.objectives
    )
    assert "cache" not in [each.name for each in card.components]
    assert card["api"].points == pytest.approx(50)


def test_settings_take_a_file_words_or_a_mapping(tmp_path: Path) -> None:
    file = tmp_path / "objectives.toml"
    file.write_text(FILE)
    by_file = Settings.resolve({"RESTAURANT_OTEL_OBJECTIVES": str(file)}).objectives
    assert by_file.objectives["api"].limit == 1.2
    words = Settings.resolve(
        {"RESTAURANT_OTEL_OBJECTIVES": "api.objective=0.3, slo.latency.target=0.9,score.good=95"}
    )
    assert words.objectives.objectives["api"].objective == 0.3
    assert words.objectives.objectives.good == 95
    mapping = Settings.resolve({}, objectives={"components": {"cpu": {"weight": 0}}}).objectives
    assert mapping.objectives["cpu"].weight == 0
    assert Settings.resolve({}).objectives.objectives == DEFAULT_OBJECTIVES


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"component": {}}, "unknown component; allowed: components, slo, score, advice"),
        ({"components": {"apis": {}}}, "unknown components 'apis'; allowed: availability"),
        ({"components": {"api": {"objektive": 1}}}, "unknown components.api.objektive; allowed: objective"),
        ({"components": {"cpu": {"routes": ["/x"]}}}, "unknown components.cpu.routes"),
        (
            {"components": {"api": {"objective": "fast"}}},
            "components.api.objective is 'fast', but must be a number",
        ),
        ({"components": {"api": {"objective": True}}}, "must be a number"),
        ({"components": {"api": {"weight": -1}}}, "components.api.weight is -1, but must be from 0"),
        ({"components": {"api": {"objective": 0.8}}}, "objective and limit are both 0.8, but must differ"),
        ({"components": {"api": {"objective": 0.9}}}, "objective 0.9 must lie below the limit 0.8"),
        ({"components": {"cache": {"objective": 0.4}}}, "objective 0.4 must lie above the limit 0.5"),
        ({"components": {"cpu": {"limit": 90}}}, "are shares, from 0 to 1"),
        ({"components": {"api": {"critical": "yes"}}}, "critical is 'yes', but must be true or false"),
        ({"components": {"page": {"routes": "/menu"}}}, 'must be a list such as ["/menu"]'),
        (
            {"components": {each.component: {"weight": 0} for each in DEFAULT_OBJECTIVES.components}},
            "at least one",
        ),
        ({"components": 5}, "components must be a table"),
        ({"slo": {"latency": {"seconds": 0.3}}}, "must be a bound of the buckets: 0.005"),
        ({"slo": {"latency": {"target": 1.0}}}, "target is 1, but must be from 0.5 to below 1"),
        ({"slo": {"availability": {"seconds": 0.5}}}, "unknown slo.availability.seconds"),
        ({"score": {"good": 50}}, "score.fair is 60, above score.good, 50"),
        ({"score": {"coverage": 2}}, "score.coverage is 2, but must be from 0 to 1"),
        ({"advice": {}}, "must be a list of tables"),
        ({"advice": [{"name": "x"}]}, "advice 1: component must be a text"),
        (
            {"advice": [{"name": "x", "component": "y", "action": "z", "runbook": ""}]},
            "unknown advice 1: component 'y'",
        ),
    ],
)
def test_mistakes_are_told_with_their_place_and_what_is_allowed(data: dict[str, Any], says: str) -> None:
    with pytest.raises(ObjectivesError, match=re.escape(says)):
        read(data)
    with pytest.raises(SettingsError, match=re.escape(says)):
        Settings.resolve({}, objectives=data)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("api", "is not of the form"),
        ("objective=1", "is not of the form"),
        ("api.objective=fast", "neither a number"),
    ],
)
def test_words_that_are_no_assignments_are_told(word: str, says: str) -> None:
    with pytest.raises(ObjectivesError, match=says):
        assign([word])


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        Settings.resolve({}, objectives=str(tmp_path / "none.toml"))
    (tmp_path / "bad.toml").write_text("[components")
    with pytest.raises(ObjectivesError, match=r"bad\.toml: Expected"):
        load(tmp_path / "bad.toml")
    with pytest.raises(SettingsError, match="a file's path, words"):
        Settings.resolve({}, objectives=5)
