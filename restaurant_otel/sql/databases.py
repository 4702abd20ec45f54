"""Which database an engine talks to, in the terms of the database conventions.

From the engine's URL, and from the first connection where the URL leaves it to the driver (sockets, service
files, a `creator`). Passwords, users and query options of the URL are never read. One `Database` is made
per engine, when its first statement is seen.

Source: https://opentelemetry.io/docs/specs/semconv/registry/attributes/db/
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

IN_MEMORY: Final = ":memory:"

_SYSTEMS: Final = {
    "mssql": "microsoft.sql_server",
    "oracle": "oracle.db",
    "db2": "ibm.db2",
    "ibm_db_sa": "ibm.db2",
    "redshift": "aws.redshift",
    "spanner+spanner": "gcp.spanner",
    "hana": "sap.hana",
    "firebird": "firebirdsql",
    "teradatasql": "teradata",
    "awsathena": "other_sql",
}


@dataclass(frozen=True, slots=True)
class Database:
    """One database: `system` by the conventions' names, the rest None where it is not known."""

    system: str
    namespace: str | None = None
    address: str | None = None
    port: int | None = None


def describe(connection: Any) -> Database:
    """The database of a SQLAlchemy `Connection` that is open."""
    url, name = connection.engine.url, connection.dialect.name
    system = "mariadb" if getattr(connection.dialect, "is_mariadb", False) else _SYSTEMS.get(name, name)
    if name == "sqlite":
        return Database(system, sqlite_namespace(url))
    namespace, address, port = url.database or None, url.host or _only(url.query.get("host")), url.port
    if namespace is None or address is None:
        # psycopg and psycopg2 know what libpq made of defaults and environment variables.
        info = getattr(_driver_connection(connection), "info", None)
        namespace = namespace or _text(getattr(info, "dbname", None))
        if address is None:
            address, port = _text(getattr(info, "host", None)), port or getattr(info, "port", None)
    return Database(system, namespace, address, port if isinstance(port, int) else None)


def sqlite_namespace(url: Any) -> str:
    """The name of SQLite's file without its folders, or ``:memory:``."""
    path = str(url.database or IN_MEMORY)
    if path.startswith("file:"):
        path, _, options = path[5:].partition("?")
        if "mode=memory" in options or url.query.get("mode") == "memory":
            return IN_MEMORY
    # The file's name without its folders: those tell of the machine, not of the database.
    return re.split(r"[/\\]", path)[-1] or IN_MEMORY


def _driver_connection(connection: Any) -> Any:
    return getattr(connection.connection, "driver_connection", None)


def _only(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _text(value: Any) -> str | None:
    return str(value) if value else None
