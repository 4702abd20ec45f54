"""Where the workload comes from: a file of statements, the query book of a running app, or pg_stat_statements.

In a file of SQL, statements end with ``;``. A comment in front of one may say how often it comes and who asks::

    -- calls: 1200
    -- route: /users/by-email/{email}
    SELECT * FROM users WHERE email = :email;

A file that ends in ``.json`` is a list of ``{"text": ..., "calls": ..., "routes": [...]}``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from restaurant_otel.sql.advisor.model import AdviseError, Statement
from restaurant_otel.sql.lexing import OTHER, SPACE, quoting, tokens

MOST_STATEMENTS: Final = 500
"""Statements that are looked at: those that come most often."""
_CALLS: Final = re.compile(r"--\s*calls:\s*([\d.]+)")
_ROUTE: Final = re.compile(r"--\s*route:\s*(\S.*?)\s*$", re.MULTILINE)


def from_file(path: Path, dialect: str) -> list[Statement]:
    """The statements of a file; `dialect` is SQLAlchemy's name of the database, for its quoting rules."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AdviseError(f"{path}: {type(error).__name__}: it cannot be read") from None
    return _from_json(path, text) if path.suffix == ".json" else list(from_text(text, dialect))


def _from_json(path: Path, text: str) -> list[Statement]:
    try:
        return [
            Statement(str(one["text"]), float(one.get("calls", 1)), tuple(map(str, one.get("routes", ()))))
            for one in json.loads(text)
        ]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise AdviseError(f"{path}: not a JSON list of objects with a 'text'") from None


def from_text(text: str, dialect: str) -> Iterator[Statement]:
    """The statements of SQL text, with what its comments say of them."""
    parts: list[str] = []
    remarks: list[str] = []
    for kind, token in [*tokens(text, quoting(dialect)), (OTHER, ";")]:
        if kind == OTHER and token == ";":  # noqa: S105 - the end of a statement
            statement = "".join(parts).strip()
            if statement:
                said = "\n".join(remarks)
                calls = _CALLS.search(said)
                yield Statement(statement, float(calls[1]) if calls else 1.0, tuple(_ROUTE.findall(said)))
            parts, remarks = [], []
        elif kind == SPACE:
            parts.append(" ")
            if "--" in token:
                remarks.append(token)
        else:
            parts.append(token)


def from_pg_stat_statements(connection: Any) -> list[Statement]:
    """What PostgreSQL itself has counted of the current database, most expensive first."""
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    counted = text(
        "SELECT query, calls FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid "
        "WHERE d.datname = current_database() AND query ~* '^\\s*(select|with|insert|update|delete|/[*]|--)' "
        "AND query !~* '(pg_stat_statements|pg_catalog|pg_class|hypopg|restaurant-otel advise)' "
        "ORDER BY total_exec_time DESC LIMIT :most"
    )
    try:
        rows = connection.execute(counted, {"most": MOST_STATEMENTS}).all()
    except SQLAlchemyError:
        raise AdviseError(
            "pg_stat_statements cannot be read: it needs shared_preload_libraries = 'pg_stat_statements' and, in this "
            "database, CREATE EXTENSION pg_stat_statements"
        ) from None
    return [Statement(query, float(calls)) for query, calls in rows]


def source(workload: str | Path | Iterable[Statement | str]) -> Callable[[Any], list[Statement]]:
    """What tells the statements of `workload` once there is a connection to the database."""
    if workload == "pg_stat_statements":
        return _pg_stat_statements
    if workload == "capture":
        return lambda _connection: from_capture()
    if isinstance(workload, str | Path):
        return lambda connection: from_file(Path(workload), connection.dialect.name)
    given = [Statement(one) if isinstance(one, str) else one for one in workload]
    return lambda _connection: given


def _pg_stat_statements(connection: Any) -> list[Statement]:
    if connection.dialect.name != "postgresql":
        raise AdviseError("pg_stat_statements is PostgreSQL's: name a file of statements, or 'capture'")
    return from_pg_stat_statements(connection)


def from_capture() -> list[Statement]:
    """What this process and its siblings have asked so far, by the query book: texts without values.

    Which its siblings are, a process that is no worker of an app learns by RESTAURANT_OTEL_WORKERS_DIR or
    RESTAURANT_OTEL_GROUP, the same as the app's.
    """
    from restaurant_otel.sql.book import query_book

    found = [
        Statement(entry.text, float(entry.calls), tuple(use.route for use in entry.routes if use.route))
        for entry in query_book()
        if entry.text
    ]
    if not found:
        raise AdviseError(
            "the query book of this process and its siblings is empty: ask the app's admin API (POST /advise), or give "
            "--workers-dir or --group, the same as the app's RESTAURANT_OTEL_WORKERS_DIR or RESTAURANT_OTEL_GROUP"
        )
    return found
