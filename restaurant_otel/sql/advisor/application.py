"""Makes indexes: the only part of the advisor that changes a database, and only when told to.

One index at a time. On PostgreSQL CONCURRENTLY, so that the table stays writable; an index that is left invalid by
a failure, of this run or an earlier one, is dropped, also concurrently, and told of where it cannot be. It waits at
most `LOCK_SECONDS` for the table. After the first failure nothing more is tried. Each outcome carries the statement
that undoes it, and is told as soon as it is known: whoever ends this in the middle knows what there is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import sqlalchemy as sa
from opentelemetry.instrumentation.utils import suppress_instrumentation
from sqlalchemy.exc import SQLAlchemyError

from restaurant_otel.sql.advisor.access import failure, opened, sqlite_path, usable
from restaurant_otel.sql.advisor.definition import create_index, drop_index, quoted_table
from restaurant_otel.sql.advisor.model import Applied, Index

LOCK_SECONDS: Final = 10.0


def make(
    database: str | Any, indexes: Iterable[Index], told: Callable[[Applied], None] = lambda _: None
) -> list[Applied]:
    """Make `indexes` one after the other, until one fails; `told` hears of each outcome at once.

    AdviseError where the database cannot be opened. Interrupted (KeyboardInterrupt), it cleans up, tells, and raises.
    """
    address = usable(database)
    if address.get_backend_name() == "sqlite":
        sqlite_path(address)  # which must exist: connecting would make an empty one
    engine = sa.create_engine(address, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    if engine.dialect.name == "postgresql":
        _limit_waiting(engine)
    outcomes: list[Applied] = []
    try:
        with suppress_instrumentation(), opened(engine) as connection:
            for index in indexes:
                outcomes.append(_make(connection, index, told))
                if not outcomes[-1].done:
                    break
    finally:
        engine.dispose()
    return outcomes


def _limit_waiting(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def limit(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"SET lock_timeout = {int(LOCK_SECONDS * 1000)}")
        cursor.execute("SET statement_timeout = 0")
        cursor.close()
        connection.commit()


def _make(connection: sa.Connection, index: Index, told: Callable[[Applied], None]) -> Applied:
    concurrently = connection.dialect.name == "postgresql"
    undo = drop_index(index, connection.dialect, concurrently=concurrently)
    begin = time.monotonic()

    def outcome(error: str | None) -> Applied:
        left = error is not None and not _is_clean(connection, index, undo)
        told(one := Applied(index, error is None, time.monotonic() - begin, undo, error, left))
        return one

    try:
        if concurrently and _is_valid(connection, index) is False:
            _send(connection, undo)  # an earlier attempt failed half-way
        _send(connection, create_index(index, connection.dialect, concurrently=concurrently))
        if connection.dialect.name == "sqlite":
            _send(connection, "PRAGMA analysis_limit = 1000")
            _send(connection, f"ANALYZE {quoted_table(index.table, connection.dialect)}")
    except SQLAlchemyError as error:
        return outcome(failure(error))
    except BaseException as error:
        outcome(f"interrupted ({type(error).__name__})")
        raise
    return outcome(None)


def _is_clean(connection: sa.Connection, index: Index, undo: str) -> bool:
    """Drop what a failure has left invalid, and nothing that works; whether nothing is left of it.

    Where the connection is lost, SQLAlchemy makes a new one.
    """
    if connection.dialect.name != "postgresql":
        return True  # others make an index wholly or not at all
    try:
        connection.rollback()
        if _is_valid(connection, index) is False:
            _send(connection, undo)
        return _is_valid(connection, index) is None
    except SQLAlchemyError:
        return False


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
