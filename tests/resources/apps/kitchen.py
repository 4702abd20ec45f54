"""In Starlette, on asyncio's loop and, by anyio alone, on trio's."""

from __future__ import annotations

import time

import anyio.to_thread
from anyio.lowlevel import checkpoint
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from restaurant_otel import instrument
from tests.resources import apps

THREADS = 3


def wait(request: Request) -> Response:
    return PlainTextResponse(apps.wait())


async def few_threads(request: Request) -> Response:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    return PlainTextResponse("done")


async def burn(request: Request) -> Response:
    """Use all of a core for `seconds`, with a turn for others every 10 ms."""
    until = time.monotonic() + float(request.query_params["seconds"])
    while time.monotonic() < until:
        apps.burn(0.01)
        await checkpoint()
    return PlainTextResponse("burnt")


async def hold(request: Request) -> Response:
    apps.hold(float(request.query_params["seconds"]))
    return PlainTextResponse("held")


async def garbage(request: Request) -> Response:
    return PlainTextResponse(apps.garbage())


kept: list[bytearray] = []


async def keep(request: Request) -> Response:
    kept.append(bytearray(8 << 20))
    return PlainTextResponse("kept")


async def observed(request: Request) -> Response:
    return JSONResponse(apps.observed())


app = instrument(
    Starlette(
        routes=[
            Route("/wait", wait),
            Route("/few-threads", few_threads),
            Route("/burn", burn),
            Route("/hold", hold),
            Route("/garbage", garbage),
            Route("/keep", keep),
            Route("/observed", observed),
        ]
    )
)
