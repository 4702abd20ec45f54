"""The middleware's part in these tests: it holds the scope or environ, and asks after the call."""

from __future__ import annotations

import asyncio
from typing import Any

from restaurant_otel.routes import AsgiRoutes, WsgiRoutes
from tests.support.asgi import asgi_request, asgi_websocket
from tests.support.wsgi import WSGIApp, wsgi_call


def ask(
    app: Any, path: str, method: str = "GET", routes: AsgiRoutes | None = None, **options: Any
) -> str | None:
    """The template of one HTTP request through `app`."""
    return answer(app, path, method, routes, **options)[1]


def answer(
    app: Any,
    path: str,
    method: str = "GET",
    routes: AsgiRoutes | None = None,
    host: str = "testserver",
    **options: Any,
) -> tuple[int | None, str | None]:
    """The status (None if the app raised) and the template of one HTTP request through `app`."""
    routes = routes or AsgiRoutes(app)

    async def hosted(scope: Any, receive: Any, send: Any) -> None:
        scope["headers"] = [(b"host", host.encode())]
        await app(scope, receive, send)

    response = asyncio.run(asgi_request(hosted, method, path, catch=True, **options))
    return response.status if response.started else None, routes.template(response.scope)


def ask_websocket(app: Any, path: str, routes: AsgiRoutes | None = None) -> str | None:
    """The template of one WebSocket session through `app`."""
    routes = routes or AsgiRoutes(app)
    return routes.template(asyncio.run(asgi_websocket(app, path)).scope)


def ask_wsgi(
    app: WSGIApp, path: str, method: str = "GET", routes: WsgiRoutes | None = None, **options: Any
) -> str | None:
    """The template of one WSGI request: asked at start_response, and at the end if that told nothing."""
    routes = routes or WsgiRoutes(app)
    told: list[str | None] = []

    def middleware(environ: dict[str, Any], start_response: Any) -> Any:
        def starting(*args: Any) -> Any:
            told.append(routes.template(environ))
            return start_response(*args)

        return app(environ, starting)

    response = wsgi_call(middleware, method, path, catch=True, **options)
    return next((template for template in told if template), None) or routes.template(response.environ)
