"""What one WebSocket leaves behind: a span and metrics of its own, apart from those of requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.trace import StatusCode
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from restaurant_otel import ASGIMiddleware, instrument
from tests.support.asgi import asgi_websocket
from tests.support.readings import Readings
from tests.support.spans import Spans

DURATION = "restaurant_websocket_connection_duration_seconds_count"

Added = Callable[[], Readings]


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)
        await socket.send_text(text)


def run(app: Any, *arguments: Any, **options: Any) -> Any:
    import asyncio

    return asyncio.run(asgi_websocket(app, *arguments, **options))


def test_a_session_has_one_span_and_counts_of_its_own(spans: Spans, added: Added) -> None:
    app = instrument(Starlette(routes=[WebSocketRoute("/echo/{room}", echo)]), tracer_provider=spans.provider)
    run(app, "/echo/7", receives=["a", "b"], close_code=1001)
    span = spans.server()
    attributes = span.attributes or {}
    assert span.name == "GET /echo/{room}"
    assert attributes["url.scheme"] == "ws"
    assert attributes["http.response.status_code"] == 101
    assert attributes["restaurant.websocket.close_code"] == 1001
    assert attributes["restaurant.websocket.messages.received"] == 2
    assert attributes["restaurant.websocket.messages.sent"] == 4
    readings = added()
    assert readings.total(DURATION, http_route="/echo/{room}", restaurant_websocket_close_code="1001") == 1
    assert readings.total("restaurant_websocket_messages_total", network_io_direction="receive") == 2
    assert readings.total("restaurant_websocket_messages_total", network_io_direction="transmit") == 4
    assert readings.total("restaurant_websocket_active_connections") == 0
    assert readings.total("http_server_request_duration_seconds_count") == 0


def test_a_refused_handshake_is_a_403(spans: Spans, added: Added) -> None:
    async def refuses(socket: WebSocket) -> None:
        await socket.close()

    run(instrument(Starlette(routes=[WebSocketRoute("/no", refuses)]), tracer_provider=spans.provider), "/no")
    assert (spans.server().attributes or {})["http.response.status_code"] == 403


def test_an_exception_passes_through_and_is_told(spans: Spans, added: Added) -> None:
    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        raise LookupError("gone")

    response = run(ASGIMiddleware(breaks, tracer_provider=spans.provider), "/", catch=True)
    assert isinstance(response.error, LookupError)
    assert spans.server().status.status_code is StatusCode.ERROR
    labels = {"restaurant_websocket_close_code": "1011", "error_type": "LookupError"}
    assert added().total(DURATION, **labels) == 1
    assert added().total("restaurant_websocket_active_connections") == 0


def test_close_codes_that_a_client_makes_up_do_not_become_labels(spans: Spans, added: Added) -> None:
    app = instrument(Starlette(routes=[WebSocketRoute("/", echo)]), tracer_provider=spans.provider)
    for code in (3123, 4001, 4711, 99999):
        run(app, "/", close_code=code)
    assert added().labels(DURATION, "restaurant_websocket_close_code") == {"", "4000"}


def test_hooks_and_captured_headers_work_as_for_requests(spans: Spans) -> None:
    seen = []

    async def accepts(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})

    app = ASGIMiddleware(
        accepts,
        tracer_provider=spans.provider,
        http_capture_headers_server_request="x-tenant",
        server_request_hook=lambda span, scope: seen.append(scope["type"]),
        client_request_hook=lambda span, scope, message: seen.append(message["type"]),
        client_response_hook=lambda span, scope, message: seen.append(message["type"]),
    )
    run(app, "/", headers=[(b"x-tenant", b"acme")])
    assert seen == ["websocket", "websocket.connect", "websocket.accept"]
    assert (spans.server().attributes or {})["http.request.header.x-tenant"] == ("acme",)
