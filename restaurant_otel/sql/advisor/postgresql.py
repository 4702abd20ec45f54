"""What PostgreSQL would do with indexes it does not have: hypopg's, by EXPLAIN without ANALYZE.

Hypothetical indexes live in our session's memory alone. Partial ones are never tried: they crash the server
(https://github.com/HypoPG/hypopg/issues/116).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from restaurant_otel.sql.advisor.definition import create_index
from restaurant_otel.sql.advisor.model import Answer, Index, Read
from restaurant_otel.sql.lexing import LITERAL, quoting, tokens

_CONDITIONS: Final = (
    "Index Cond", "Recheck Cond", "Filter", "Join Filter", "Hash Cond", "Merge Cond", "Sort Key", "Presorted Key",
    "Group Key",
)  # fmt: skip

_HYPOTHETICAL: Final = sa.text("SELECT indexrelid, indexname FROM hypopg_create_index(:made)")


def why_not(connection: sa.Connection) -> str | None:
    """What keeps hypopg from being used and how to get it; None if nothing does."""
    found = connection.execute(
        sa.text("SELECT installed_version FROM pg_available_extensions WHERE name = 'hypopg'")
    ).one_or_none()
    if found is None:
        major = int(connection.execute(sa.text("SHOW server_version_num")).scalar_one()) // 10_000
        return (
            "hypopg is not installed on the server "
            f"(Debian, Ubuntu: apt-get install postgresql-{major}-hypopg; then, in this database and as a superuser: "
            "CREATE EXTENSION hypopg)"
        )
    if found[0] is None:
        return "hypopg is not enabled in this database (as a superuser: CREATE EXTENSION hypopg)"
    return None


class HypoPG:
    """A `WhatIf` on a read-only connection of the caller's."""

    method = "hypopg"
    unit = "planner cost"

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._present: dict[Index, tuple[int, str]] = {}
        self._sizes: dict[Index, int] = {}
        self._send("SELECT hypopg_reset()")
        self._send("SET plan_cache_mode = force_generic_plan")
        settings = (
            "SELECT current_setting('random_page_cost')::float8, current_setting('cpu_operator_cost')::float8"
        )
        page, operator = self._send(settings).one()
        # One leaf page somewhere in the index, and the way down to it as the planner counts it.
        self._write_cost = float(page) + 3 * 50 * float(operator)

    def ask(self, read: Read, indexes: frozenset[Index]) -> Answer:
        """The planner's total cost, on average over the variants."""
        self._suppose(indexes)
        plans = self._plans(read)
        names = {name for plan in plans for name in _used(plan)}
        used = frozenset(index for index, (_, name) in self._present.items() if name in names)
        return Answer(sum(float(plan["Total Cost"]) for plan in plans) / len(plans), used)

    def plan(self, read: Read, indexes: frozenset[Index]) -> tuple[str, ...]:
        """The plan of the variant in the middle, if they differ."""
        self._suppose(indexes)
        plans = self._plans(read)
        names = {given: index.name for index, (_, given) in self._present.items()}
        return tuple(_lines(plans[len(plans) // 2], names, 0))

    def size(self, index: Index) -> int:
        """Hypopg's estimate, without what a real index keeps free or bloats to."""
        if index not in self._sizes:
            self._suppose(frozenset([*self._present, index]))
            oid = self._present[index][0]
            self._sizes[index] = int(self._send(f"SELECT hypopg_relation_size({oid})").scalar_one())
        return self._sizes[index]

    def write_cost(self, index: Index) -> float:  # noqa: ARG002 - the same for all
        """As if a row's entry were looked up: one random page and the descent. Source: costsize of an index scan."""
        return self._write_cost

    def _suppose(self, indexes: frozenset[Index]) -> None:
        for index in [one for one in self._present if one not in indexes]:
            self._send(f"SELECT hypopg_drop_index({self._present.pop(index)[0]})")
        for index in indexes:
            if index not in self._present:
                made = {"made": create_index(index, self._connection.dialect)}
                oid, name = self._connection.execute(_HYPOTHETICAL, made).one()
                self._present[index] = int(oid), str(name)

    def _plans(self, read: Read) -> list[dict[str, Any]]:
        if read.generic is None:
            return [self._explained(variant) for variant in read.variants]
        self._send(f"PREPARE restaurant_otel_advice AS {read.generic}")
        try:
            nothing = ", ".join(["NULL"] * read.parameters)
            return [self._explained(f"EXECUTE restaurant_otel_advice{f'({nothing})' if nothing else ''}")]
        finally:
            self._send("DEALLOCATE restaurant_otel_advice")

    def _explained(self, statement: str) -> dict[str, Any]:
        plan = self._send(f"EXPLAIN (FORMAT JSON) {statement}").scalar_one()
        found: dict[str, Any] = plan[0]["Plan"]
        return found

    def _send(self, statement: str) -> Any:
        try:
            # Without parameters, the driver leaves every % alone.
            return self._connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
        except SQLAlchemyError:
            self._connection.rollback()
            raise


def _used(node: dict[str, Any]) -> Iterator[str]:
    """Names of the indexes in a plan."""
    if name := node.get("Index Name"):
        yield str(name)
    for child in node.get("Plans") or ():
        yield from _used(child)


def _lines(node: dict[str, Any], names: dict[str, str], depth: int) -> list[str]:
    """A plan as EXPLAIN writes it, with `?` for every literal, and the names our indexes would have."""
    what = str(node["Node Type"])
    if index := node.get("Index Name"):
        what += f" using {names.get(index, index)}"
    if table := node.get("Relation Name"):
        what += f" on {table}"
    cost = f"cost={node['Startup Cost']:.2f}..{node['Total Cost']:.2f} rows={node['Plan Rows']}"
    lines = [f"{'  ' * depth}{what}  ({cost})"]
    for name in _CONDITIONS:
        if (condition := node.get(name)) is not None:
            text = ", ".join(condition) if isinstance(condition, list) else str(condition)
            lines.append(f"{'  ' * depth}  {name}: {hidden(text)}")
    for child in node.get("Plans") or ():
        lines += _lines(child, names, depth + 1)
    return lines


def hidden(condition: str) -> str:
    """A condition without its values."""
    rules = quoting("postgresql")
    text = "".join("?" if kind == LITERAL else token for kind, token in tokens(condition, rules))
    return re.sub(r"\b(?:true|false)\b", "?", text, flags=re.IGNORECASE)
