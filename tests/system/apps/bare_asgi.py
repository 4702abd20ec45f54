"""A bare ASGI callable: no framework, so no routes; it answers by path."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.system.apps.pages import CHUNKS, HELLO, Boom, with_one_line


async def pages(scope: Any, receive: Any, send: Any) -> None:
    """The pages."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    path = scope["path"]
    if path == "/boom":
        raise Boom("asked for")
    if path == "/stream":
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
        )
        for chunk in CHUNKS:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b""})
        return
    status, body = (200, HELLO) if path == "/" else (404, b"no such page")
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


app = with_one_line(pages)
