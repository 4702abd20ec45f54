"""What the admin API costs a request while it is switched on and nobody uses it: one app with it, one without.

Both are in one process and take turns, ASGI and WSGI apart. Run it as ``python -m benchmarks.admin``.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from benchmarks import harness
from benchmarks.harness import Figure, Variant
from restaurant_otel import instrument

REQUESTS = 500
ON = {"admin": "/-/performance", "admin_key": "a secret of more than thirty-two bytes"}
SCOPE: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/hello/ada",
    "raw_path": b"/hello/ada",
    "query_string": b"",
    "root_path": "",
    "headers": [(b"host", b"localhost"), (b"user-agent", b"benchmark")],
    "client": ("127.0.0.1", 50_000),
    "server": ("127.0.0.1", 80),
}
ENVIRON: dict[str, Any] = {
    "REQUEST_METHOD": "GET",
    "PATH_INFO": "/hello/ada",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "HTTP_HOST": "localhost",
    "REMOTE_ADDR": "127.0.0.1",
    "wsgi.url_scheme": "http",
}


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.path_params["name"])


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: Any) -> None: ...


def asgi(loop: asyncio.AbstractEventLoop, **settings: Any) -> Any:
    app = instrument(Starlette(routes=[Route("/hello/{name}", hello)]), **settings)

    async def serve(number: int) -> None:
        for _ in range(number):
            await app(dict(SCOPE), receive, send)

    return lambda number: loop.run_until_complete(serve(number))


def wsgi(**settings: Any) -> Any:
    def plain(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]

    app = instrument(plain, **settings)

    def serve(number: int) -> None:
        for _ in range(number):
            body = app(dict(ENVIRON), lambda *_: None)
            for _chunk in body:
                pass
            body.close()

    return serve


def main() -> int:
    options = harness.options(__doc__)
    loop = asyncio.new_event_loop()
    variants = [
        Variant("ASGI, off", asgi(loop)),
        Variant("ASGI, on", asgi(loop, **ON)),
        Variant("WSGI, off", wsgi()),
        Variant("WSGI, on", wsgi(**ON)),
    ]
    costs = harness.measure(variants, number=REQUESTS, rounds=options.rounds)
    figures = [
        Figure("ASGI, on / off", costs.ratio("ASGI, on", "ASGI, off"), goal=1.05, aim=1.01),
        Figure("WSGI, on / off", costs.ratio("WSGI, on", "WSGI, off"), goal=1.08, aim=1.02),
    ]
    return harness.report("The admin API, switched on and unused", costs, figures, options)


if __name__ == "__main__":
    sys.exit(main())
