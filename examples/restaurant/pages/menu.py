"""What there is to eat."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from examples.restaurant.models import MenuItem
from examples.restaurant.pages import body, row_or_404, session


def as_json(item: MenuItem) -> dict[str, Any]:
    """A dish as clients see it."""
    return {"id": item.id, "name": item.name, "section": item.section, "price_cents": item.price_cents}


async def show_menu(request: Request) -> JSONResponse:
    """The menu, or one ``section`` of it."""
    statement = select(MenuItem).order_by(MenuItem.id)
    if section := request.query_params.get("section"):
        statement = statement.where(MenuItem.section == section)
    async with session(request) as database:
        return JSONResponse([as_json(item) for item in await database.scalars(statement)])


async def set_price(request: Request) -> JSONResponse:
    """Change the price of a dish."""
    price = (await body(request, price_cents=int))["price_cents"]
    if not 0 < price < 100_000:
        raise HTTPException(400, "price_cents: between 1 and 99999")
    async with session(request) as database:
        item = await row_or_404(database, MenuItem, request.path_params["item_id"])
        item.price_cents = price
        await database.commit()
        return JSONResponse(as_json(item))


routes = [
    Route("/menu", show_menu),
    Route("/menu/{item_id:int}", set_price, methods=["PATCH"]),
]
