"""What all requests of one middleware share: settings, providers, and how a span begins.

The exchanges (`asgi`, `websocket`, `wsgi`) ask an `Observer` when a request begins. No request leaves
anything behind here but numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter
from typing import Any, Final

from opentelemetry import baggage, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind

from restaurant_otel.conventions import printable
from restaurant_otel.errors import survived
from restaurant_otel.metrics.registry import registry
from restaurant_otel.serving.headers import HeaderCapture
from restaurant_otel.serving.series import RequestLines
from restaurant_otel.settings import Settings
from restaurant_otel.telemetry import set_up_lock, telemetry_for
from restaurant_otel.tracing.propagation import Found

_BASE_HEADERS: Final = frozenset(
    {b"host", b"user-agent", b"content-length", b"x-request-start", b"x-queue-start"}
)


class Observer:
    """Shared by the requests of one middleware. Any thread may call it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.cells = registry()
        self.lines = RequestLines()
        self.opt_in = settings.opt_in_attributes
        redacted = settings.http_capture_headers_sanitize_fields
        self._request_headers = HeaderCapture(
            "request", settings.http_capture_headers_server_request, redacted
        )
        self._response_headers = HeaderCapture(
            "response", settings.http_capture_headers_server_response, redacted
        )
        # Flags that spare the usual request, which wants none of these, all but one look each.
        self.request_hook = settings.server_request_hook
        self.receive_hook = settings.client_request_hook
        self.send_hook = settings.client_response_hook
        self.wsgi_request_hook = settings.request_hook
        self.wsgi_response_hook = settings.response_hook
        self.decorates = settings.trace_response_header or settings.server_timing
        self.touches_response = self.decorates or self.wsgi_response_hook is not None
        self.touches_sent = self.decorates or self.send_hook is not None
        self.names_spans = settings.default_span_details is not None
        self.elaborates = self.names_spans or bool(settings.baggage_attributes) or bool(self._request_headers)
        sizes = {"http.request.body.size", "http.response.body.size"}
        self.adds_at_end = bool(self._response_headers) or bool(self.opt_in & sizes)
        self.plain_end = not self.names_spans and not self.adds_at_end
        self._ready = False

    def get_ready(self) -> None:
        """Find or make the providers, and join the other workers.

        Called before the first request: by then the app has had its chance to set providers.
        """
        if not self.cells.attached:
            self.cells.attach()
        with set_up_lock:
            if not self._ready:
                self.telemetry = telemetry_for(self.settings)
                self.spans = self.telemetry.spans
                self.extractor = self.telemetry.extractor
                self.start = self.spans.start
                self.records_nothing = self.extractor.standard and self.spans.records_nothing
                self.plain_caller = self.extractor.plain
                self._wanted = _BASE_HEADERS | self.extractor.wanted
                self._wanted_keys = tuple((_environ_key(name), name) for name in self.extractor.wanted)
                self._ready = True

    # --- the beginning of a request --------------------------------------------------------------------

    def pick(self, headers: Iterable[tuple[bytes, bytes]]) -> Found:
        """Those ASGI request headers that are of use, maybe others; several of a name are joined by commas."""
        # One call makes a dict of them all in half the time that a loop takes to pick those wanted.
        if type(headers) is list:
            found = dict(headers)
            if len(found) == len(headers):
                return found
        wanted = self._wanted
        found = {}
        for name, value in headers:
            if name in wanted:
                found[name] = value if name not in found else found[name] + b"," + value
        return found

    def pick_wsgi(self, environ: Mapping[str, Any]) -> Found:
        """Those WSGI request headers that carry the caller's context."""
        found: dict[bytes, bytes] = {}
        for key, name in self._wanted_keys:
            if key in environ:
                found[name] = environ[key].encode("latin-1", "replace")
        return found

    def identify(self, found: Found) -> SpanContext:
        """The identity of a request that is not recorded, from its headers."""
        return self.spans.unsampled(self.extractor.extract(found, Context())[1])

    def start_span(
        self, carrier: Any, name: str, found: Found, base: Context, attributes: Callable[[], dict[str, Any]]
    ) -> tuple[Span, bool, Context]:
        """The span of a request, whether it is the request's own, and the context to put it in.

        Inside another server span (of other instrumentation, say) that one serves, and is not ours to end.
        `carrier` is the ASGI scope or the WSGI environ.
        """
        if base:
            outer = trace.get_current_span(base)
            if outer.is_recording() and getattr(outer, "kind", None) is SpanKind.SERVER:
                return outer, False, base
        context, parent = self.extractor.extract(found, base)
        if self.elaborates:
            name, attributes = self._elaborate(carrier, name, context, attributes)
        return self.spans.start(name, context, parent, attributes), True, context

    def _elaborate(
        self, carrier: Any, name: str, context: Context, attributes: Callable[[], dict[str, Any]]
    ) -> tuple[str, Callable[[], dict[str, Any]]]:
        more: dict[str, Any] = {}
        details = self.settings.default_span_details
        if details is not None:
            try:
                name, given = details(carrier)
                more.update(given)
            except Exception as error:  # noqa: BLE001 - the app's own function
                survived("default_span_details", error)
        for key in self.settings.baggage_attributes:
            value = baggage.get_baggage(key, context)
            if value is not None:
                more[key] = printable(str(value))
        if self._request_headers:
            more.update(self._request_headers.attributes(_headers_of(carrier)))
        return name, lambda: {**more, **attributes()}

    # --- its end ---------------------------------------------------------------------------------------

    def more_at_end(self, sizes: Mapping[str, int], headers: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
        """The attributes that the settings ask for beyond the usual, once the response is over."""
        more: dict[str, Any] = {wanted: size for wanted, size in sizes.items() if wanted in self.opt_in}
        if self._response_headers:
            more.update(self._response_headers.attributes(headers))
        return more

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


def call_hook(hook: Callable[..., Any], *arguments: Any) -> None:
    """Call one of the app's hooks; what it raises is logged once and counted, never passed on."""
    try:
        hook(*arguments)
    except Exception as error:  # noqa: BLE001 - the app's own function
        survived("hook", error)


def _headers_of(carrier: Any) -> Iterable[tuple[Any, Any]]:
    if "asgi" in carrier or "headers" in carrier:
        return carrier.get("headers", ())  # type: ignore[no-any-return]
    return [(key[5:].replace("_", "-"), value) for key, value in carrier.items() if key.startswith("HTTP_")]


def _environ_key(header: bytes) -> str:
    return "HTTP_" + header.decode("latin-1").upper().replace("-", "_")


def _phase(name: str, seconds: float) -> str:
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)};dur={seconds * 1000:.1f}"
