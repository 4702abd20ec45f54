"""The web app: a plain Starlette application, and the one line.

``uvicorn examples.restaurant.app:app``, on a database that `seed` has filled. Nothing here or in `pages`
knows about observability, but for the last line, one `measure` on a function that is no endpoint, and whose cache it
is that pages use.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from sqlalchemy.ext.asyncio import async_sessionmaker
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from examples.restaurant.cache import cache
from examples.restaurant.database import make_engine
from examples.restaurant.pages import branches, home, kitchen, menu, orders, reports, schedules, users
from restaurant_otel import instrument


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Open the database and the kitchen's message board for as long as the app runs."""
    engine = make_engine()
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    app.state.board = kitchen.Board()
    try:
        yield
    finally:
        await cache.close()
        await engine.dispose()


async def problem(_request: Request, error: Exception) -> Response:
    """Answer what a page refused as JSON."""
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


app = Starlette(
    routes=[
        *home.routes,
        *branches.routes,
        *users.routes,
        *schedules.routes,
        *menu.routes,
        *orders.routes,
        *kitchen.routes,
        *reports.routes,
    ],
    exception_handlers={HTTPException: problem},
    lifespan=lifespan,
)

app = instrument(app)
