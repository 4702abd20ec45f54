"""One request while it is served: what ASGI and WSGI have in common.

An exchange is made when a request arrives and is finished once, when its outcome is known. It is the
request's own, so nothing of one request can leak into another; SQL and `measure` find it in the context.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import Span, StatusCode

from restaurant_otel import catalog
from restaurant_otel.current import REQUEST_KEY, SPAN_KEY, present
from restaurant_otel.metrics.cells import take_off_and_record
from restaurant_otel.metrics.registry import registry
from restaurant_otel.routes import AsgiRoutes, WsgiRoutes
from restaurant_otel.serving.observer import Observer
from restaurant_otel.serving.series import Headers, RequestLine, Series
from restaurant_otel.tracing.identity import Caller
from restaurant_otel.tracing.propagation import Found
from restaurant_otel.tracing.span import ServerSpan
from restaurant_otel.tracing.spans import UnsampledSpan

CLIENT_DISCONNECT: Final = "client_disconnect"
CANCELLED: Final = "cancelled"
INCOMPLETE: Final = "incomplete"


class Exchange:
    """A span, a route and timings: what every kind of exchange has. Used by the task or thread that serves it.

    `recording` says whether the span is to be exported. The constructor is one long function on purpose: a
    request pays for each call on its way.
    """

    __slots__ = (
        "_carrier",
        "_context",
        "_found",
        "_observer",
        "_own_span",
        "_route",
        "_routes",
        "_span",
        "_started",
        "_timings",
        "queries",
        "recording",
    )

    _timings: dict[str, float]
    queries: dict[Any, Any]
    """How often it has asked which statement; set with the first query, by `sql`."""

    def __init__(
        self, observer: Observer, routes: AsgiRoutes | WsgiRoutes, carrier: Any, name: str, found: Found
    ) -> None:
        self._started = perf_counter()
        self._observer = observer
        self._routes: Any = routes
        self._carrier = carrier
        self._found = found
        self._route: str | None = None
        self._own_span = True
        context = present()
        if context or observer.elaborates:
            self._span, self._own_span, self._context = observer.start_span(
                carrier, name, found, context, self._attributes
            )
        elif observer.records_nothing and b"baggage" not in found:
            self._context = context
            self._span = UnsampledSpan(observer.identify, found)
        else:
            caller: Caller = observer.plain_caller(found)
            if caller is None:
                context, caller = observer.extractor.extract(found, context)
            self._context = context
            self._span = observer.start(name, context, caller, self._attributes)
        kind = type(self._span)
        self.recording = kind is not UnsampledSpan and (kind is ServerSpan or self._span.is_recording())

    def _attributes(self) -> dict[str, Any]:
        """The span's attributes at its beginning."""
        raise NotImplementedError

    def context(self) -> Context:
        """The context in which this is the request being served, to be attached by whoever runs the app.

        It is made anew each time: one kept here would make each request a cycle for the collector.
        """
        # Written out instead of two calls of set_value: 0.2 us, where those take 0.9.
        return Context({**self._context, SPAN_KEY: self._span, REQUEST_KEY: self})

    @property
    def route(self) -> str | None:
        """The route template, as soon as the app's router has found it."""
        if self._route is None:
            self._route = self._routes.template(self._carrier)
        return self._route

    @property
    def span(self) -> Span:
        """The request's own span."""
        return self._span

    def add_timing(self, phase: str, seconds: float) -> None:
        """Add to a phase of the ``Server-Timing`` header, if that header is wanted."""
        if self._observer.settings.server_timing:
            timings = self._timings = self.timings()
            timings[phase] = timings.get(phase, 0.0) + seconds

    def timings(self) -> dict[str, float]:
        """What `add_timing` has added up so far, in seconds."""
        return getattr(self, "_timings", {})  # few requests need the attribute, so that it is not set before


