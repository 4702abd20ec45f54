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

from opentelemetry.context import attach, detach, get_current

from restaurant_otel.conventions import (
    KNOWN_METHODS,
    OTHER,
    content_length,
    error_type,
    known_scheme,
    wsgi_attributes,
    wsgi_status,
    wsgi_version,
)
from restaurant_otel.current import serving
from restaurant_otel.errors import survived
from restaurant_otel.routes import WsgiRoutes
from restaurant_otel.serving.observer import CLIENT_DISCONNECT, INCOMPLETE, Observer, call_hook

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., Callable[[bytes], object]]

_BODILESS: Final = (204, 304)


class WsgiExchange:
    """One request and its response. Used by the thread that serves it, and read by SQL and `measure`."""

    __slots__ = (
        "_active",
        "_context",
        "_environ",
        "_finished",
        "_first_byte",
        "_found",
        "_method",
        "_observer",
        "_own_span",
        "_response_headers",
        "_response_size",
        "_route",
        "_routes",
        "_span",
        "_start_response",
        "_started",
        "_status",
        "_timings",
        "_write",
    )

    def __init__(
        self, observer: Observer, routes: WsgiRoutes, environ: Environ, start_response: StartResponse
    ) -> None:
        self._started = perf_counter()
        self._observer = observer
        self._routes = routes
        self._route: str | None = None
        self._environ = environ
        self._start_response = start_response
        self._status: str | None = None
        self._first_byte: float | None = None
        self._response_headers: Any = ()
        self._response_size = 0
        self._timings: dict[str, float] | None = None
        self._finished = False
        self._method = method = KNOWN_METHODS.get(environ.get("REQUEST_METHOD", "GET"), OTHER)
        self._found = found = observer.pick_wsgi(environ)
        name = method if method is not OTHER else "HTTP"
        self._span, self._own_span, self._context = observer.start_span(
            environ, name, found, get_current(), self._attributes
        )
        if observer.settings.request_hook is not None and self._span.is_recording():
            call_hook(observer.settings.request_hook, self._span, environ)
        self._active = observer.active(method, known_scheme(environ.get("wsgi.url_scheme", "http")))
        self._active.add(1)

    def _attributes(self) -> dict[str, Any]:
        return wsgi_attributes(self._environ, self._observer.opt_in)

    # --- what others may ask while it runs --------------------------------------------------------------

    def attach(self) -> Any:
        """Make this the request being served in the current context; the caller detaches by what is returned.

        The context is made anew each time: one kept here would make each request a cycle for the collector.
        """
        return attach(serving(self, self._span, self._context))

    @property
    def route(self) -> str | None:
        """The route template, as soon as the framework has found it."""
        if self._route is None:
            self._route = self._routes.template(self._environ)
        return self._route

    def add_timing(self, phase: str, seconds: float) -> None:
        """Add to a phase of the ``Server-Timing`` header, if that header is wanted."""
        if self._observer.settings.server_timing:
            if self._timings is None:
                self._timings = {}
            self._timings[phase] = self._timings.get(phase, 0.0) + seconds

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
                self._route = self._routes.template(self._environ)  # while Flask still tells
            observer = self._observer
            if observer.decorates:
                headers = [*headers, *observer.extra_headers(self._span, self._started, self._timings)]
            if observer.settings.response_hook is not None and self._span.is_recording():
                call_hook(observer.settings.response_hook, self._span, self._environ, status, headers)
        except Exception as error:  # noqa: BLE001 - never into the app
            survived("response", error)
        if exc_info is None:
            self._write = self._start_response(status, headers)
        else:
            self._write = self._start_response(status, headers, exc_info)
        return self._count_and_write

    def _count_and_write(self, data: bytes) -> object:
        # The protocol's old way to send a body, which a few apps still use.
        self._response_size += len(data)
        return self._write(data)

    def wrap(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """`body` so that its end is noticed."""
        if _is_file(body, self._environ) and self._follow_file(body):
            return body
        return SizedBody(self, body) if hasattr(body, "__len__") else Body(self, body)

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
        if self._method == "HEAD" or status in _BODILESS:
            return True
        length = self._content_length()
        return length is not None and self._response_size >= length

    def count(self, chunk: bytes) -> None:
        """A part of the body has been produced."""
        self._response_size += len(chunk)

    # --- the end -----------------------------------------------------------------------------------------

    def close(self, error: BaseException | None, *, complete: bool) -> None:
        """The body was closed (`complete`: after its last part), or the app raised `error`."""
        try:
            self._finish(error, complete=complete)
        except Exception as own:  # noqa: BLE001 - never into the app
            survived("request", own)

    def _finish(self, error: BaseException | None, *, complete: bool) -> None:
        if self._finished:
            return
        self._finished = True
        self._active.add(-1)
        seconds = perf_counter() - self._started
        status = wsgi_status(self._status) if self._status is not None else None
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
        scheme = known_scheme(self._environ.get("wsgi.url_scheme", "http"))
        self._observer.finish(
            self._span,
            self._own_span,
            (self._method, self.route, status, scheme, wsgi_version(self._environ), problem),
            seconds,
            self._first_byte,
            content_length(self._environ.get("CONTENT_LENGTH")),
            self._response_size,
            outcome,
            error,
            self._response_headers,
        )


class Body:
    """A response body on its way to the server. Iterated by one thread at a time."""

    __slots__ = ("_body", "_exchange", "_iterator", "_whole")

    def __init__(self, exchange: WsgiExchange, body: Iterable[bytes]) -> None:
        self._exchange = exchange
        self._body = body
        self._iterator: Iterator[bytes] | None = None
        self._whole = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        # Attached for this part only: a body that is never iterated to its end would leave its context to
        # the thread's next request.
        token = self._exchange.attach()
        try:
            if self._iterator is None:
                self._iterator = iter(self._body)
            chunk = next(self._iterator)
        except StopIteration:
            self._whole = True
            raise
        except BaseException as error:
            self._exchange.close(error, complete=False)
            raise
        finally:
            detach(token)
        self._exchange.count(chunk)
        return chunk

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
