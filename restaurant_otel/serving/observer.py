"""What all requests of one middleware share: settings, telemetry, bound cells, and how a request is recorded.

The exchanges (`asgi`, `websocket`, `wsgi`) ask an `Observer` for a span when a request begins and tell it
what came of it when it ends. No request leaves anything behind here but numbers.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter
from typing import Any, Final

from opentelemetry import baggage, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode

from restaurant_otel import catalog
from restaurant_otel.conventions import OTHER, printable
from restaurant_otel.errors import survived
from restaurant_otel.metrics import CounterCell, HistogramCell, registry
from restaurant_otel.settings import Settings
from restaurant_otel.telemetry import telemetry_for
from restaurant_otel.tracing.propagation import Found
from restaurant_otel.tracing.span import ServerSpan

CLIENT_DISCONNECT: Final = "client_disconnect"
CANCELLED: Final = "cancelled"
INCOMPLETE: Final = "incomplete"

_SERIES_REMEMBERED: Final = 20_000
_HEADERS_REMEMBERED: Final = 1_000
_BASE_HEADERS: Final = frozenset({b"host", b"user-agent", b"content-length"})

SeriesKey = tuple[str, str | None, int | None, str, str | None, str | None]
"""Method, route, status, scheme, HTTP version, error type: all from code, never from the client."""


class _Series:
    """One kind of request: its cells, bound once, and what its spans have in common at their end."""

    __slots__ = (
        "attributes",
        "duration",
        "failed",
        "name",
        "request_size",
        "response_size",
        "time_to_first_byte",
    )

    def __init__(self, key: SeriesKey) -> None:
        cells = registry()
        self.duration: HistogramCell = cells.histogram(catalog.HTTP_SERVER_REQUEST_DURATION).bind(*key)
        self.request_size = cells.histogram(catalog.HTTP_SERVER_REQUEST_BODY_SIZE).bind(*key)
        self.response_size = cells.histogram(catalog.HTTP_SERVER_RESPONSE_BODY_SIZE).bind(*key)
        first_byte = cells.histogram(catalog.HTTP_SERVER_TIME_TO_FIRST_BYTE)
        self.time_to_first_byte = first_byte.bind(key[0], key[1])
        method, route, status, _, _, problem = key
        known = {"http.response.status_code": status, "http.route": route, "error.type": problem}
        self.attributes = {name: value for name, value in known.items() if value is not None}
        verb = method if method != OTHER else "HTTP"
        self.name = verb if route is None else f"{verb} {route}"
        self.failed = problem is not None


class Observer:
    """Shared by the requests of one middleware. Any thread may call it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.opt_in = settings.opt_in_attributes
        self.request_hook = settings.server_request_hook
        self.receive_hook = settings.client_request_hook
        self.send_hook = settings.client_response_hook
        self.ready = False
        """False until the first request: by then the app has had its chance to set providers."""
        self.wanted_headers = _BASE_HEADERS
        self._wsgi_names: tuple[tuple[str, bytes], ...] = ()
        self.captures_request = bool(settings.http_capture_headers_server_request)
        self.captures_response = bool(settings.http_capture_headers_server_response)
        self._adds_at_end = self.captures_response or bool(
            settings.opt_in_attributes & {"http.request.body.size", "http.response.body.size"}
        )
        self.decorates = settings.trace_response_header or settings.server_timing
        self._elaborates = bool(
            settings.default_span_details
            or settings.baggage_attributes
            or settings.http_capture_headers_server_request
        )
        self._capture_request = _Capture("request", settings)
        self._capture_response = _Capture("response", settings)
        self.cells = registry()
        self._series: dict[SeriesKey, _Series] = {}
        self._active: dict[tuple[str, str], CounterCell] = {}
        self._getting_ready = threading.Lock()

    def get_ready(self) -> None:
        """Find or make the providers, and join the other workers. Called before the first request."""
        if not self.cells.attached:
            self.cells.attach()
        with self._getting_ready:
            if not self.ready:
                telemetry = telemetry_for(self.settings)
                self.telemetry = telemetry
                self.spans = telemetry.spans
                self.extractor = telemetry.extractor
                self.wanted_headers = _BASE_HEADERS | telemetry.extractor.wanted
                self._wsgi_names = tuple((_wsgi_key(name), name) for name in telemetry.extractor.wanted)
                self.ready = True

    # --- the beginning of a request --------------------------------------------------------------------

    def pick(self, headers: Iterable[tuple[bytes, bytes]]) -> Found:
        """Those request headers that are of use, in one pass: by lower-case name, values in order."""
        wanted, captures = self.wanted_headers, self.captures_request
        found: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            if name in wanted or (captures and self._capture_request.attribute(name) is not None):
                if name in found:
                    found[name].append(value)
                else:
                    found[name] = [value]
        return found

    def start_span(
        self, scope: Any, name: str, found: Found, base: Context, attributes: Callable[[], dict[str, Any]]
    ) -> tuple[Span, bool, Context]:
        """The request's span, whether it is the request's own, and the context to put it in.

        Inside another server span (of other instrumentation, say) that one serves, and is not ours to end.
        """
        if base:
            outer = trace.get_current_span(base)
            if outer.is_recording() and getattr(outer, "kind", None) is SpanKind.SERVER:
                return outer, False, base
        context, parent = self.extractor.extract(found, base)
        if self._elaborates:
            name, attributes = self._elaborate(scope, name, found, context, attributes)
        return self.spans.start(name, context, parent, attributes), True, context

    def _elaborate(
        self, scope: Any, name: str, found: Found, context: Context, attributes: Callable[[], dict[str, Any]]
    ) -> tuple[str, Callable[[], dict[str, Any]]]:
        more: dict[str, Any] = {}
        details = self.settings.default_span_details
        if details is not None:
            try:
                name, given = details(scope)
                more.update(given)
            except Exception as error:  # noqa: BLE001 - the app's own function
                survived("default_span_details", error)
        for key in self.settings.baggage_attributes:
            value = baggage.get_baggage(key, context)
            if value is not None:
                more[key] = printable(str(value))
        if self.captures_request:
            more.update(self._capture_request.attributes(found.items()))
        return name, lambda: {**more, **attributes()}

    def active(self, method: str, scheme: str) -> CounterCell:
        """The gauge of requests in flight."""
        cell = self._active.get((method, scheme))
        if cell is None:
            cell = registry().counter(catalog.HTTP_SERVER_ACTIVE_REQUESTS).bind(method, scheme)
            self._active[method, scheme] = cell
        return cell

    def pick_wsgi(self, environ: Mapping[str, Any]) -> Found:
        """The same from a WSGI environ, for what propagation and header capture need."""
        found: dict[bytes, list[bytes]] = {}
        if self.captures_request:
            for key, value in environ.items():
                if key.startswith("HTTP_"):
                    name = key[5:].replace("_", "-").lower().encode("latin-1", "replace")
                    if self._capture_request.attribute(name) is not None:
                        found[name] = [_as_bytes(value)]
        for key, name in self._wsgi_names:
            if key in environ:
                found[name] = [_as_bytes(environ[key])]
        return found

    # --- its end ---------------------------------------------------------------------------------------

    def finish(
        self,
        span: Span,
        own_span: bool,
        key: SeriesKey,
        seconds: float,
        first_byte: float | None,
        request_size: int | None,
        response_size: int,
        outcome: str | None,
        error: BaseException | None,
        response_headers: Iterable[tuple[Any, Any]],
    ) -> None:
        """Count one finished request and end its span, if that is the request's `own_span`.

        `seconds` in all, `first_byte` seconds until the response began, the sizes of the two bodies in bytes
        (None: the request had none), `outcome` what interrupted the response, `error` what the app raised.
        """
        series = self._series.get(key)
        if series is None:
            series = _Series(key)
            if len(self._series) < _SERIES_REMEMBERED:
                self._series[key] = series
        context = span.get_span_context()
        if context.trace_flags & 1:
            series.duration.record_with_exemplar(seconds, context.trace_id, context.span_id)
        else:
            series.duration.record(seconds)
        if first_byte is not None:
            series.time_to_first_byte.record(first_byte)
        if request_size is not None:
            series.request_size.record(request_size)
        series.response_size.record(response_size)
        if outcome is not None:
            registry().counter(catalog.HTTP_SERVER_INTERRUPTED).bind(key[0], key[1], outcome).add(1)
        if not own_span or not span.is_recording():
            return
        attributes: Mapping[str, Any] = series.attributes
        if outcome is not None or self._adds_at_end:
            attributes = {
                **attributes,
                **self._more_at_end(request_size or 0, response_size, outcome, response_headers),
            }
        name = (
            series.name if self.settings.default_span_details is None else getattr(span, "name", series.name)
        )
        if series.failed:
            end_failed(span, name, attributes, error)
        else:
            end(span, name, attributes)

    def _more_at_end(
        self,
        request_size: int,
        response_size: int,
        outcome: str | None,
        response_headers: Iterable[tuple[Any, Any]],
    ) -> dict[str, Any]:
        more: dict[str, Any] = {} if outcome is None else {"restaurant.outcome": outcome}
        bodies = {"http.request.body.size": request_size, "http.response.body.size": response_size}
        more.update({wanted: size for wanted, size in bodies.items() if wanted in self.opt_in})
        if self.captures_response:
            more.update(self._response_attributes(response_headers))
        return more

    def _response_attributes(self, headers: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
        found: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            found.setdefault(_as_bytes(name).lower(), []).append(_as_bytes(value))
        return self._capture_response.attributes(found.items())

    def extra_headers(
        self, span: Span, started: float, timings: Mapping[str, float] | None
    ) -> list[tuple[str, str]]:
        """The headers that the settings ask to add to a response that is about to begin."""
        extra = []
        context = span.get_span_context()
        if self.settings.trace_response_header and context.is_valid:
            flags = int(context.trace_flags) & 0xFF
            extra.append(("traceresponse", f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"))
        if self.settings.server_timing:
            phases = {"app": perf_counter() - started, **(timings or {})}
            extra.append(("server-timing", ", ".join(_phase(name, took) for name, took in phases.items())))
        return extra


def end(span: Span, name: str, attributes: Mapping[str, Any]) -> None:
    """Give a span its last name and attributes, and end it."""
    if isinstance(span, ServerSpan):
        span.finish(name, attributes)
    else:
        span.set_attributes(attributes)
        span.update_name(name)
        span.end()


def end_failed(span: Span, name: str, attributes: Mapping[str, Any], error: BaseException | None) -> None:
    """The same for a request that failed, with the exception that the app raised, if it did."""
    if error is not None:
        span.record_exception(error)
        span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {error}")
    else:
        span.set_status(StatusCode.ERROR)
    end(span, name, attributes)


def call_hook(hook: Callable[..., Any] | None, *arguments: Any) -> None:
    """Call one of the app's hooks; what it raises is logged once and counted, never passed on."""
    if hook is not None:
        try:
            hook(*arguments)
        except Exception as error:  # noqa: BLE001 - the app's own function
            survived("hook", error)


def _as_bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1", "replace")


def _wsgi_key(header: bytes) -> str:
    return "HTTP_" + header.decode("latin-1").upper().replace("-", "_")


def _phase(name: str, seconds: float) -> str:
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)};dur={seconds * 1000:.1f}"


class _Capture:
    """Which headers become attributes, under which name, and which are redacted."""

    def __init__(self, direction: str, settings: Settings) -> None:
        self._direction = direction
        self._wanted = (
            settings.http_capture_headers_server_request
            if direction == "request"
            else settings.http_capture_headers_server_response
        )
        self._redacted = settings.http_capture_headers_sanitize_fields
        self._names: dict[bytes, tuple[str, bool] | None] = {}

    def attribute(self, header: bytes) -> tuple[str, bool] | None:
        """The attribute's name and whether to redact it; None for a header that nobody asked for."""
        try:
            return self._names[header]
        except KeyError:
            known = self._decide(header.decode("latin-1").lower())
            if len(self._names) < _HEADERS_REMEMBERED:  # clients invent names: the memory is bounded
                self._names[header] = known
            return known

    def _decide(self, name: str) -> tuple[str, bool] | None:
        if not any(pattern.fullmatch(name) for pattern in self._wanted):
            return None
        redacted = any(pattern.fullmatch(name) for pattern in self._redacted)
        return f"http.{self._direction}.header.{name}", redacted

    def attributes(self, headers: Iterable[tuple[bytes, list[bytes]]]) -> dict[str, Any]:
        """The attributes for those of `headers` that are wanted."""
        attributes: dict[str, Any] = {}
        for header, values in headers:
            known = self.attribute(header)
            if known is not None:
                name, redacted = known
                attributes[name] = (
                    ("[REDACTED]",) if redacted else tuple(value.decode("latin-1") for value in values)
                )
        return attributes