class HttpExchange(Exchange):
    """A request with a response: counted when it is finished."""

    # Set by the constructors of ASGI and WSGI themselves, which spare a request one call that way.
    __slots__ = (
        "_first_byte",
        "_line",
        "_request_size",
        "_response_size",
        "finished",
    )

    finished: bool
    _first_byte: float | None
    _line: RequestLine
    _request_size: int | None
    """The request body's in bytes, None where it has none or does not say."""
    _response_size: int

    def _headers_sent(self) -> Headers:
        """The response's headers, as the app gave them."""
        raise NotImplementedError

    def _finish(
        self,
        seconds: float,
        route: str | None,
        status: int | None,
        problem: str | None,
        outcome: str | None,
        error: BaseException | None,
    ) -> None:
        """Count the request, which took `seconds`, and end its span.

        `problem` is the ``error.type`` if it failed, `outcome` what interrupted the response if it did not
        reach its end, `error` what the app raised.
        """
        line = self._line
        key = (route, status, problem)
        series = line.known.get(key) or line.series(key, self._headers_sent())
        self._record(series, seconds, outcome, error)
        if outcome is not None:
            interrupted = registry().counter(catalog.HTTP_SERVER_INTERRUPTED)
            interrupted.bind(line.method, route, outcome).add(1)

    def _record(
        self, series: Series, seconds: float, outcome: str | None = None, error: BaseException | None = None
    ) -> None:
        """Count the request in its series, and end its span."""
        waited = self._first_byte
        recording = self.recording
        if (
            waited is None
            or not series.plain
            or (recording and (self._started + seconds >= series.exemplar_due or seconds > series.slowest))
        ):
            self._count(series, seconds)
        else:
            take_off_and_record(
                self._line.active,
                series.duration,
                seconds,
                series.time_to_first_byte,
                waited,
                series.response_size,
                self._response_size,
            )
        if self._request_size is not None:
            series.request_size.record(self._request_size)
        if recording and self._own_span:
            span = self._span
            if (
                type(span) is ServerSpan
                and outcome is None
                and self._observer.plain_end
                and not series.failed
            ):
                span.finish(series.name, series.attributes)
            else:
                self._end_span(series, outcome, error)

    def _count(self, series: Series, seconds: float) -> None:
        """The same cell by cell, with an exemplar if the span is sampled and one is due."""
        self._line.active.add(-1)
        context = self._span.get_span_context() if self.recording else None
        if context is not None and context.trace_flags & 1:
            series.record_duration(seconds, self._started + seconds, context)
        else:
            series.duration.record(seconds)
        if self._first_byte is not None:
            series.time_to_first_byte.record(self._first_byte)
        series.response_size.record(self._response_size)

    def _end_span(self, series: Series, outcome: str | None, error: BaseException | None) -> None:
        attributes: Mapping[str, Any] = series.attributes
        if outcome is not None or self._observer.adds_at_end:
            attributes = {**attributes, **self._more_attributes(outcome)}
        span = self._span
        name = series.name if not self._observer.names_spans else getattr(span, "name", series.name)
        if series.failed:
            fail_span(span, error)
        end_span(span, name, attributes)

    def _more_attributes(self, outcome: str | None) -> dict[str, Any]:
        sizes = {
            "http.request.body.size": self._request_size or 0,
            "http.response.body.size": self._response_size,
        }
        more = self._observer.more_at_end(sizes, self._headers_sent())
        if outcome is not None:
            more["restaurant.outcome"] = outcome
        return more


def end_span(span: Span, name: str, attributes: Mapping[str, Any]) -> None:
    """Give a span its last name and attributes, and end it."""
    if type(span) is ServerSpan:
        span.finish(name, attributes)
    elif span.is_recording():  # the app has not ended it
        span.set_attributes(attributes)
        span.update_name(name)
        span.end()


def fail_span(span: Span, error: BaseException | None) -> None:
    """Mark a span as failed, with the exception that the app raised, if it did."""
    if error is not None:
        span.record_exception(error)
        span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {error}")
    else:
        span.set_status(StatusCode.ERROR)
