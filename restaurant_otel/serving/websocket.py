"""One WebSocket over ASGI, from its handshake to its close.

It has a span and metrics of its own: a connection that stays open for an hour by design would drown the
latency of requests. The span is named as the handshake, which is a GET.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any, Final

from restaurant_otel import catalog
from restaurant_otel.conventions import asgi_attributes, error_type, known_scheme, known_status
from restaurant_otel.errors import survived
from restaurant_otel.metrics.registry import registry
from restaurant_otel.routes import AsgiRoutes
from restaurant_otel.serving.asgi import Message, Receive, Scope, Send, is_cancellation
from restaurant_otel.serving.exchange import CANCELLED, Exchange, end_span, fail_span
from restaurant_otel.serving.observer import Observer, call_hook

_NO_STATUS: Final = 1005  # RFC 6455: the close frame carried no code
_ABNORMAL: Final = 1006  # RFC 6455: the connection ended without a close frame


class WebSocketExchange(Exchange):
    """One connection."""

    finished = False
    """Until `close`, which comes with the end of the app."""

    __slots__ = ("_active", "_close_code", "_closing", "_receive", "_received", "_send", "_sent", "_status")

    def __init__(
        self, observer: Observer, routes: AsgiRoutes, scope: Scope, receive: Receive, send: Send
    ) -> None:
        super().__init__(observer, routes, scope, "GET", observer.pick(scope.get("headers", ())))
        self._receive = receive
        self._send = send
        self._status: int | None = None
        self._close_code: int | None = None
        self._closing = False
        self._received = 0
        self._sent = 0
        self._call(observer.request_hook)
        scheme = known_scheme(scope.get("scheme", "ws"))
        self._active = registry().counter(catalog.WEBSOCKET_ACTIVE_CONNECTIONS).bind(scheme)
        self._active.add(1)

    def _attributes(self) -> dict[str, Any]:
        scope = {"method": "GET", "scheme": "ws", **self._carrier}
        return asgi_attributes(scope, self._found, self._observer.opt_in)

    def _call(self, hook: Any, *message: Message) -> None:
        if hook is not None and self.recording:
            call_hook(hook, self._span, self._carrier, *message)

    def add_timing(self, phase: str, seconds: float) -> None:
        """Nothing: a WebSocket has no response header to show it in."""

    async def receive(self) -> Message:
        """The server's next message, after a look at it."""
        message = await self._receive()
        try:
            if message["type"] == "websocket.receive":
                self._received += 1
            elif message["type"] == "websocket.disconnect":
                self._closed_with(message.get("code"), _NO_STATUS)
            self._call(self._observer.receive_hook, message)
        except Exception as error:  # noqa: BLE001 - never into the app
            survived("websocket", error)
        return message

    async def send(self, message: Message) -> None:
        """Pass the app's next message on, after a look at it."""
        try:
            self._look_at_sent(message)
        except Exception as error:  # noqa: BLE001 - never into the app
            survived("websocket", error)
        await self._send(message)

    def _look_at_sent(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.send":
            self._sent += 1
        elif kind == "websocket.accept":
            self._status = 101
        elif kind == "websocket.http.response.start":
            self._status = known_status(message["status"])
        elif kind == "websocket.close":
            if self._status is None:
                self._status = 403  # by the protocol, closing instead of accepting refuses the handshake
            else:
                self._closed_with(message.get("code"), 1000)
        self._call(self._observer.send_hook, message)

    def _closed_with(self, code: object, default: int) -> None:
        if not self._closing:  # the first close is the one that ended it
            self._closing = True
            self._close_code = _code(code, default)

    def close(self, error: BaseException | None) -> None:
        """The app has returned, or raised `error`."""
        try:
            self._finish(error)
        except Exception as own:  # noqa: BLE001 - never into the app
            survived("websocket", own)

    def _finish(self, error: BaseException | None) -> None:
        self._active.add(-1)
        cancelled = error is not None and is_cancellation(error)
        problem = error_type(error) if error is not None and not cancelled else None
        code = self._close_code
        if not self._closing and self._status == 101:
            code = (
                1011 if problem is not None else _ABNORMAL
            )  # 1011 is what servers send for an app that raised
        route = self.route
        cells = registry()
        duration = cells.histogram(catalog.WEBSOCKET_CONNECTION_DURATION).bind(route, code, problem)
        duration.record(perf_counter() - self._started)
        for direction, count in (("receive", self._received), ("transmit", self._sent)):
            if count:
                cells.counter(catalog.WEBSOCKET_MESSAGES).bind(route, direction).add(count)
        if self._own_span and self.recording:
            self._end_span(route, code, problem, error, cancelled=cancelled)

    def _end_span(
        self,
        route: str | None,
        code: int | None,
        problem: str | None,
        error: BaseException | None,
        *,
        cancelled: bool,
    ) -> None:
        known = {
            "http.route": route,
            "http.response.status_code": self._status,
            "restaurant.websocket.close_code": code,
            "restaurant.websocket.messages.received": self._received,
            "restaurant.websocket.messages.sent": self._sent,
            "restaurant.outcome": CANCELLED if cancelled else None,
            "error.type": problem,
        }
        attributes = {name: value for name, value in known.items() if value is not None}
        name = "GET" if route is None else f"GET {route}"
        if problem is not None:
            fail_span(self._span, error)
        end_span(self._span, name, attributes)


def _code(code: object, default: int) -> int | None:
    """A close code as a label: those of RFC 6455 and the private range an app defines, never a client's whim."""
    if code is None:
        return default
    if not isinstance(code, int):
        return None
    return code if 1000 <= code <= 1015 else 4000 if 4000 <= code <= 4999 else None
