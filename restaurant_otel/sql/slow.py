"""Slow queries: kept with route, trace and the database's own plan.

The plan is asked for by the keeper's thread, off the request's path: EXPLAIN without ANALYZE, which executes nothing,
of a single SELECT, on a connection of its own that is read-only and has time-outs, once for each statement, and only
where the database is one of `_PLANS`. The parameters are bound again, because a plan without them would be another
one; they are let go with the question. Values that a plan shows are replaced before it is kept.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, Final

from opentelemetry.trace import SpanContext
from sqlalchemy.engine import Engine

from restaurant_otel import catalog, forks
from restaurant_otel.metrics import registry
from restaurant_otel.sql import lexing, places
from restaurant_otel.sql.keeper import Keeper
from restaurant_otel.sql.lexing import LITERAL, NAME, OTHER, SPACE, Quoting
from restaurant_otel.sql.notes import notes
from restaurant_otel.sql.series import Known

MOST_PLAN: Final = 16_000
"""Characters of a plan."""
SECONDS: Final = 2
"""What the database may take to make a plan."""

_lock: Final = forks.Lock()
_asked: Final[set[str]] = set()
_MOST_ASKED: Final = 1_000


class Question:
    """A statement as the driver got it, and the engine to ask."""

    __slots__ = ("engine", "parameters", "statement")

    def __init__(self, statement: str, parameters: Any, engine: Engine) -> None:
        self.statement = statement
        self.parameters = parameters
        self.engine = engine


def keep(
    known: Known,
    route: str | None,
    seconds: float,
    span: SpanContext | None,
    question: Question | None,
    keeper: Keeper,
) -> None:
    """Count a slow query, keep it if it is its statement's slowest, and ask for its plan if nobody has."""
    registry().counter(catalog.DB_SLOW_QUERIES).bind(route, known.name).add(1)
    key = known.fingerprint
    place = places.here()
    with _lock:
        _keep(known, route, seconds, span, place, None if question is not None else "not asked for")
    keeper.wake()
    if question is None:
        return
    with _lock:
        if key in _asked or len(_asked) >= _MOST_ASKED:
            return
        _asked.add(key)
    if not keeper.do(lambda: _answer(key, question)):
        with _lock:
            _asked.discard(key)


def _keep(
    known: Known,
    route: str | None,
    seconds: float,
    span: SpanContext | None,
    place: str | None,
    no_plan: str | None,
) -> None:
    before = notes.get("slow", known.fingerprint)
    if before is None or before["seconds"] < seconds:
        sampled = span is not None and span.trace_flags & 1
        note = {
            "summary": known.name,
            "text": known.text,
            "route": route,
            "seconds": seconds,
            "when": time.time(),
            "trace_id": f"{span.trace_id:032x}" if span is not None and sampled else None,
            "plan": before["plan"] if before is not None else None,
            "no_plan": before["no_plan"] if before is not None else no_plan,
            "location": place,
        }
        notes.put("slow", known.fingerprint, note)


def forget() -> None:
    """Ask again from now on: for tests, where one process plays many."""
    with _lock:
        _asked.clear()


def _answer(key: str, question: Question) -> None:
    """Ask for the plan and put it into the note. In the keeper's thread."""
    plan, problem = None, None
    try:
        plan = explain(question)
        problem = None if plan is not None else "the database's plans are not asked for"
    except Exception as error:  # noqa: BLE001 - whatever a driver raises; its message may quote values
        problem = type(error).__name__
    with _lock:
        note = notes.get("slow", key)
        if note is not None:
            notes.put("slow", key, {**note, "plan": plan, "no_plan": problem})


def explain(question: Question) -> str | None:
    """The plan of a statement, without values; None where none is asked for.

    Blocks for as long as it takes to connect and up to `SECONDS` more. Raises what the driver raises.
    """
    engine = question.engine
    dialect = engine.dialect
    ask = _PLANS.get(dialect.name)
    rules = lexing.quoting(dialect.name)
    if ask is None or not _is_one_select(question.statement, rules):
        return None
    if dialect.name == "sqlite" and not _is_file(engine):
        return None  # a connection of its own would see a database of its own
    own = Engine(engine.pool.recreate(), dialect, engine.url)

    def work(connection: Any) -> str:
        try:
            return ask(connection, question.statement, question.parameters, rules)
        finally:
            connection.rollback() if hasattr(connection, "rollback") else None

    if getattr(dialect, "is_async", False):
        return asyncio.run(_explain_async(own, work))[:MOST_PLAN]
    try:
        with own.connect() as connection:
            return work(connection)[:MOST_PLAN]
    finally:
        own.dispose()


