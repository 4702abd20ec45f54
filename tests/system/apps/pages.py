"""What the test apps have in common: the one line, and the content of their pages.

    /               a greeting                      /file         FILE, with ranges where the framework can
    /items/{id}     an item, 404 for "none"         /redirect     302 to /
    /stream         CHUNKS, one by one              /boom         raises Boom
    /query          one SQL query (SELECT item)     /slow         answers after `?seconds=`
    /pid            the worker's process id         POST /echo    the request's body

With NO_LINE=1 in the environment the one line is left out: the same app without the middleware.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

HELLO = b"hello from the restaurant\n"
CHUNKS = [f"dish {number}\n".encode() * 20 for number in range(8)]


def _file() -> Path:
    path = Path(tempfile.gettempdir()) / f"restaurant-otel-tests-{os.getuid()}-menu.txt"
    content = b"".join(b"%06d a dish of the menu\n" % number for number in range(12_000))
    if not path.exists() or path.stat().st_size != len(content):
        path.write_bytes(content)
    return path


FILE = _file()


class Boom(Exception):  # noqa: N818 - it is what the page is called
    """What /boom raises."""


def with_one_line(app: Any, **settings: Any) -> Any:
    """`instrument(app)`, or `app` itself under NO_LINE=1."""
    if os.environ.get("NO_LINE") == "1":
        return app
    from restaurant_otel import instrument

    return instrument(app, **settings)


def database() -> Any:
    """An SQLAlchemy engine on a small SQLite database in memory, one to a process."""
    import sqlalchemy as sa

    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False})
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)"))
        connection.execute(sa.text("INSERT INTO item (name) VALUES ('soup')"))
    return engine


def first_item(engine: Any) -> str:
    """The query of /query."""
    import sqlalchemy as sa

    with engine.connect() as connection:
        return str(
            connection.execute(sa.text("SELECT name FROM item WHERE id = :id"), {"id": 1}).scalar_one()
        )
