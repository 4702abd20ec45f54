"""The pages in FastAPI, the items in an included router."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse

from tests.system.apps.pages import CHUNKS, FILE, HELLO, Boom, database, first_item, with_one_line

engine = database()
app = FastAPI()
items = APIRouter(prefix="/items")


@app.get("/")
@app.head("/")
async def hello() -> Response:
    return Response(HELLO, media_type="text/plain")


@items.get("/{id}")
async def item(id: str) -> Response:  # noqa: A002 - the page's parameter has this name in every app
    if id == "none":
        raise HTTPException(404, "no such item")
    return PlainTextResponse(f"item {id}")


@app.get("/stream")
async def stream() -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in CHUNKS:
            yield chunk
            await asyncio.sleep(0)

    return StreamingResponse(chunks(), media_type="text/plain")


@app.get("/file")
@app.head("/file")
async def file() -> Response:
    return FileResponse(FILE, media_type="text/plain")


@app.get("/boom")
async def boom() -> Response:
    raise Boom("asked for")


@app.get("/redirect")
async def redirect() -> Response:
    return RedirectResponse("/", 302)


@app.get("/query")
def query() -> Response:  # a plain function: FastAPI runs it in a thread
    return PlainTextResponse(first_item(engine))


@app.get("/slow")
async def slow(seconds: float = 0.2) -> Response:
    await asyncio.sleep(seconds)
    return PlainTextResponse("at last")


@app.get("/pid")
async def pid() -> Response:
    return PlainTextResponse(str(os.getpid()))


@app.post("/echo")
async def echo(request: Request) -> Response:
    return Response(await request.body(), media_type="application/octet-stream")


app.include_router(items)
app = with_one_line(app)
