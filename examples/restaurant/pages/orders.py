"""What guests order, from the table to the till."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import selectinload
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from examples.restaurant.models import STATUSES, Branch, MenuItem, Order, OrderItem
from examples.restaurant.pages import LARGEST_ID, PAGE_SIZE, body, number, query, row_or_404, session
from restaurant_otel import measure

BATCH = 100


class CardTerminalError(Exception):
    """The card terminal did not answer."""


def as_json(order: Order) -> dict[str, Any]:
    """An order as clients see it, without its lines."""
    return {
        "id": order.id,
        "branch_id": order.branch_id,
        "guest_name": order.guest_name,
        "status": order.status,
        "total_cents": order.total_cents,
        "created_at": order.created_at.isoformat(),
    }


async def list_orders(request: Request) -> JSONResponse:
    """Orders by ``branch`` and ``status``, newest first."""
    statement = select(Order).order_by(Order.created_at.desc(), Order.id)
    if (branch_id := query(request, "branch", number)) is not None:
        statement = statement.where(Order.branch_id == branch_id)
    if status := request.query_params.get("status"):
        if status not in STATUSES:
            raise HTTPException(400, f"status: one of {', '.join(STATUSES)}")
        statement = statement.where(Order.status == status)
    async with session(request) as database:
        found = await database.scalars(statement.limit(PAGE_SIZE))
        return JSONResponse([as_json(order) for order in found])


async def show_order(request: Request) -> JSONResponse:
    """One order and its lines, in three queries however long it is."""
    async with session(request) as database:
        with_dishes = selectinload(Order.items).selectinload(OrderItem.menu_item)
        order = await row_or_404(database, Order, request.path_params["order_id"], with_dishes)
    lines = [
        {"dish": i.menu_item.name, "quantity": i.quantity, "price_cents": i.price_cents} for i in order.items
    ]
    return JSONResponse({**as_json(order), "lines": lines})


@measure("order.price")
def price_of(lines: list[OrderItem]) -> int:
    """What the guests owe, in cents: every third coffee or water on the house."""
    return sum(line.price_cents * (line.quantity - line.quantity // 3) for line in lines)


async def place_order(request: Request) -> JSONResponse:
    """A new order of ``dishes`` (ids, repeated for more of one) at a branch; the kitchen hears of it."""
    values = await body(request, branch_id=int, guest_name=str, dishes=list)
    wanted: dict[Any, int] = {}
    for dish in values["dishes"]:
        if type(dish) is not int or not 0 < dish <= LARGEST_ID:
            raise HTTPException(400, "dishes: expected the numbers of dishes")
        wanted[dish] = wanted.get(dish, 0) + 1
    if not 0 < len(wanted) <= 50:
        raise HTTPException(400, "dishes: between 1 and 50")
    async with session(request) as database:
        branch = await row_or_404(database, Branch, values["branch_id"])
        menu = (await database.scalars(select(MenuItem).where(MenuItem.id.in_(wanted)))).all()
        if len(menu) < len(wanted):
            raise HTTPException(404, "no such dish")
        lines = [
            OrderItem(menu_item_id=item.id, quantity=wanted[item.id], price_cents=item.price_cents)
            for item in menu
        ]
        order = Order(
            branch_id=branch.id,
            guest_name=values["guest_name"][:80],
            status="open",
            total_cents=price_of(lines),
            created_at=datetime.now(UTC).replace(tzinfo=None),
            items=lines,
        )
        database.add(order)
        await database.commit()
    request.app.state.board.post(order.branch_id, as_json(order))
    return JSONResponse(as_json(order), 201)


async def pay_order(request: Request) -> JSONResponse:
    """Take the guests' card. Failing: the terminal gives up on every fifth order, and nobody is prepared."""
    async with session(request) as database:
        order = await row_or_404(database, Order, request.path_params["order_id"])
        if order.id % 5 == 0:
            raise CardTerminalError(f"no answer for order {order.id}")
        order.status = "paid"
        await database.commit()
    return JSONResponse(as_json(order))


async def export_orders(request: Request) -> StreamingResponse:
    """All orders as a stream of JSON lines, read from the database as the client reads."""

    async def lines() -> AsyncIterator[str]:
        async with session(request) as database:
            found = await database.stream_scalars(
                select(Order).order_by(Order.id).execution_options(yield_per=BATCH)
            )
            async for batch in found.partitions(BATCH):
                yield "".join(json.dumps(as_json(order)) + "\n" for order in batch)

    return StreamingResponse(lines(), media_type="application/x-ndjson")


routes = [
    Route("/orders", list_orders),
    Route("/orders", place_order, methods=["POST"]),
    Route("/orders/export", export_orders),
    Route("/orders/{order_id:int}", show_order),
    Route("/orders/{order_id:int}/payment", pay_order, methods=["POST"]),
]
