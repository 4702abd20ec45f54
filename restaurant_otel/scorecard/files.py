"""Objectives, and advice of one's own, from a TOML file, a mapping, or words such as ``api.objective=0.3``.

    [components.api]
    objective = 0.3
    limit = 1.2

    [slo.latency]
    target = 0.99

    [score]
    good = 95

    [[advice]]
    name = "ask-the-bakers"
    component = "database"
    evidence = "statements"
    action = "..."
    runbook = "https://..."

What a file leaves out stays as it is by default. Every mistake is told with its place and what is allowed.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from restaurant_otel.catalog import DEFAULT_OBJECTIVES, SECONDS, Objective, Objectives, Slo
from restaurant_otel.scorecard.advice import ADVICE, Advice

_COMPONENT_FIELDS: Final = (
    "objective",
    "limit",
    "weight",
    "critical",
    "minimum",
    "routes",
    "exclude_routes",
)
_ROUTE_FIELDS: Final = ("routes", "exclude_routes")
_WITH_ROUTES: Final = ("api", "page")
_SLO_FIELDS: Final = ("target", "seconds", "minimum")
_SCORE_FIELDS: Final = ("good", "fair", "coverage")
_ADVICE_FIELDS: Final = ("name", "component", "evidence", "action", "runbook")


class ObjectivesError(ValueError):
    """Objectives are malformed. The message says where, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Goals:
    """What an app is measured by, and what it is told: advice of one's own before that of the library."""

    objectives: Objectives = DEFAULT_OBJECTIVES
    advice: tuple[Advice, ...] = ADVICE


def load(path: str | Path, base: Objectives = DEFAULT_OBJECTIVES) -> Goals:
    """Goals from a TOML file.

    Raises:
        ObjectivesError: the file cannot be read, is no TOML, or holds what is not allowed.
    """
    try:
        data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ObjectivesError(f"{path}: {error}") from None
    try:
        return read(data, base)
    except ObjectivesError as error:
        raise ObjectivesError(f"{path}: {error}") from None


def read(data: Mapping[str, Any], base: Objectives = DEFAULT_OBJECTIVES) -> Goals:
    """The same from data as TOML would have it."""
    _only(data, ("components", "slo", "score", "advice"), "")
    changed = base
    for name, fields in _tables(data, "components").items():
        _known(name, [each.component for each in base.components], "components")
        changed = changed.with_component(name, **_component(name, fields))
    slos = {slo.name: slo for slo in base.slos}
    for name, fields in _tables(data, "slo").items():
        _known(name, list(slos), "slo")
        slos[name] = replace(slos[name], **_slo(slos[name], fields))
    score = _table(data, "score")
    _only(score, _SCORE_FIELDS, "score.")
    most = {"coverage": 1.0, "good": 100.0, "fair": 100.0}
    bands: dict[str, Any] = {
        name: _number(f"score.{name}", value, least=0, most=most[name]) for name, value in score.items()
    }
    result = replace(changed, slos=tuple(slos.values()), **bands)
    _check(result)
    advice = data.get("advice", ())
    if isinstance(advice, (str, Mapping)) or not isinstance(advice, Sequence):
        raise ObjectivesError("advice must be a list of tables: [[advice]]")
    own = tuple(_advice(number, each, result) for number, each in enumerate(advice, 1))
    return Goals(result, (*own, *ADVICE))


def assign(words: Sequence[str], base: Objectives = DEFAULT_OBJECTIVES) -> Goals:
    """Goals from words such as ``api.objective=0.3``, ``slo.latency.target=0.99`` or ``score.good=95``.

    A value is what TOML would read there. Raises ObjectivesError.
    """
    data: dict[str, Any] = {}
    for word in words:
        path, equals, text = word.partition("=")
        parts = path.strip().split(".")
        if not equals or not all(parts) or not 2 <= len(parts) <= 3:
            raise ObjectivesError(f"{word!r} is not of the form api.objective=0.3 or slo.latency.target=0.99")
        if parts[0] not in ("slo", "score", "components"):
            parts.insert(0, "components")
        try:
            value = tomllib.loads(f"value = {text.strip()}")["value"]
        except tomllib.TOMLDecodeError:
            raise ObjectivesError(
                f"{word!r}: {text.strip()!r} is neither a number nor true or false"
            ) from None
        table = data
        for part in parts[:-1]:
            table = table.setdefault(part, {})
        table[parts[-1]] = value
    return read(data, base)


