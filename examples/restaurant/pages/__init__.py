"""The app's pages, one module each, and what they share: a session, rows by id, parameters.

Each module lists its `routes`; `app` joins them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from json import JSONDecodeError
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.interfaces import ORMOption
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request

from examples.restaurant.models import Base

PAGE_SIZE = 50
LARGEST_ID = 2**31 - 1

Row = TypeVar("Row", bound=Base)
Value = TypeVar("Value")


def session(connection: HTTPConnection) -> AsyncSession:
    """A database session, to be used as an async context manager."""
    opened: AsyncSession = connection.app.state.sessions()
    return opened


async def row_or_404(database: AsyncSession, table: type[Row], row_id: int, *options: ORMOption) -> Row:
    """The row with this id."""
    row = await database.get(table, row_id, options=options) if row_id <= LARGEST_ID else None
    if row is None:
        raise HTTPException(404, f"no such {table.__name__.lower()}")
    return row


def query(request: Request, name: str, parse: Callable[[str], Value]) -> Value | None:
    """A query parameter as `parse` makes it, None where it is not given; 400 where it makes no sense."""
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError:
        raise HTTPException(400, f"{name}: cannot read {text[:40]!r}") from None


def number(text: str) -> int:
    """A count or an id that any database can hold."""
    value = int(text)
    if not 0 <= value <= LARGEST_ID:
        raise ValueError(text)
    return value


day = date.fromisoformat


async def body(request: Request, **fields: type) -> dict[str, Any]:
    """The request's JSON object with exactly these fields of these types; 400 otherwise."""
    try:
        value = await request.json()
    except (JSONDecodeError, UnicodeDecodeError):
        raise HTTPException(400, "the body is not JSON") from None
    if not isinstance(value, dict) or value.keys() != fields.keys():
        raise HTTPException(400, f"expected an object of {', '.join(fields)}")
    for name, kind in fields.items():
        if type(value[name]) is not kind:
            raise HTTPException(400, f"{name}: expected {kind.__name__}")
    return value