async def _explain_async(engine: Engine, work: Callable[[Any], str]) -> str:
    from sqlalchemy.ext.asyncio import AsyncEngine

    own = AsyncEngine(engine)
    try:
        async with own.connect() as connection:
            return await connection.run_sync(work)
    finally:
        await own.dispose()


def _is_one_select(text: str, rules: Quoting) -> bool:
    """Whether this is a SELECT, or a WITH, and nothing follows it: drivers may execute what does."""
    ended = False
    first = True
    for kind, token in lexing.tokens(text, rules):
        if kind == SPACE:
            continue
        if ended or (first and (kind != NAME or token.upper() not in ("SELECT", "WITH"))):
            return False
        first = False
        ended = (kind, token) == (OTHER, ";")
    return not first and "\\" not in text


def _is_file(engine: Engine) -> bool:
    path = str(engine.url.database or "")
    return path not in ("", ":memory:") and "memory" not in path and "mode" not in engine.url.query


# --- by database -------------------------------------------------------------------------------------


def _postgresql(connection: Any, statement: str, parameters: Any, rules: Quoting) -> str:
    connection.exec_driver_sql("SET TRANSACTION READ ONLY")
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{SECONDS}s'")
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{SECONDS}s'")
    found = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", _bound(parameters)).scalar()
    plan = json.loads(found) if isinstance(found, str) else found
    return "\n".join(_tree(plan[0]["Plan"], 0, rules))


def _sqlite(connection: Any, statement: str, parameters: Any, rules: Quoting) -> str:
    connection.exec_driver_sql("PRAGMA query_only = ON")
    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", _bound(parameters)).fetchall()
    depths = {0: -1}
    lines = []
    for number, parent, _, detail in rows:
        depths[number] = depths.get(parent, -1) + 1
        lines.append("  " * depths[number] + without_values(detail, rules))
    return "\n".join(lines)


def _mysql(connection: Any, statement: str, parameters: Any, rules: Quoting) -> str:
    is_mariadb = getattr(connection.dialect, "is_mariadb", False)
    limit = f"max_statement_time = {SECONDS}" if is_mariadb else f"max_execution_time = {SECONDS * 1000}"
    # A table that is being altered is locked, and to wait for that is another limit's, which is a day or a year.
    connection.exec_driver_sql(f"SET SESSION {limit}, lock_wait_timeout = {SECONDS}")
    connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
    rows = connection.exec_driver_sql(f"EXPLAIN {statement}", _bound(parameters)).mappings()
    columns = ("select_type", "table", "type", "possible_keys", "key", "rows", "Extra")
    return "\n".join(
        ", ".join(
            f"{name} {value if name == 'rows' else without_values(str(value), rules)}"
            for name in columns
            if (value := row.get(name)) is not None
        )
        for row in rows
    )


_PLANS: Final[dict[str, Callable[[Any, str, Any, Quoting], str]]] = {
    "postgresql": _postgresql,
    "sqlite": _sqlite,
    "mysql": _mysql,
    "mariadb": _mysql,
}

_NAMES: Final = ("Relation Name", "Index Name", "CTE Name", "Function Name")
_SKIPPED: Final = {"Node Type", "Plans", "Alias", "Parallel Aware", "Async Capable", "Parent Relationship",
                   "Startup Cost", "Total Cost", "Plan Rows", "Plan Width", *_NAMES}  # fmt: skip


def _tree(node: dict[str, Any], depth: int, rules: Quoting) -> list[str]:
    """A node of PostgreSQL's plan and those below it, a line each, as its text format has them."""
    name = str(node.get("Node Type", "?"))
    for key in _NAMES:
        if key in node:
            name += f" on {node[key]}" if key == "Relation Name" else f" {node[key]}"
    cost = f"cost={node.get('Startup Cost')}..{node.get('Total Cost')} rows={node.get('Plan Rows')}"
    pad = "  " * depth
    lines = [f"{pad}{name}  ({cost})"]
    for key, value in node.items():
        if key not in _SKIPPED and not isinstance(value, bool | dict):
            said = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            lines.append(f"{pad}  {key}: {without_values(said, rules)}")
    for below in node.get("Plans", ()):
        lines += _tree(below, depth + 1, rules)
    return lines


def without_values(text: str, rules: Quoting) -> str:
    """A plan's words with every literal replaced."""
    return "".join("?" if kind == LITERAL else token for kind, token in lexing.tokens(text, rules))


def _bound(parameters: Any) -> Any:
    return parameters or None
