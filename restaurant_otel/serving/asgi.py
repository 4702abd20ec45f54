"""One HTTP request over ASGI, from its scope to its last byte.

The exchange stands between the app and the server as `receive` and `send`. It is finished when the last
part of the response has been sent, so that background tasks do not count as latency, or when the app
returns or raises, whichever tells the outcome.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any, TypeAlias

from restaurant_otel.conventions import (
    asgi_attributes,
    content_length,
    error_type,
    known_status,
    usual_asgi_attributes,
)
from restaurant_otel.errors import survived
from restaurant_otel.routes import AsgiRoutes
from restaurant_otel.serving.exchange import CANCELLED, CLIENT_DISCONNECT, INCOMPLETE, Exchange, HttpExchange
from restaurant_otel.serving.observer import Observer, call_hook

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


class AsgiExchange(HttpExchange):
    """One request and its response."""

    __slots__ = ("_completed", "_disconnected", "_receive", "_send", "_status", "_trailers")

    def __init__(
        self, observer: Observer, routes: AsgiRoutes, scope: Scope, receive: Receive, send: Send
    ) -> None:
        get = scope.get
        found = observer.pick(get("headers", ()))
        length = found.get(b"content-length")
        # Without a length the body, if there is one, is counted as it is read.
        self._request_size = None if length is None else content_length(length)
        key = (get("method", "GET"), get("scheme", "http"), get("http_version", ""))
        line = observer.lines.known.get(key) or observer.lines.find(key)
        self._line = line
        self._receive = receive
        self._send = send
        self._status: int | None = None
        self._first_byte = None
        self._response_headers = ()
        self._response_size = 0
        self._completed: float | None = None
        self._disconnected = False
        self._trailers = False
        self._finished = False
        Exchange.__init__(self, observer, routes, scope, line.name, found)
        line.active.add(1)
        if observer.request_hook is not None and self.recording:
            call_hook(observer.request_hook, self._span, scope)

    def _attributes(self) -> dict[str, Any]:
        observer, form = self._observer, self._line.form
        if form is not None and not observer.opt_in:
            usual = usual_asgi_attributes(form, self._carrier, self._found)
            if usual is not None:
                return usual
        return asgi_attributes(self._carrier, self._found, observer.opt_in)

    # --- between the app and the server -----------------------------------------------------------------

    async def receive(self) -> Message:
        """The server's next message, after a look at it."""
        message = await self._receive()
        try:
            if message["type"] == "http.disconnect":
                # After the response this is how a server says that the exchange is over.
                self._disconnected = self._completed is None
            elif b"content-length" not in self._found:
                body = message.get("body")
                if body:
                    self._request_size = (self._request_size or 0) + len(body)
            if self._observer.receive_hook is not None and self.recording:
                call_hook(self._observer.receive_hook, self._span, self._carrier, message)
        except Exception as error:  # noqa: BLE001 - never into the app
            survived("request", error)
        return message

    async def send(self, message: Message) -> None:
        """Pass the app's next message on, after a look at it."""
        last = False
        try:
            kind = message["type"]
            if kind == "http.response.start":
                self._first_byte = perf_counter() - self._started
                status = message["status"]
                self._status = status if type(status) is int else _whole(status)
                self._response_headers = message.get("headers", ())
                if "trailers" in message:
                    self._trailers = bool(message["trailers"])
                if self._observer.decorates:
                    message = self._decorated(message)
            elif kind == "http.response.body":
                self._response_size += len(message.get("body", b""))
                last = not (message.get("more_body", False) or self._trailers)
            else:
                last = self._rare(kind, message)
            if self._observer.send_hook is not None and self.recording:
                call_hook(self._observer.send_hook, self._span, self._carrier, message)
        except Exception as error:  # noqa: BLE001 - never into the app
            survived("response", error)
        try:
            await self._send(message)
        except OSError:
            # The protocol's way to say that the client has gone.
            self._disconnected = self._completed is None
            raise
        if last and self._completed is None:
            self._completed = completed = perf_counter()
            status = self._status
            # A failure waits for the exception that may follow its response.
            if status is not None and 100 <= status < 500 and not self._finished:
                self._finished = True
                try:
                    route = self._route or self._routes.template(self._carrier)
                    self._finish(completed - self._started, route, status, None, None, None)
                except Exception as error:  # noqa: BLE001 - never into the app
                    survived("request", error)

    def _rare(self, kind: str, message: Message) -> bool:
        """Look at a message of a protocol extension; whether it is the response's last."""
        if kind == "http.response.trailers":
            return not message.get("more_trailers", False)
        if kind == "http.response.pathsend":
            headers = self._response_headers
            length = next((value for name, value in headers if name.lower() == b"content-length"), None)
            self._response_size = content_length(length) or 0
            return not self._trailers
        if kind == "http.response.zerocopysend":
            self._response_size += message.get("count") or 0
            return not message.get("more_body", False)
        return False

    def _decorated(self, message: Message) -> Message:
        extra = self._observer.extra_headers(self._span, self._started, self._timings)
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in extra]
        return {**message, "headers": [*self._response_headers, *encoded]}

    # --- the end -----------------------------------------------------------------------------------------

    def close(self, error: BaseException | None) -> None:
        """The response is complete, or the app has returned, or raised `error`; the first of these counts."""
        if self._finished:
            return
        self._finished = True
        try:
            status = known_status(self._status)
            outcome, problem = self._judge(status, error)
            if self._status is None and problem is not None:
                status = 500  # what every server answers for an app that did not
            ended = self._completed or perf_counter()
            self._finish(ended - self._started, self.route, status, problem, outcome, error)
        except Exception as own:  # noqa: BLE001 - never into the app
            survived("request", own)

    def _judge(self, status: int | None, error: BaseException | None) -> tuple[str | None, str | None]:
        """What interrupted the response, and the ``error.type``; None for neither."""
        if self._completed is not None:
            if error is not None:
                return None, error_type(error)
            return None, str(status) if status is not None and status >= 500 else None
        if self._disconnected:
            return CLIENT_DISCONNECT, None
        if error is not None and is_cancellation(error):
            return CANCELLED, None
        if error is not None:
            return None, error_type(error)
        return INCOMPLETE, INCOMPLETE


def _whole(status: object) -> int | None:
    """A status that is no plain number: `http.HTTPStatus` is one, anything else the server will refuse."""
    return int(status) if isinstance(status, int) else None


def is_cancellation(error: BaseException) -> bool:
    """Whether `error` is asyncio's or trio's way to end a task from outside."""
    return isinstance(error, CancelledError) or type(error).__name__ == "Cancelled"
