"""Ugly on purpose: what a monitoring system should find without being told.

Each function says what is wrong with it. (The failing one is `orders.pay_order`.)
"""

from __future__ import annotations

import asyncio

from sqlalchemy import func, select
from sqlalchemy.orm import aliased
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from examples.restaurant.models import Branch, MenuItem, Order, OrderItem, Schedule, User
from examples.restaurant.pages import PAGE_SIZE, day, query, row_or_404, session

SUPPLIER_SECONDS = 0.08
LATEST_LINES = 1800


async def roster(request: Request) -> JSONResponse:
    """Who works at a branch on a ``date``. N+1: one query for the shifts, then one for each person."""
    date = query(request, "date", day)
    if date is None:
        raise HTTPException(400, "date: which day?")
    async with session(request) as database:
        branch = await row_or_404(database, Branch, request.path_params["branch_id"])
        shifts = await database.scalars(
            select(Schedule).join(Schedule.user).where(User.branch_id == branch.id, Schedule.date == date)
        )
        people = [
            {"name": (await shift.awaitable_attrs.user).full_name, "starts": shift.starts, "ends": shift.ends}
            for shift in shifts
        ]
    return JSONResponse({"branch": branch.name, "date": date.isoformat(), "people": people})


async def bestsellers(request: Request) -> JSONResponse:
    """Dishes often ordered together. Slow on SQLite: holds each of the latest lines against every other."""
    one, other = aliased(OrderItem), aliased(OrderItem)
    latest = select(func.max(OrderItem.id)).scalar_subquery() - LATEST_LINES
    pairs = (
        select(one.menu_item_id, other.menu_item_id, func.count().label("times"))
        # The sums keep the database from using the index on order_id.
        .where(one.order_id + 0 == other.order_id + 0, one.menu_item_id < other.menu_item_id)
        .where(one.id > latest, other.id > latest)
        .group_by(one.menu_item_id, other.menu_item_id)
        .order_by(func.count().desc(), one.menu_item_id, other.menu_item_id)
        .limit(10)
    )
    async with session(request) as database:
        names = {item.id: item.name for item in await database.scalars(select(MenuItem))}
        found = (await database.execute(pairs)).all()
    return JSONResponse([{"dishes": [names[a], names[b]], "times": times} for a, b, times in found])


async def search(request: Request) -> JSONResponse:
    """Guests and staff by part of a name (``q``). Unindexed: reads two tables from end to end."""
    part = f"%{request.query_params.get('q', '')}%"
    guests = (
        select(Order.guest_name).where(Order.guest_name.ilike(part)).distinct().order_by(Order.guest_name)
    )
    staff = select(User.full_name).where(User.full_name.ilike(part)).distinct().order_by(User.full_name)
    async with session(request) as database:
        return JSONResponse(
            {
                "guests": (await database.scalars(guests.limit(PAGE_SIZE))).all(),
                "staff": (await database.scalars(staff.limit(PAGE_SIZE))).all(),
            }
        )


async def suppliers(request: Request) -> JSONResponse:
    """Wholesale prices. Slow: asks suppliers one after another, and keeps its connection meanwhile."""
    async with session(request) as database:
        cheapest = select(MenuItem.section, func.min(MenuItem.price_cents)).group_by(MenuItem.section)
        prices = {section: cents // 3 for section, cents in await database.execute(cheapest)}
        for _ in prices:
            await asyncio.sleep(SUPPLIER_SECONDS)
    return JSONResponse(prices)


routes = [
    Mount(
        "/reports",
        routes=[
            Route("/roster/{branch_id:int}", roster),
            Route("/bestsellers", bestsellers),
            Route("/search", search),
            Route("/suppliers", suppliers),
        ],
    )
]
