"""What a database has: tables, columns, indexes, foreign keys, and how often its indexes were used.

Through SQLAlchemy's inspector, so for every database alike; sizes, uses and validity from PostgreSQL's own
catalogue. Tables of the default schema are named without it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from restaurant_otel.sql.advisor.model import Existing, ForeignKey, Table

MOST_TABLES: Final = 5_000
_SYSTEM_SCHEMAS: Final = frozenset({"information_schema", "pg_catalog", "mysql", "performance_schema", "sys"})


def read_schema(connection: sa.Connection) -> dict[str, Table]:
    """All tables of the database, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", sa.exc.SAWarning
        )  # of an index on an expression, say, which it leaves out
        return _read(connection)


def _read(connection: sa.Connection) -> dict[str, Table]:
    inspector = sa.inspect(connection)
    default = inspector.default_schema_name
    found: dict[str, Table] = {}
    for schema in _schemas(inspector, connection.dialect.name):
        prefix = "" if schema in {None, default} else f"{schema}."
        columns = inspector.get_multi_columns(schema=schema)
        for (_, name), described in columns.items():
            if len(found) < MOST_TABLES:
                found[prefix + name] = Table(prefix + name, tuple(column["name"] for column in described))
        _add_indexes(inspector, schema, prefix, found)
        for (_, name), keys in inspector.get_multi_foreign_keys(schema=schema).items():
            if table := found.get(prefix + name):
                table.foreign_keys = [
                    ForeignKey(table.name, tuple(key["constrained_columns"]), key["referred_table"])
                    for key in keys
                ]
    if connection.dialect.name == "postgresql":
        _ask_postgresql(connection, default or "public", found)
    elif connection.dialect.name == "sqlite":
        _add_what_is_left_out(connection, found)
    return found


def _add_what_is_left_out(connection: sa.Connection, found: dict[str, Table]) -> None:
    """SQLite's indexes on expressions, which serve no column, but whose names are taken."""
    named = "SELECT tbl_name, name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    for table, name in connection.execute(sa.text(named)):
        if table in found and name not in {one.name for one in found[table].existing}:
            found[table].existing.append(Existing(name, table, (None,), (False,)))


def _schemas(inspector: sa.Inspector, dialect: str) -> Iterable[str | None]:
    if dialect != "postgresql":
        return [None]
    names = inspector.get_schema_names()
    return [name for name in names if name not in _SYSTEM_SCHEMAS and not name.startswith("pg_")]


def _add_indexes(inspector: sa.Inspector, schema: str | None, prefix: str, found: dict[str, Table]) -> None:
    for (_, name), key in inspector.get_multi_pk_constraint(schema=schema).items():
        table = found.get(prefix + name)
        if table is not None and key["constrained_columns"]:
            columns = tuple(key["constrained_columns"])
            table.existing.append(
                Existing(
                    key["name"] or f"{name}_pkey",
                    table.name,
                    columns,
                    (False,) * len(columns),
                    True,
                    True,
                    True,
                )
            )
    backing: set[tuple[str, str | None]] = set()
    for (_, name), indexes in inspector.get_multi_indexes(schema=schema).items():
        if (table := found.get(prefix + name)) is not None:
            table.existing += [_existing(table.name, index) for index in indexes]
            backing.update((name, index.get("duplicates_constraint")) for index in indexes)
    for (_, name), constraints in inspector.get_multi_unique_constraints(schema=schema).items():
        table = found.get(prefix + name)
        for constraint in constraints:
            if table is None or (name, constraint["name"]) in backing:
                continue
            columns = tuple(constraint["column_names"])
            label = constraint["name"] or f"unique on {', '.join(columns)}"
            table.existing.append(
                Existing(label, table.name, columns, (False,) * len(columns), unique=True, constraint=True)
            )


def _existing(table: str, index: Any) -> Existing:
    options = index.get("dialect_options") or {}
    included = list(options.get("postgresql_include") or ())
    # Older SQLAlchemys give the included columns among the others.
    names = list(index["column_names"])
    if included and names[-len(included) :] == included and "expressions" not in index:
        names = names[: -len(included)]
    sorting = index.get("column_sorting") or {}
    return Existing(
        name=str(index["name"]),
        table=table,
        columns=tuple(names),
        descending=tuple("desc" in sorting.get(name, ()) for name in names),
        unique=bool(index.get("unique")),
        constraint=bool(index.get("duplicates_constraint")),
        partial=any(str(name).endswith("_where") for name in options),
        operators=any(
            str(name).endswith(("_ops", "_using")) and value not in ({}, None, "btree")
            for name, value in options.items()
        )
        or any(
            "nulls_first" in sorting.get(name, ()) or "nulls_last" in sorting.get(name, ()) for name in names
        ),
        included=bool(included),
    )


_USE: Final = """
SELECT n.nspname, t.relname, i.relname, pg_relation_size(i.oid), x.indisvalid, s.idx_scan
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace LEFT JOIN pg_stat_all_indexes s ON s.indexrelid = i.oid
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
"""
_ROWS: Final = """
SELECT n.nspname, c.relname, c.reltuples FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
"""


def _ask_postgresql(connection: sa.Connection, default: str, found: dict[str, Table]) -> None:
    def named(schema: str, name: str) -> str:
        return name if schema == default else f"{schema}.{name}"

    for schema, name, rows in connection.execute(sa.text(_ROWS)):
        if table := found.get(named(schema, name)):
            table.rows = int(rows)
            table.analysed = rows > 0
    uses = {
        (named(schema, table), index): (size, valid, scans)
        for schema, table, index, size, valid, scans in connection.execute(sa.text(_USE))
    }
    for table in found.values():
        table.existing = [
            one if (use := uses.get((table.name, one.name))) is None else _with_use(one, *use)
            for one in table.existing
        ]


def _with_use(one: Existing, size: int, valid: bool, scans: int | None) -> Existing:
    return replace(one, size=size, valid=valid, scans=scans)


def count_rows(connection: sa.Connection, table: Table) -> int:
    """The rows of a table, counted; -1 where that takes too long."""
    try:
        counted = connection.execute(sa.select(sa.func.count()).select_from(clause(table)))
        return int(counted.scalar_one())
    except SQLAlchemyError:
        connection.rollback()
        return -1


def clause(table: Table) -> sa.TableClause:
    """The table, to select from."""
    schema, _, name = table.name.rpartition(".")
    return sa.table(name, *map(sa.column, table.columns), schema=schema or None)
