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
from restaurant_otel.serving import queueing
from restaurant_otel.serving.exchange import CANCELLED, CLIENT_DISCONNECT, INCOMPLETE, Exchange, HttpExchange
from restaurant_otel.serving.observer import Observer, call_hook
from restaurant_otel.serving.series import Headers
from restaurant_otel.tracing.propagation import Found

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


class AsgiExchange(HttpExchange):
    """One request and its response."""

    __slots__ = ("_completed", "_disconnected", "_receive", "_response", "_send", "_touches")

    def __init__(
        self, observer: Observer, routes: AsgiRoutes, scope: Scope, receive: Receive, send: Send
    ) -> None:
        headers = scope.get("headers", ())
        if type(headers) is not list:
            # The protocol allows any iterable, also one that can be read but once: the app shall have it too.
            headers = scope["headers"] = list(headers or ())
        # One call, in half the time that a loop takes to pick those that are wanted.
        found: Found = dict(headers)
        if len(found) != len(headers):
            found = observer.pick(headers)  # several of a name
        if b"x-request-start" in found or b"x-queue-start" in found:
            queueing.record(
                (found.get(b"x-request-start") or found.get(b"x-queue-start", b"")).decode("latin-1")
            )
        length = found.get(b"content-length")
        # Without a length the body, if there is one, is counted as it is read.
        self._request_size = None if length is None else content_length(length)
        try:
            key = (scope["method"], scope["scheme"], scope["http_version"])
        except KeyError:
            key = (scope.get("method", "GET"), scope.get("scheme", "http"), scope.get("http_version", ""))
        self._line = line = observer.lines.known.get(key) or observer.lines.find(key)
        self._receive = receive
        self._send = send
        self._touches = observer.touches_sent
        self._response: Message | None = None
        self._first_byte = None
        self._response_size = 0
        self._completed: float | None = None
        self._disconnected = False
        self.finished = False
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
        receive = self._receive
        message = await receive()
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
            if kind == "http.response.body":
                self._response_size += len(message.get("body", b""))
                last = not message.get("more_body", False)
            elif kind == "http.response.start":
                self._first_byte = perf_counter() - self._started
                self._response = message
            else:
                last = self._rare(kind, message)
            if self._touches:
                message = self._touched(kind, message)
        except Exception as error:  # noqa: BLE001 - never into the app
            survived("response", error)
        send = self._send  # called as a method, a slot costs a look-up in the class each time
        try:
            await send(message)
        except OSError:
            # The protocol's way to say that the client has gone.
            self._disconnected = self._completed is None
            raise
        if last and self._completed is None:
            try:
                self._complete(kind)
            except Exception as error:  # noqa: BLE001 - never into the app
                survived("request", error)

    def _complete(self, kind: str) -> None:
        """The last part has been sent, unless trailers follow."""
        response = self._response
        if response is None:
            self._completed = perf_counter()
        elif "trailers" not in response or not response["trailers"] or kind == "http.response.trailers":
            self._completed = completed = perf_counter()
            route = self._route or self._routes.template(self._carrier)
            series = self._line.known.get((route, response["status"], None))
            if series is None:
                self._complete_otherwise(route, completed - self._started)
            elif not self.finished:
                self.finished = True
                self._record(series, completed - self._started)

    def _complete_otherwise(self, route: str | None, seconds: float) -> None:
        """The first of its kind, or a failure, which waits for the exception that may follow its response."""
        status = self._status()
        if status is not None and status < 500 and not self.finished:
            self.finished = True
            self._finish(seconds, route, status, None, None, None)

    def _status(self) -> int | None:
        return None if self._response is None else known_status(self._response.get("status"))

    def _rare(self, kind: str, message: Message) -> bool:
        """Look at a message of a protocol extension; whether it is the response's last."""
        if kind == "http.response.trailers":
            return not message.get("more_trailers", False)
        if kind == "http.response.pathsend":
            headers = self._headers_sent()
            length = next((value for name, value in headers if name.lower() == b"content-length"), None)
            self._response_size = content_length(length) or 0
            return True
        if kind == "http.response.zerocopysend":
            self._response_size += message.get("count") or 0
            return not message.get("more_body", False)
        return False

    def _headers_sent(self) -> Headers:
        return () if self._response is None else self._response.get("headers", ())

    def _touched(self, kind: str, message: Message) -> Message:
        """`message` as it is to be sent, after the hook has seen it."""
        observer = self._observer
        if observer.decorates and kind == "http.response.start":
            extra = observer.extra_headers(self._span, self._started, self.timings())
            encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in extra]
            message = {**message, "headers": [*self._headers_sent(), *encoded]}
        if observer.send_hook is not None and self.recording:
            call_hook(observer.send_hook, self._span, self._carrier, message)
        return message

    # --- the end -----------------------------------------------------------------------------------------

    def close(self, error: BaseException | None) -> None:
        """The response is complete, or the app has returned, or raised `error`; the first of these counts."""
        if self.finished:
            return
        self.finished = True
        try:
            status = self._status()
            outcome, problem = self._judge(status, error)
            if self._response is None and problem is not None:
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


def is_cancellation(error: BaseException) -> bool:
    """Whether `error` is asyncio's or trio's way to end a task from outside."""
    return isinstance(error, CancelledError) or type(error).__name__ == "Cancelled"
