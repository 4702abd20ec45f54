"""What there is to eat."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from examples.restaurant.cache import cache
from examples.restaurant.models import MenuItem
from examples.restaurant.pages import body, row_or_404, session


def as_json(item: MenuItem) -> dict[str, Any]:
    """A dish as clients see it."""
    return {"id": item.id, "name": item.name, "section": item.section, "price_cents": item.price_cents}


@cache.cached("menu", ttl=300, ignore=("request",))
async def dishes(request: Request) -> list[dict[str, Any]]:
    """All dishes. One value, whatever section is asked for: a key that clients make up would fill the cache."""
    async with session(request) as database:
        return [as_json(item) for item in await database.scalars(select(MenuItem).order_by(MenuItem.id))]


async def show_menu(request: Request) -> JSONResponse:
    """The menu, or one ``section`` of it."""
    section = request.query_params.get("section")
    return JSONResponse([dish for dish in await dishes(request) if section in (None, "", dish["section"])])


async def set_price(request: Request) -> JSONResponse:
    """Change the price of a dish."""
    price = (await body(request, price_cents=int))["price_cents"]
    if not 0 < price < 100_000:
        raise HTTPException(400, "price_cents: between 1 and 99999")
    async with session(request) as database:
        item = await row_or_404(database, MenuItem, request.path_params["item_id"])
        item.price_cents = price
        await database.commit()
    await dishes.invalidate(request)
    return JSONResponse(as_json(item))


routes = [
    Route("/menu", show_menu),
    Route("/menu/{item_id:int}", set_price, methods=["PATCH"]),
]
