"""One request over WSGI, from its environ to the close of its body.

A WSGI server iterates the body after the app has returned and closes it at the end, so the exchange lives
on in the body's wrapper. The wrapper keeps what servers look at: ``len()``, ``close()``, and a body made by
the server's own file wrapper stays exactly that, so that it can still be sent by the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from time import perf_counter
from typing import Any, Final, TypeAlias

from opentelemetry.context import Context

from restaurant_otel.conventions import (
    PLAIN_STATUS,
    content_length,
    error_type,
    usual_wsgi_attributes,
    wsgi_attributes,
    wsgi_status,
)
from restaurant_otel.current import enter, leave
from restaurant_otel.errors import survived
from restaurant_otel.routes import WsgiRoutes
from restaurant_otel.serving import queueing
from restaurant_otel.serving.exchange import CLIENT_DISCONNECT, INCOMPLETE, Exchange, HttpExchange
from restaurant_otel.serving.observer import Observer, call_hook

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., Callable[[bytes], object]]

_END: Final = object()
_BODILESS: Final = (204, 304)


class WsgiExchange(HttpExchange):
    """One request and its response."""

    __slots__ = ("_response_headers", "_start_response", "_status", "_write")

    def __init__(
        self, observer: Observer, routes: WsgiRoutes, environ: Environ, start_response: StartResponse
    ) -> None:
        get = environ.get
        key = (get("REQUEST_METHOD", "GET"), get("wsgi.url_scheme", "http"), get("SERVER_PROTOCOL", ""))
        line = observer.lines.known.get(key) or observer.lines.find(key)
        if "HTTP_X_REQUEST_START" in environ or "HTTP_X_QUEUE_START" in environ:
            queueing.record(get("HTTP_X_REQUEST_START") or get("HTTP_X_QUEUE_START", ""))
        length = get("CONTENT_LENGTH")
        self._request_size = None if not length else content_length(length)
        self._line = line
        self._start_response = start_response
        self._status: str | None = None
        self._first_byte = None
        self._response_headers: list[tuple[str, str]] = []
        self._response_size = 0
        self.finished = False
        Exchange.__init__(self, observer, routes, environ, line.name, observer.pick_wsgi(environ))
        line.active.add(1)
        if observer.wsgi_request_hook is not None and self.recording:
            call_hook(observer.wsgi_request_hook, self._span, environ)

    def _attributes(self) -> dict[str, Any]:
        observer, form = self._observer, self._line.form
        if form is not None and not observer.opt_in:
            usual = usual_wsgi_attributes(form, self._carrier)
            if usual is not None:
                return usual
        return wsgi_attributes(self._carrier, observer.opt_in)

    # --- between the app and the server -----------------------------------------------------------------

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], Any]:
        """The app's status and headers, passed on; a second call with `exc_info` replaces the first."""
        try:
            self._status = status
            self._response_headers = headers
            if self._first_byte is None:
                self._first_byte = perf_counter() - self._started
                # Flask tells it no longer when it has returned.
                self._route = self._routes.template(self._carrier)
            if self._observer.touches_response:
                headers = self._touched(status, headers)
        except Exception as error:  # noqa: BLE001 - never into the app
            survived("response", error)
        start_response = (
            self._start_response
        )  # called as a method, a slot costs a look-up in the class each time
        if exc_info is None:
            self._write = start_response(status, headers)
        else:
            self._write = start_response(status, headers, exc_info)
        return self._count_and_write

    def _touched(self, status: str, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """`headers` as they are to be sent; the hook has seen them."""
        observer = self._observer
        if observer.decorates:
            headers = [*headers, *observer.extra_headers(self._span, self._started, self.timings())]
        if observer.wsgi_response_hook is not None and self.recording:
            call_hook(observer.wsgi_response_hook, self._span, self._carrier, status, headers)
        return headers

    def _count_and_write(self, data: bytes) -> object:
        # The protocol's old way to send a body, which a few apps still use.
        self._response_size += len(data)
        return self._write(data)

    def wrap(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """`body` so that its end is noticed."""
        if type(body) is list or type(body) is tuple:
            return ReadyBody(self, body)
        if _is_file(body, self._carrier) and self._follow_file(body):
            return body
        return (SizedBody if hasattr(body, "__len__") else Body)(self, body, self.context())

    def _follow_file(self, body: Any) -> bool:
        """Notice the close of a file that the server sends its own way; False where it cannot be noticed."""
        close = getattr(body, "close", None)

        def closed() -> None:
            self._response_size = self._content_length() or 0
            self.close(None, complete=True)
            if close is not None:
                close()

        with suppress(AttributeError):
            body.close = closed
            return True
        return False

    def _content_length(self) -> int | None:
        headers = self._response_headers
        return content_length(
            next((value for name, value in headers if name.lower() == "content-length"), None)
        )

    def _all_sent(self, status: int | None) -> bool:
        """Whether a body that was not iterated to its end was complete all the same."""
        if self._line.method == "HEAD" or status in _BODILESS:
            return True
        length = self._content_length()
        return length is not None and self._response_size >= length

    def count(self, chunk: bytes) -> None:
        """A part of the body has been produced."""
        self._response_size += len(chunk)

    def _headers_sent(self) -> list[tuple[str, str]]:
        return self._response_headers

    # --- the end -----------------------------------------------------------------------------------------

    def close(self, error: BaseException | None, *, complete: bool) -> None:
        """The body was closed (`complete`: after its last part), or the app raised `error`; the first counts."""
        if self.finished:
            return
        self.finished = True
        try:
            if complete and error is None:
                # The usual end: a response of a kind that there has been before, and no failure.
                series = self._line.known.get((self._route, PLAIN_STATUS.get(self._status, 0), None))
                if series is not None:
                    self._record(series, perf_counter() - self._started)
                    return
            status = wsgi_status(self._status)
            outcome = problem = None
            if error is not None:
                problem = error_type(error)
            elif self._status is None:
                outcome = problem = INCOMPLETE
            elif status is not None and status >= 500:
                problem = str(status)
            elif not (complete or self._all_sent(status)):
                outcome = CLIENT_DISCONNECT  # a server closes a body early when nobody is left to read it
            if self._status is None:
                status = 500  # what every server answers for an app that did not
            # Asked already where the response began; without one, this is the last occasion.
            route = self._route if self._first_byte is not None else self.route
            self._finish(perf_counter() - self._started, route, status, problem, outcome, error)
        except Exception as own:  # noqa: BLE001 - never into the app
            survived("request", own)


class ReadyBody:
    """A list or tuple of parts, as most responses are: there is nothing to watch but its close."""

    __slots__ = ("_exchange", "_parts")

    def __init__(self, exchange: WsgiExchange, parts: list[bytes] | tuple[bytes, ...]) -> None:
        self._exchange = exchange
        self._parts = parts
        for part in parts:
            exchange.count(part)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def close(self) -> None:
        """End the exchange."""
        self._exchange.close(None, complete=True)

    __del__ = close  # see `Body`


class Body:
    """A response body on its way to the server. Iterated by one thread at a time."""

    __slots__ = ("_body", "_context", "_exchange", "_whole")

    def __init__(self, exchange: WsgiExchange, body: Iterable[bytes], context: Context) -> None:
        self._exchange = exchange
        self._context = context
        self._body = body
        self._whole = False

    def __iter__(self) -> Iterator[bytes]:
        # A generator, not this object: it ends without the exception that `__next__` would have to raise.
        # Attached for each part only: a body that is never iterated to its end would leave its context to the
        # thread's next request.
        exchange, context = self._exchange, self._context
        iterator: Iterator[bytes] | None = None
        while True:
            token = enter(context)
            try:
                if iterator is None:
                    iterator = iter(self._body)
                chunk: Any = next(iterator, _END)
            except BaseException as error:
                exchange.close(error, complete=False)
                raise
            finally:
                leave(token)
            if chunk is _END:
                self._whole = True
                return
            exchange.count(chunk)
            yield chunk

    def close(self) -> None:
        """End the exchange, after closing the app's own body."""
        close = getattr(self._body, "close", None)
        try:
            if close is not None:
                close()
        finally:
            self._exchange.close(None, complete=self._whole)

    def __del__(self) -> None:
        # A server that never closes breaks the protocol; the gauge of active requests shall not pay for it.
        self._exchange.close(None, complete=self._whole)


class SizedBody(Body):
    """A body whose number of parts is known: with one part, servers set Content-Length by themselves."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]


def _is_file(body: object, environ: Environ) -> bool:
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(body, wrapper)
