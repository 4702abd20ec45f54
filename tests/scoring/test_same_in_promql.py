"""Python and PromQL give one score and one evidence: of the same counts and windows, with anything missing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from dashboards.src.grafana.recommendations import EVIDENCE, SHOWN_BY
from restaurant_otel import catalog
from restaurant_otel.catalog import DEFAULT_OBJECTIVES, Objectives
from restaurant_otel.metrics.registry import Registry
from restaurant_otel.rules import recording
from restaurant_otel.rules.model import Group, yaml
from restaurant_otel.rules.options import Options, name_of
from restaurant_otel.rules.performance import COMPONENT
from restaurant_otel.scorecard import evidence
from restaurant_otel.scorecard.evidence import MOST_FACTS
from restaurant_otel.scorecard.files import Goals, read
from restaurant_otel.scorecard.formula import Band, Fact, Scorecard, Snapshot
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


def judged(series: list[Series], objectives: Objectives) -> tuple[Scorecard, Snapshot]:
    """What a keeper says, and why, that looks at the right moments."""
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
    return card, keeper.snapshot()


@pytest.mark.parametrize("other", [{}, OTHER], ids=["defaults", "others"])
def test_hundreds_of_services_have_the_same_score_in_python_and_in_promql(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    objectives = read(other).objectives
    fleet = services(150, seed=7 if other else 8)
    cards = {job: judged(series, objectives)[0] for job, series in fleet.items()}
    assert {card.band for card in cards.values()} == set(Band)  # all that can happen does
    assert any(card.capped_by for card in cards.values())

    _write_rules(
        tmp_path, [group for group in recording.groups(Options(objectives)) if group.name.endswith("score")]
    )
    test = _test({job: (series, _same_score(job, cards[job])) for job, series in fleet.items()}, _SCORES)
    (tmp_path / "test.yml").write_text(json.dumps(test))
    promtool("test", "rules", tmp_path / "test.yml")

    # A test that cannot fail shows nothing: one figure that is off by two tenths is found.
    expected = [row for part in test["tests"] for row in part["input_series"]]
    row = next(each for each in expected if each["series"].startswith("expected_score"))
    row["values"] = f"{float(row['values'].partition('x')[0]) + 0.2}x80"
    (tmp_path / "test.yml").write_text(json.dumps(test))
    assert "service:performance_score" in promtool("test", "rules", tmp_path / "test.yml", fails=True)


def test_what_dashboards_name_as_evidence_is_what_python_names(tmp_path: Path) -> None:
    fleet = services(48, seed=9)
    found = {job: judged(series, DEFAULT_OBJECTIVES)[1].facts for job, series in fleet.items()}
    kinds = {kind for facts in found.values() for kind in facts if facts[kind]}
    assert kinds == EVIDENCE.keys() - OF_HOSTS  # all that can be found is
    assert any(len(facts["statements"]) == MOST_FACTS for facts in found.values())

    _write_rules(tmp_path, recording.groups(Options()))
    checks = [check for kind in EVIDENCE for check in _same_facts(kind)]
    told = {job: (series, [*_facts(job, found[job])]) for job, series in fleet.items()}
    test = _test({**told, "hosts": ([], [*_hosts("hosts")])}, checks)
    (tmp_path / "test.yml").write_text(json.dumps(test))
    promtool("test", "rules", tmp_path / "test.yml")

    rows = [
        row
        for part in test["tests"]
        for row in part["input_series"]
        if row["series"].startswith("expected_first")
    ]
    rows[0]["series"] = rows[0]["series"].replace('evidence="', 'evidence="not ')
    (tmp_path / "test.yml").write_text(json.dumps(test))
    assert "expected_first" in promtool("test", "rules", tmp_path / "test.yml", fails=True)


OF_HOSTS = {"busy_hosts", "full_hosts", "leaks"}
"""An app knows its own host and workers only; Prometheus sees many."""


def _hosts(job: str) -> Iterator[dict[str, str]]:
    """Some hosts' figures and workers' slopes, and what Python names of them."""
    shares = {"a:80": 0.5, "b:80": 0.9, "c:80": 0.2, "d:80": 0.75}
    slopes = {"a:80 11": 4e5, "b:80 12": 2e6}
    rows = {
        f'{name_of(metric)}{{job="{job}", instance="{instance}"}}': share
        for metric in (catalog.CPU_UTILIZATION, catalog.MEMORY_UTILIZATION)
        for instance, share in shares.items()
    }
    for name, slope in {
        **slopes,
        "c:80 13": 9e6,
    }.items():  # the last is not suspected: its memory is not short
        instance, worker = name.split()
        labels = f'{{job="{job}", instance="{instance}", worker="{worker}"}}'
        rows[f"{name_of(catalog.MEMORY_LEAK_SLOPE)}{labels}"] = slope
        rows[f"{name_of(catalog.MEMORY_LEAK_SUSPECTED)}{labels}"] = float(name in slopes)
    yield from ({"series": name, "values": f"{value}x80"} for name, value in rows.items())
    named = {
        "busy_hosts": evidence.above(shares.items(), DEFAULT_OBJECTIVES["cpu"], "1"),
        "full_hosts": evidence.above(shares.items(), DEFAULT_OBJECTIVES["memory"], "1"),
        "leaks": evidence.leaks(slopes.items()),
    }
    assert [fact.subject for fact in named["full_hosts"]] == ["b:80", "d:80"]
    yield from _facts(job, named)


def _facts(job: str, facts: Mapping[str, Sequence[Fact]]) -> Iterator[dict[str, str]]:
    """As series: what is named, and what is named first."""
    for kind, named in facts.items():
        for place, fact in enumerate(named):
            labels = f'{{job="{job}", kind="{kind}", {SHOWN_BY}="{fact.subject}"}}'
            yield {"series": f"expected_fact{labels}", "values": "1x80"}
            if place == 0:
                yield {"series": f"expected_first{labels}", "values": "1x80"}


def _same_facts(kind: str) -> Iterator[str]:
    """Queries that find what only one of the two names, and what weighs more than what Python names first."""
    weights = EVIDENCE[kind]('job="hosts"' if kind in OF_HOSTS else 'job=~"service-.+"')
    fact, first = (f'expected_{what}{{kind="{kind}"}}' for what in ("fact", "first"))
    named = f"topk by (job) ({MOST_FACTS}, {weights})"
    yield f"{named} unless on (job, {SHOWN_BY}) {fact}"
    yield f"{fact} unless on (job, {SHOWN_BY}) ({named})"
    weight_of_first = f"max by (job) (({weights}) and on (job, {SHOWN_BY}) {first})"
    yield f"max by (job) ({weights}) > on (job) 1.000001 * {weight_of_first}"
    yield f"{first} unless on (job, {SHOWN_BY}) ({weights})"


AT_ONCE = 6
"""Services in one of promtool's tests, which limit how many samples a query may read."""

