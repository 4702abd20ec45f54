"""Advice written out: for people, as SQL, for SQLAlchemy's models, as an Alembic revision, as JSON.

Statements and plans come without values from where they were made; nothing is added here that could hold one.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy.dialects import registry as dialects

from restaurant_otel.sql.advisor.definition import create_index, drop_index
from restaurant_otel.sql.advisor.model import Advice, Index, Key, Recommendation

FORMATS: Final = ("report", "sql", "sqlalchemy", "alembic", "json")
SHOWN_STATEMENT: Final = 160
SHOWN_SKIPPED: Final = 3


def write(advice: Advice, form: str) -> str:
    """`advice` in one of `FORMATS` but ``json``, which is `as_json`."""
    return {"report": _report, "sql": _sql, "sqlalchemy": _sqlalchemy, "alembic": _alembic}[form](advice)


def as_json(advice: Advice) -> dict[str, Any]:
    """`advice` as plain data, with the name and the SQL of each index."""
    data = asdict(advice)
    for one, told in zip(advice.recommendations, data["recommendations"], strict=True):
        told["index"] |= {"name": one.index.name, "label": one.index.label}
        told["create"], told["drop"] = _create(advice, one.index), _drop(advice, one.index)
    for read, told in zip(advice.reads, data["reads"], strict=True):
        told["gain"] = read.gain
    return data | {"gain": advice.gain, "size": advice.size}


# --- for people --------------------------------------------------------------------------------------


def _report(advice: Advice) -> str:
    proven = {
        "hypopg": "proven by what-if: hypothetical indexes, PostgreSQL's own planner",
        "trial on a copy": "proven by trial: measured on a copy of the database",
        "heuristic": "NOT proven: a heuristic from row counts and distinct values",
    }[advice.method]
    cost = f"{_number(advice.before)} -> {_number(advice.after)}"
    lines = [
        f"Index advice for {advice.system} {advice.database or ''}".rstrip(),
        f"{proven}; statements that read: {len(advice.reads)}",
        "",
        f"Cost of the workload ({advice.unit}): {cost}, {advice.gain:.1%} less, writes included",
    ]
    if advice.method != "heuristic":
        what = "Planner cost is not time" if advice.method == "hypopg" else "A copy is not production"
        lines.append(f"{what}: compare the queries' own histograms afterwards (advise --compare).")
    lines += [f"Note: {note}" for note in advice.notes]
    lines += ["", "INDEXES TO MAKE" if advice.recommendations else "NO INDEX TO MAKE: none would save 1 %."]
    for one in advice.recommendations:
        lines += ["", *_recommended(advice, one)]
    if advice.verdicts:
        lines += ["", "THE LIST THIS WAS HELD AGAINST"]
        for verdict in advice.verdicts:
            lines.append(
                f"  {'agreed' if verdict.agrees else 'not advised'}: {verdict.index.label}: {verdict.why}"
            )
    lines += ["", "STATEMENTS"]
    for read in advice.reads:
        routes = f"  ({', '.join(read.routes)})" if read.routes else ""
        cost = (
            f"{_number(read.before)} -> {_number(read.after)}"
            if read.after != read.before
            else _number(read.before)
        )
        lines += ["", f"  [{read.number}] x {read.calls:g}{routes}: {cost}", f"      {_short(read.shown)}"]
        if read.plan_after == read.plan_before:
            lines += [f"      as now  {line}" for line in read.plan_before]
        else:
            lines += [f"      before  {line}" for line in read.plan_before]
            lines += [f"      after   {line}" for line in read.plan_after]
    if advice.findings:
        lines += ["", "WHAT IS THERE ALREADY (reported only)"]
        lines += [f"  {one.kind}: {one.table}: {one.subject}: {one.why}" for one in advice.findings]
    if advice.skipped:
        lines += ["", "LEFT OUT"]
        lines += _left_out(advice)
    lines += applied_lines(advice)
    return "\n".join(_printable(line) for line in lines)


def applied_lines(advice: Advice) -> list[str]:
    """What became of the indexes that were to be made."""
    if not advice.applied:
        return []
    lines = ["", "APPLIED"]
    for one in advice.applied:
        done = f"made in {one.seconds:.1f} s" if one.done else f"FAILED: {one.error}; nothing is left of it"
        if one.left:
            done = f"FAILED: {one.error}; it may be there, INVALID, and cost: take it away"
        lines.append(f"  {one.index.label}: {done}")
        if one.done or one.left:
            lines.append(f"      undo: {one.undo};")
    return lines


def _recommended(advice: Advice, one: Recommendation) -> list[str]:
    size = "size unknown" if one.size is None else f"{one.size / 2**20:.1f} MB"
    lines = [
        f"  {_create(advice, one.index)};",
        f"      saves {one.share:.1%} of the workload beside the others",
        f"      {size}; each row written costs {_number(one.write_each)} more ({advice.unit})",
        f"      wins: statements {', '.join(map(str, one.reads)) or 'none by itself'}",
    ]
    if one.routes:
        lines.append(f"      routes: {', '.join(one.routes)}")
    return lines


def _left_out(advice: Advice) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for one in advice.skipped:
        by_reason.setdefault(one.reason, []).append(_short(one.shown))
    lines = []
    for reason, texts in by_reason.items():
        lines.append(f"  {len(texts)} because {reason}")
        lines += [f"      {text}" for text in texts[:SHOWN_SKIPPED]]
        if len(texts) > SHOWN_SKIPPED:
            lines.append("      ...")
    return lines


def _number(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_STATEMENT else text[: SHOWN_STATEMENT - 3] + "..."


def _printable(line: str) -> str:
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line
    )


# --- for programs ------------------------------------------------------------------------------------


def _sql(advice: Advice) -> str:
    lines = [f"-- Index advice, {advice.method}. Run statement by statement, outside of a transaction."]
    for one in advice.recommendations:
        lines += [f"{_create(advice, one.index)};", f"-- undo: {_drop(advice, one.index)};"]
    if advice.system == "sqlite" and advice.recommendations:
        lines.append("ANALYZE;")
    return "\n".join(lines)


def _sqlalchemy(advice: Advice) -> str:
    lines = ["from sqlalchemy import Index, column", ""]
    for one in advice.recommendations:
        index = one.index
        keys = [_key(key, "column") for key in index.keys]
        lines += [
            f"# in __table_args__ of the model of {index.table}",
            f"Index({', '.join([repr_(index.name), *keys, *_operators(index)])})",
        ]
    return "\n".join(lines)


def _alembic(advice: Advice) -> str:
    concurrently = advice.system == "postgresql"
    indexes = [one.index for one in advice.recommendations]
    revision = hashlib.sha256(" ".join(index.label for index in indexes).encode()).hexdigest()[:12]
    lines = [
        '"""Indexes that the advisor has found missing."""',
        "",
        "import sqlalchemy as sa",
        "from alembic import op",
        "",
        f'revision = "{revision}"',
        "down_revision = None  # the revision that this one follows: what `alembic heads` says",
        "branch_labels = None",
        "depends_on = None",
        "",
        f"# Made on {dt.datetime.now(dt.UTC).date().isoformat()} by restaurant-otel advise ({advice.method}).",
        "",
    ]
    for function, write_one, order in (
        ("upgrade", _op_create, indexes),
        ("downgrade", _op_drop, indexes[::-1]),
    ):
        lines += ["", f"def {function}() -> None:"]
        body = [write_one(index, concurrently) for index in order]
        if not body:
            body = ["pass"]
        elif concurrently:  # which PostgreSQL refuses within a transaction
            body = ["with op.get_context().autocommit_block():", *(f"    {line}" for line in body)]
        lines += [f"    {line}" for line in body]
        lines.append("")
    return "\n".join(lines).rstrip()


def _op_create(index: Index, concurrently: bool) -> str:
    keys = [_key(key, "sa.column") for key in index.keys]
    schema, _, table = index.table.rpartition(".")
    words = [repr_(index.name), repr_(table), f"[{', '.join(keys)}]"]
    if schema:
        words.append(f"schema={repr_(schema)}")
    words += _operators(index)
    if concurrently:
        words += ["postgresql_concurrently=True"]
    return f"op.create_index({', '.join(words)})"


def _op_drop(index: Index, concurrently: bool) -> str:
    schema, _, table = index.table.rpartition(".")
    words = [repr_(index.name), f"table_name={repr_(table)}"]
    if schema:
        words.append(f"schema={repr_(schema)}")
    if concurrently:
        words += ["postgresql_concurrently=True"]
    return f"op.drop_index({', '.join(words)})"


def _key(key: Key, column: str) -> str:
    """One key as source: a name, or an expression, because a name in desc() or text() is not quoted."""
    name = repr_(key.column)
    return f"{column}({name}).desc()" if key.descending else name


def _operators(index: Index) -> list[str]:
    special = {key.column: key.operators for key in index.keys if key.operators is not None}
    if not special:
        return []
    return [
        "postgresql_ops={"
        + ", ".join(f"{repr_(name)}: {repr_(ops or '')}" for name, ops in special.items())
        + "}"
    ]


def repr_(text: str) -> str:
    """`text` as Python source, in double quotes."""
    return '"' + repr(text + "'")[1:-2].replace('"', '\\"') + '"'


def _create(advice: Advice, index: Index) -> str:
    return create_index(index, _dialect(advice), concurrently=advice.system == "postgresql")


def _drop(advice: Advice, index: Index) -> str:
    return drop_index(index, _dialect(advice), concurrently=advice.system == "postgresql")


def _dialect(advice: Advice) -> Any:
    return dialects.load(advice.system)()
