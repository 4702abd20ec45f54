"""The traffic: it reaches every page, knows what each answer should be, and stays on this machine."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from pkgutil import iter_modules

import httpx
import pytest
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from websockets.exceptions import WebSocketException

from examples.restaurant import figures, pages
from examples.restaurant.traffic import MIX, Surprise, Traffic, Visit, Visitor
from tests.support.servers import Server
from tests.support.wait import eventually


def templates(routes: list[BaseRoute], prefix: str = "") -> Iterator[tuple[type[BaseRoute], str]]:
    for route in routes:
        if isinstance(route, Mount):
            yield from templates(route.routes, prefix + route.path)
        elif isinstance(route, Route | WebSocketRoute):
            yield type(route), prefix + route.path


async def visit_often(server: Server, visit: Visit, times: int) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
        for number in range(times):
            await visit(Visitor(http, random.Random(number)))


@pytest.mark.parametrize("visit", [pytest.param(visit, id=visit.__name__) for _, visit in MIX])
def test_each_visit_is_answered_as_it_expects(restaurant: Server, visit: Visit) -> None:
    asyncio.run(visit_often(restaurant, visit, times=20 if visit.__name__ in ("err", "attack") else 5))


def test_together_they_reach_every_route_of_the_app(restaurant: Server) -> None:
    """What the visits above have done, told by the app's own metrics."""
    routes = [
        found
        for module in iter_modules(pages.__path__)
        for found in templates(import_module(f"{pages.__name__}.{module.name}").routes)
    ]
    assert len(routes) > 15

    def unseen() -> set[str]:
        scrape = restaurant.scrape()
        seen = {
            Route: scrape.labels("http_server_request_duration_seconds_count", "http_route"),
            WebSocketRoute: scrape.labels(
                "restaurant_websocket_connection_duration_seconds_count", "http_route"
            ),
        }
        return {path for kind, path in routes if path not in seen[kind]}

    eventually(lambda: not unseen(), what=f"routes never asked for: {unseen()}")


def test_the_metrics_give_the_ugly_pages_away(restaurant: Server) -> None:
    app = figures.read(restaurant.get("/metrics").text, "", at=0)
    assert app.queries_each("/reports/roster/{branch_id:int}") > 10 > app.queries_each("/schedules")
    assert app.requests["/reports/suppliers"].mean > 0.4 > app.requests["/menu"].mean
    assert app.requests["/orders/{order_id:int}/payment"].errors > 0 == app.requests["/orders"].errors


@asynccontextmanager
async def an_app_that_answers(status: bytes) -> AsyncIterator[str]:
    """An app that gives `status` and no body to everybody; yields its URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def surprised(url: str) -> Traffic:
    """Traffic to `url`, until something has surprised it."""
    traffic, stop = Traffic(url, rate=200), asyncio.Event()
    async with asyncio.timeout(60):
        running = asyncio.create_task(traffic.run(stop))
        while not traffic.surprises:
            await asyncio.wait([running], timeout=0.01)
        stop.set()
        await running
    return traffic


def test_an_app_that_answers_wrong_is_a_surprise() -> None:
    async def visit_it() -> Traffic:
        async with an_app_that_answers(b"503 Busy") as url:
            return await surprised(url)

    traffic = asyncio.run(visit_it())
    assert traffic.answered > 0
    assert any("answered 503" in surprise for surprise in traffic.surprises)


@pytest.mark.parametrize("visit", [pytest.param(visit, id=visit.__name__) for _, visit in MIX])
def test_no_visit_stumbles_over_a_wrong_answer(visit: Visit) -> None:
    """Each by itself: whether the rare ones come up in a short mix is left to the dice and the clock."""

    async def visit_it() -> None:
        async with an_app_that_answers(b"503 Busy") as url, httpx.AsyncClient(base_url=url) as http:
            await visit(Visitor(http, random.Random(1)))

    with pytest.raises((Surprise, WebSocketException)):
        asyncio.run(visit_it())


def test_an_app_that_is_not_there_is_a_surprise_and_no_more() -> None:
    assert asyncio.run(surprised("http://127.0.0.1:1")).answered == 0


@pytest.mark.parametrize("url", ["http://example.com", "https://10.0.0.1:80", "http://127.0.0.1.example.com"])
def test_it_visits_this_machine_only(url: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        Traffic(url)
