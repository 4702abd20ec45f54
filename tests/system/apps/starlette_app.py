"""The pages in Starlette."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.system.apps.pages import CHUNKS, FILE, HELLO, Boom, database, first_item, with_one_line

engine = database()


async def hello(request: Request) -> Response:
    return Response(HELLO, media_type="text/plain")


async def item(request: Request) -> Response:
    name = request.path_params["id"]
    return PlainTextResponse("no such item", 404) if name == "none" else PlainTextResponse(f"item {name}")


async def stream(request: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in CHUNKS:
            yield chunk
            await asyncio.sleep(0)

    return StreamingResponse(chunks(), media_type="text/plain")


async def file(request: Request) -> Response:
    return FileResponse(FILE, media_type="text/plain")


async def boom(request: Request) -> Response:
    raise Boom("asked for")


async def redirect(request: Request) -> Response:
    return RedirectResponse("/", 302)


async def query(request: Request) -> Response:
    return PlainTextResponse(first_item(engine))


async def slow(request: Request) -> Response:
    await asyncio.sleep(float(request.query_params.get("seconds", "0.2")))
    return PlainTextResponse("at last")


async def pid(request: Request) -> Response:
    return PlainTextResponse(str(os.getpid()))


async def echo(request: Request) -> Response:
    return Response(await request.body(), media_type="application/octet-stream")


async def background(request: Request) -> Response:
    return PlainTextResponse("answered", background=BackgroundTask(asyncio.sleep, 0.5))


async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text.upper())


app = Starlette(
    routes=[
        Route("/", hello),
        Route("/items/{id}", item),
        Route("/stream", stream),
        Route("/file", file),
        Route("/boom", boom),
        Route("/redirect", redirect),
        Route("/query", query),
        Route("/slow", slow),
        Route("/pid", pid),
        Route("/echo", echo, methods=["POST"]),
        Route("/background", background),
        WebSocketRoute("/chat/{room}", chat),
        Mount("/branches/{branch}", routes=[Route("/items/{id}", item)]),
    ]
)
app = with_one_line(app)
