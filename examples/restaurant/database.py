"""Where the data is: an async SQLAlchemy engine made from the environment.

`DATABASE_URL` names the database (SQLite in the temporary folder where it is not set);
`DATABASE_SCHEMA` puts the tables into a schema of their own, on PostgreSQL.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import URL, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",  # as hosting companies like to write it
}


def database_url(env: Mapping[str, str] = os.environ) -> URL:
    """The database to use, with an async driver whatever driver the environment names."""
    default = f"sqlite:///{Path(tempfile.gettempdir()) / 'restaurant-example.sqlite3'}"
    url = make_url(env.get("DATABASE_URL") or default)
    system = url.drivername.partition("+")[0]
    if system not in _DRIVERS:
        raise ValueError(f"DATABASE_URL names {system!r}; this example speaks sqlite and postgresql")
    return url.set(drivername=_DRIVERS[system])


def make_engine(env: Mapping[str, str] = os.environ) -> AsyncEngine:
    """An engine on `database_url(env)`; whoever calls disposes of it."""
    url = database_url(env)
    if url.get_backend_name() == "sqlite":
        engine = create_async_engine(url, connect_args={"timeout": 15})
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        return engine
    schema = env.get("DATABASE_SCHEMA")
    arguments: dict[str, Any] = {"server_settings": {"search_path": schema}} if schema else {}
    return create_async_engine(url, pool_size=10, connect_args=arguments)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """Let several workers read while one writes; a demo's data need not survive a power cut."""
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = OFF", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
