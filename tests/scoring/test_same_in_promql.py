"""Python and PromQL give one score: from the same counts, over the same windows, with anything missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from restaurant_otel.catalog import Objectives
from restaurant_otel.metrics.registry import Registry
from restaurant_otel.rules import recording
from restaurant_otel.rules.model import yaml
from restaurant_otel.rules.options import Options
from restaurant_otel.rules.performance import COMPONENT
from restaurant_otel.scorecard.files import Goals, read
from restaurant_otel.scorecard.formula import Band, Scorecard
from restaurant_otel.scorecard.keeper import Keeper
from tests.scoring.cases import BEFORE, LATELY, STEP, Series, services
from tests.support.promtool import promtool

OTHER = {
    "components": {
        "api": {
            "objective": 0.1,
            "limit": 2.0,
            "weight": 30,
            "critical": True,
            "exclude_routes": ["/orders"],
        },
        "page": {"routes": ["/menu", "/home"], "weight": 5},
        "cpu": {"weight": 0},
        "errors": {"minimum": 3},
        "memory": {"objective": 0.6, "limit": 0.9},
    },
    "score": {"coverage": 0.3},
}


def judged(series: list[Series], objectives: Objectives) -> Scorecard:
    """What a keeper says that looks at the right moments."""
    registry = Registry()
    clock = [registry.start_time]
    keeper = Keeper(Goals(objectives), registry, clock=lambda: clock[0])
    end = BEFORE + LATELY
    card = None
    # Prometheus takes the growth from the first sample inside of the hour, which is 59 minutes old.
    for step, minute in ((0, 0), (end - 59, end - 60), (end - 5, end - 5), (end, end)):
        for each in series:
            each.set(registry, step)
        clock[0] = registry.start_time + minute * STEP
        card = keeper.look()
    assert card is not None
    return card


@pytest.mark.parametrize("other", [{}, OTHER], ids=["defaults", "others"])
def test_hundreds_of_services_have_the_same_score_in_python_and_in_promql(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    objectives = read(other).objectives
    fleet = services(150, seed=7 if other else 8)
    cards = {job: judged(series, objectives) for job, series in fleet.items()}
    assert {card.band for card in cards.values()} == set(Band)  # all that can happen does
    assert any(card.capped_by for card in cards.values())

    rules = [group for group in recording.groups(Options(objectives)) if group.name.endswith("score")]
    (tmp_path / "rules.yml").write_text(yaml({"groups": [group.data("30s") for group in rules]}))
    test = _test(fleet, cards)
    (tmp_path / "test.yml").write_text(json.dumps(test))
    promtool("test", "rules", tmp_path / "test.yml")

    # A test that cannot fail shows nothing: one figure that is off by two tenths is found.
    expected = [row for part in test["tests"] for row in part["input_series"]]
    row = next(each for each in expected if each["series"].startswith("expected_score"))
    row["values"] = f"{float(row['values'].partition('x')[0]) + 0.2}x80"
    (tmp_path / "test.yml").write_text(json.dumps(test))
    assert "service:performance_score" in promtool("test", "rules", tmp_path / "test.yml", fails=True)


AT_ONCE = 6
"""Services in one of promtool's tests, which limit how many samples a query may read."""


def _test(fleet: dict[str, list[Series]], cards: dict[str, Scorecard]) -> dict[str, Any]:
    jobs = list(fleet)
    some = [jobs[first : first + AT_ONCE] for first in range(0, len(jobs), AT_ONCE)]
    return {
        "rule_files": ["rules.yml"],
        "evaluation_interval": END,
        "tests": [_part({job: fleet[job] for job in part}, cards) for part in some],
    }


END = f"{(BEFORE + LATELY) * STEP + 1}s"
"""One evaluation, a second after the last samples, so that ranges open and closed at their left see the same."""


def _part(fleet: dict[str, list[Series]], cards: dict[str, Scorecard]) -> dict[str, Any]:
    rows = [
        {"series": name, "values": values}
        for job, series in fleet.items()
        for each in series
        for name, values in each.prometheus(job)
    ]
    for job in fleet:
        card = cards[job]
        if card.total is not None:
            rows.append({"series": f'expected_score{{job="{job}"}}', "values": f"{card.total}x80"})
        rows.append({"series": f'expected_coverage{{job="{job}"}}', "values": f"{card.coverage}x80"})
        for each in card.components:
            labels = f'{{job="{job}", {COMPONENT}="{each.name}"}}'
            if each.points is not None:
                rows.append({"series": f"expected_points{labels}", "values": f"{each.points}x80"})
                rows.append({"series": f"expected_recoverable{labels}", "values": f"{each.recoverable}x80"})
    checks: list[dict[str, Any]] = []
    for recorded, expected, tolerance, on in (
        ("service:performance_score", "expected_score", 0.1 + 1e-6, "job"),
        ("service:performance_coverage", "expected_coverage", 1e-9, "job"),
        ("service_component:performance_score", "expected_points", 0.5, f"job, {COMPONENT}"),
        ("service_component:performance_recoverable", "expected_recoverable", 0.1, f"job, {COMPONENT}"),
    ):
        queries = (
            f"abs({recorded} - on ({on}) {expected}) > {tolerance}",
            f"{recorded} unless on ({on}) {expected}",
            f"{expected} unless on ({on}) {recorded}",
        )
        checks.extend({"expr": query, "eval_time": END, "exp_samples": []} for query in queries)
    return {"interval": f"{STEP}s", "input_series": rows, "promql_expr_test": checks}