END = f"{(BEFORE + LATELY) * STEP + 1}s"
"""One evaluation, a second after the last samples, so that ranges open and closed at their left see the same."""


def _write_rules(folder: Path, groups: Iterable[Group]) -> None:
    (folder / "rules.yml").write_text(yaml({"groups": [group.data("30s") for group in groups]}))


def _test(
    fleet: Mapping[str, tuple[list[Series], Iterable[dict[str, str]]]], checks: Iterable[str]
) -> dict[str, Any]:
    """Of services, what each has counted and what is expected of it, and queries that must find nothing."""
    nothing = [{"expr": query, "eval_time": END, "exp_samples": []} for query in checks]
    jobs = list(fleet)
    parts = []
    for first in range(0, len(jobs), AT_ONCE):
        rows = []
        for job in jobs[first : first + AT_ONCE]:
            series, expected = fleet[job]
            rows += [
                {"series": name, "values": values} for each in series for name, values in each.prometheus(job)
            ]
            rows += expected
        parts.append({"interval": f"{STEP}s", "input_series": rows, "promql_expr_test": nothing})
    return {"rule_files": ["rules.yml"], "evaluation_interval": END, "tests": parts}


def _same_score(job: str, card: Scorecard) -> Iterator[dict[str, str]]:
    """A card as series."""
    if card.total is not None:
        yield {"series": f'expected_score{{job="{job}"}}', "values": f"{card.total}x80"}
    yield {"series": f'expected_coverage{{job="{job}"}}', "values": f"{card.coverage}x80"}
    for each in card.components:
        labels = f'{{job="{job}", {COMPONENT}="{each.name}"}}'
        if each.points is not None:
            yield {"series": f"expected_points{labels}", "values": f"{each.points}x80"}
            yield {"series": f"expected_recoverable{labels}", "values": f"{each.recoverable}x80"}


_SCORES = [
    query
    for recorded, expected, tolerance, on in (
        ("service:performance_score", "expected_score", 0.1 + 1e-6, "job"),
        ("service:performance_coverage", "expected_coverage", 1e-9, "job"),
        ("service_component:performance_score", "expected_points", 0.5, f"job, {COMPONENT}"),
        ("service_component:performance_recoverable", "expected_recoverable", 0.1, f"job, {COMPONENT}"),
    )
    for query in (
        f"abs({recorded} - on ({on}) {expected}) > {tolerance}",
        f"{recorded} unless on ({on}) {expected}",
        f"{expected} unless on ({on}) {recorded}",
    )
]
"""Queries that find what is not the same in both."""
