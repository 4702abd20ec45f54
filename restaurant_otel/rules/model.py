"""What a rule is, and how rules are written down."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Rule:
    """A recording rule."""

    record: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def data(self) -> dict[str, Any]:
        """As Prometheus reads it."""
        labels = {"labels": dict(self.labels)} if self.labels else {}
        return {"record": self.record, "expr": self.expr, **labels}


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated one after the other, at the same time: later ones see what earlier ones record."""

    name: str
    rules: Sequence[Rule]

    def data(self, interval: str) -> dict[str, Any]:
        """As Prometheus reads it."""
        return {"name": self.name, "interval": interval, "rules": [rule.data() for rule in self.rules]}


def yaml(data: object, comment: str = "") -> str:
    """`data` (mappings, sequences, strings, numbers, flags) as YAML that a person can read."""
    head = "".join(f"# {line}\n" if line else "#\n" for line in comment.splitlines())
    return head + "\n".join(_lines(data)) + "\n"


def _lines(data: object) -> list[str]:
    if isinstance(data, Mapping):
        return [line for key, value in data.items() for line in _entry(str(key), value)]
    if isinstance(data, Sequence) and not isinstance(data, str):
        lines = []
        for item in data:
            inner = _lines(item)
            lines.append(f"- {inner[0]}")
            lines.extend(f"  {line}" for line in inner[1:])
        return lines
    return [_scalar(data)]


def _entry(key: str, value: object) -> list[str]:
    if isinstance(value, str) and "\n" in value:
        return [f"{key}: |-", *(f"  {line}".rstrip() for line in value.splitlines())]
    if isinstance(value, Mapping) and value:
        return [f"{key}:", *(f"  {line}" for line in _lines(value))]
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        if all(isinstance(item, str) for item in value):
            return [f"{key}: [{', '.join(map(_scalar, value))}]"]
        return [f"{key}:", *(f"  {line}" for line in _lines(value))]
    return [f"{key}: {_scalar(value)}"]


def _scalar(value: object) -> str:
    if isinstance(value, str) and not value:
        return '""'
    plain = isinstance(value, str) and all(c.isalnum() or c in "_:/.-" for c in value)
    if plain and value[0].isalpha() and value[-1] != ":" and value.lower() not in _WORDS:  # type: ignore[index, attr-defined]
        return str(value)
    return json.dumps(value, ensure_ascii=False)  # JSON is YAML


_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
