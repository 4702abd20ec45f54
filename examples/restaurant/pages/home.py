"""The one HTML page: how the branches are doing."""

from __future__ import annotations

from html import escape

from sqlalchemy import func, select
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from examples.restaurant.cache import cache
from examples.restaurant.models import Branch, Order
from examples.restaurant.pages import session

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Trattorie</title>
<style>
body {{ font: 16px sans-serif; margin: 2rem auto; max-width: 40rem }}
th, td {{ padding: .2rem 1rem .2rem 0; text-align: left }}
</style>
<h1>Trattorie</h1>
<table><tr><th>Branch<th>City<th>Orders<th>Taken</tr>
{rows}
</table>
<p>Data: <a href="/branches">branches</a>, <a href="/users">users</a>, <a href="/schedules">schedules</a>,
<a href="/menu">menu</a>, <a href="/orders">orders</a>. Numbers: <a href="/metrics">metrics</a>.</p>
</html>
"""


@cache.cached("home", ttl=10, stale_while_revalidate=60, ignore=("request",))
async def takings(request: Request) -> list[tuple[str, str, int, int]]:
    """Name, city, number of orders and cents taken, of each branch. Nobody minds if they are of a minute ago."""
    taken = func.coalesce(func.sum(Order.total_cents), 0)
    statement = (
        select(Branch.name, Branch.city, func.count(Order.id), taken)
        .outerjoin(Order)
        .group_by(Branch.id)
        .order_by(Branch.id)
    )
    async with session(request) as database:
        return [
            (name, city, count, int(cents)) for name, city, count, cents in await database.execute(statement)
        ]


async def home(request: Request) -> HTMLResponse:
    """Each branch with its orders and takings."""
    rows = "\n".join(
        f"<tr><td>{escape(name)}<td>{escape(city)}<td>{count}<td>{cents / 100:.2f}</tr>"
        for name, city, count, cents in await takings(request)
    )
    return HTMLResponse(PAGE.format(rows=rows))


routes = [Route("/", home)]
