"""Makes indexes: the only part of the advisor that changes a database, and only when told to.

One index at a time. On PostgreSQL CONCURRENTLY, so that the table stays writable; an index that is left invalid by
a failure, of this run or an earlier one, is dropped, also concurrently. It waits at most `LOCK_SECONDS` for the
table. After the first failure nothing more is tried. Each outcome carries the statement that undoes it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import sqlalchemy as sa
from opentelemetry.instrumentation.utils import suppress_instrumentation
from sqlalchemy.exc import SQLAlchemyError

from restaurant_otel.sql.advisor.access import failure, opened, sqlite_path, usable
from restaurant_otel.sql.advisor.definition import create_index, drop_index, quoted_table
from restaurant_otel.sql.advisor.model import Applied, Index

LOCK_SECONDS: Final = 10.0


def make(database: str | Any, indexes: Iterable[Index]) -> list[Applied]:
    """Make `indexes` one after the other, until one fails. AdviseError where the database cannot be opened."""
    address = usable(database)
    if address.get_backend_name() == "sqlite":
        sqlite_path(address)  # which must exist: connecting would make an empty one
    engine = sa.create_engine(address, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    outcomes: list[Applied] = []
    try:
        with suppress_instrumentation(), opened(engine) as connection:
            if connection.dialect.name == "postgresql":
                _send(connection, f"SET lock_timeout = {int(LOCK_SECONDS * 1000)}")
                _send(connection, "SET statement_timeout = 0")
            for index in indexes:
                outcomes.append(_make(connection, index))
                if not outcomes[-1].done:
                    break
    finally:
        engine.dispose()
    return outcomes


def _make(connection: sa.Connection, index: Index) -> Applied:
    concurrently = connection.dialect.name == "postgresql"
    undo = drop_index(index, connection.dialect, concurrently=concurrently)
    begin = time.monotonic()
    try:
        if concurrently and _is_valid(connection, index) is False:
            _send(connection, undo)  # an earlier attempt failed half-way
        _send(connection, create_index(index, connection.dialect, concurrently=concurrently))
        if connection.dialect.name == "sqlite":
            _send(connection, "PRAGMA analysis_limit = 1000")
            _send(connection, f"ANALYZE {quoted_table(index.table, connection.dialect)}")
    except SQLAlchemyError as error:
        _clean(connection, index, undo)
        return Applied(index, False, time.monotonic() - begin, undo, failure(error))
    except BaseException:  # interrupted: leave nothing half-made behind
        _clean(connection, index, undo)
        raise
    return Applied(index, True, time.monotonic() - begin, undo)


def _clean(connection: sa.Connection, index: Index, undo: str) -> None:
    """Drop what a failure has left invalid, and nothing that works."""
    if connection.dialect.name != "postgresql":
        return
    with suppress(SQLAlchemyError):
        connection.rollback()
        if _is_valid(connection, index) is False:
            _send(connection, undo)


def _is_valid(connection: sa.Connection, index: Index) -> bool | None:
    """Whether PostgreSQL's index of this name is valid; None where there is none on its table."""
    asked = sa.text(
        "SELECT x.indisvalid FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid "
        "WHERE x.indrelid = to_regclass(:table) AND i.relname = :name"
    )
    names = {"table": quoted_table(index.table, connection.dialect), "name": index.name}
    found = connection.execute(asked, names).one_or_none()
    return None if found is None else bool(found[0])


def _send(connection: sa.Connection, statement: str) -> None:
    connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
