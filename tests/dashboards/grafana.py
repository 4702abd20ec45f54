"""The committed dashboards, and what Grafana makes of their queries: shared by the tests of rules and of answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser

from dashboards.src.__main__ import ROOT

FILES = sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
DASHBOARDS: dict[str, dict[str, Any]] = {file.stem: json.loads(file.read_text()) for file in FILES}

DURATIONS = {"__rate_interval": "20s", "__range": "15m", "__interval": "5s"}


@dataclass(frozen=True)
class Asked:
    """A query of a dashboard: of a panel's target, a variable or an annotation."""

    dashboard: str
    place: str
    expr: str
    panel: dict[str, Any] | None = None
    target: dict[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.dashboard}, {self.place}"


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """All panels, those inside of collapsed rows included."""
    return [inner for panel in dashboard["panels"] for inner in (panel, *panel.get("panels", []))]


def queries() -> Iterator[Asked]:
    """Every PromQL query of every dashboard; a variable's without its `label_values`."""
    for uid, dashboard in DASHBOARDS.items():
        for panel in panels(dashboard):
            for target in panel.get("targets", []):
                place = f"{panel['title']} {target['refId']}"
                yield Asked(uid, place, target["expr"], panel, target)
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                yield Asked(uid, f"${variable['name']}", label_values(variable)[0])
        for annotation in dashboard["annotations"]["list"]:
            if "expr" in annotation:
                yield Asked(uid, f"annotation {annotation['name']}", annotation["expr"])


def label_values(variable: dict[str, Any]) -> tuple[str, str]:
    """The series and the label that a query variable's values are."""
    match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"], re.DOTALL)
    assert match, variable["query"]
    return match[1], match[2]


def filled(asked: Asked, **values: str) -> str:
    """The query with every variable set to "All", or to what is given, as Grafana does it."""
    for variable in DASHBOARDS[asked.dashboard]["templating"]["list"]:
        if variable["name"] not in values:
            values[variable["name"]] = variable.get("allValue") or str(variable.get("query", ""))
    values = {**DURATIONS, **values}
    return re.sub(
        r"\$\{(\w+)(?::\w+)?\}|\$(\w+)", lambda match: values.get(match[1] or match[2], match[0]), asked.expr
    )


def selectors(expr: str) -> Iterator[tuple[promql_parser.VectorSelector, tuple[Any, ...]]]:
    """Every selector in a query, with what is around it, the outermost first."""
    yield from _walk(promql_parser.parse(expr), ())


def _walk(
    node: Any, around: tuple[Any, ...]
) -> Iterator[tuple[promql_parser.VectorSelector, tuple[Any, ...]]]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node, around
        return
    if isinstance(node, promql_parser.MatrixSelector):
        yield node.vector_selector, (*around, node)
        return
    inside = (*around, node)
    for name in ("expr", "lhs", "rhs", "param"):
        child = getattr(node, name, None)
        if child is not None and not isinstance(child, str | float | int):
            yield from _walk(child, inside)
    for child in getattr(node, "args", None) or ():
        yield from _walk(child, inside)


def unit(asked: Asked) -> str:
    """The unit that a target's values are shown in: a table column's own, else the panel's."""
    assert asked.panel
    assert asked.target
    default = str(asked.panel["fieldConfig"]["defaults"]["unit"])
    organized = [each for each in asked.panel.get("transformations", []) if each["id"] == "organize"]
    if not organized:
        return default
    titles = organized[0]["options"]["renameByName"]
    title = titles.get(f"Value #{asked.target['refId']}") or titles["Value"]
    for override in asked.panel["fieldConfig"]["overrides"]:
        if override["matcher"]["options"] == title:
            return next(
                (str(each["value"]) for each in override["properties"] if each["id"] == "unit"), default
            )
    return default