# --- parts ------------------------------------------------------------------------------------------------


def _component(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    place = f"components.{name}."
    allowed = [each for each in _COMPONENT_FIELDS if each not in _ROUTE_FIELDS or name in _WITH_ROUTES]
    _only(fields, allowed, place)
    changes: dict[str, Any] = {}
    for field, value in fields.items():
        if field == "critical":
            if not isinstance(value, bool):
                raise ObjectivesError(f"{place}critical is {value!r}, but must be true or false")
            changes[field] = value
        elif field in _ROUTE_FIELDS:
            if isinstance(value, str) or not all(isinstance(route, str) and route for route in value):
                raise ObjectivesError(f'{place}{field} is {value!r}, but must be a list such as ["/menu"]')
            changes[field] = tuple(value)
        else:
            changes[field] = _number(place + field, value, least=0)
    return changes


def _slo(slo: Slo, fields: Mapping[str, Any]) -> dict[str, Any]:
    place = f"slo.{slo.name}."
    _only(fields, _SLO_FIELDS if slo.seconds is not None else ("target", "minimum"), place)
    changes = {field: _number(place + field, value, least=0) for field, value in fields.items()}
    if not 0.5 <= changes.get("target", slo.target) < 1:
        raise ObjectivesError(f"{place}target is {changes['target']:g}, but must be from 0.5 to below 1")
    if changes.get("seconds", SECONDS[0]) not in SECONDS:
        bounds = ", ".join(f"{bound:g}" for bound in SECONDS)
        raise ObjectivesError(
            f"{place}seconds is {changes['seconds']:g}, but must be a bound of the buckets: {bounds}"
        )
    return changes


def _advice(number: int, fields: Any, objectives: Objectives) -> Advice:
    place = f"advice {number}: "
    if not isinstance(fields, Mapping):
        raise ObjectivesError(f"{place}must be a table")
    _only(fields, _ADVICE_FIELDS, place)
    for field in _ADVICE_FIELDS:
        if not isinstance(fields.get(field, "" if field == "evidence" else None), str):
            raise ObjectivesError(f"{place}{field} must be a text")
    _known(fields["component"], [each.component for each in objectives.components], place + "component")
    return Advice(**{"evidence": "", **fields})


def _check(objectives: Objectives) -> None:
    """What only the whole can tell."""
    for each in objectives.components:
        place = f"components.{each.component}"
        if each.objective == each.limit:
            raise ObjectivesError(f"{place}: objective and limit are both {each.limit:g}, but must differ")
        default: Objective | None = next(
            (one for one in DEFAULT_OBJECTIVES.components if one.component == each.component), None
        )
        if default is not None and default.higher_is_better != each.higher_is_better:
            above = "above" if default.higher_is_better else "below"
            raise ObjectivesError(
                f"{place}: objective {each.objective:g} must lie {above} the limit {each.limit:g}"
            )
        if each.unit == "1" and max(each.objective, each.limit) > 1:
            raise ObjectivesError(f"{place}: objective and limit are shares, from 0 to 1")
    if not any(each.weight > 0 for each in objectives.components):
        raise ObjectivesError("components: at least one weight must be above 0")
    if objectives.fair > objectives.good:
        raise ObjectivesError(f"score.fair is {objectives.fair:g}, above score.good, {objectives.good:g}")


def _number(place: str, value: object, *, least: float, most: float = 1e9) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ObjectivesError(f"{place} is {value!r}, but must be a number")
    if not least <= value <= most:
        raise ObjectivesError(f"{place} is {value:g}, but must be from {least:g} to {most:g}")
    return float(value)


def _table(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = data.get(name, {})
    if not isinstance(table, Mapping):
        raise ObjectivesError(f"{name} must be a table")
    return table


def _tables(data: Mapping[str, Any], name: str) -> Mapping[str, Mapping[str, Any]]:
    return {key: _table(_table(data, name), key) for key in _table(data, name)}


def _only(fields: Mapping[str, Any], allowed: Sequence[str], place: str) -> None:
    for field in fields:
        if field not in allowed:
            raise ObjectivesError(f"unknown {place}{field}; allowed: {', '.join(allowed)}")


def _known(name: object, allowed: Sequence[str], place: str) -> None:
    if name not in allowed:
        raise ObjectivesError(f"unknown {place} {name!r}; allowed: {', '.join(allowed)}")
