"""The caller's trace and baggage, out of request headers.

By default that is W3C Trace Context and Baggage; whatever ``OTEL_PROPAGATORS`` or the app has set is
honoured. The one case that nearly every request is, a plain version-00 ``traceparent``, is read here in
about a microsecond; everything else goes through the propagator itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from opentelemetry import propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import SpanContext, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from restaurant_otel.tracing.identity import FLAGS, NO_STATE, new_span_context

Found = Mapping[bytes, bytes]
"""Header values by lower-case name; several of one name are joined by commas, as RFC 9110 allows."""

_DASH: Final = ord("-")


class Extractor:
    """Reads one propagator's headers. `wanted` names them, in lower case."""

    def __init__(self, propagator: TextMapPropagator | None = None) -> None:
        self._propagator = propagate.get_global_textmap() if propagator is None else propagator
        self.wanted = frozenset(name.lower().encode("latin-1", "replace") for name in self._propagator.fields)
        self._standard = _is_standard(self._propagator)

    def extract(self, found: Found, context: Context) -> tuple[Context, SpanContext | None]:
        """`context` with what the headers carry, and the caller's span (None: this is the root of a trace).

        The caller's span is not put into the context: the server span takes that place.
        """
        if self._standard:
            header = found.get(b"traceparent")
            if header is not None and b"tracestate" not in found and b"baggage" not in found:
                parent = _plain(header)
                if parent is not None:
                    return context, parent
        if not any(name in found for name in self.wanted):
            return context, None
        carrier = {
            name.decode("latin-1"): [value.decode("latin-1")]
            for name, value in found.items()
            if name in self.wanted
        }
        # An empty context: a span that somebody left in the current one must never become the parent.
        extracted = self._propagator.extract(carrier, Context())
        parent = get_current_span(extracted).get_span_context()
        return Context({**context, **extracted}), parent if parent.is_valid else None


def _plain(header: bytes) -> SpanContext | None:
    """The span that a plain version-00 ``traceparent`` names; None for anything else.

    What is left of the header without hexadecimal digits must be its three dashes, each in its place: three
    times as fast as a regular expression.
    """
    if len(header) != 55 or header.translate(None, b"0123456789abcdef") != b"---":
        return None
    if header[:3] != b"00-" or header[35] != _DASH or header[52] != _DASH:
        return None
    trace_id, span_id = int(header[3:35], 16), int(header[36:52], 16)
    if not trace_id or not span_id:
        return None
    return new_span_context(trace_id, span_id, True, FLAGS[int(header[53:], 16)], NO_STATE)


def _is_standard(propagator: TextMapPropagator) -> bool:
    """Whether the short cut gives what `propagator` would: Trace Context alone, or with Baggage."""
    # A private name of the API's; without it every request takes the long way, which is only slower.
    parts = (
        getattr(propagator, "_propagators", None) if type(propagator) is CompositePropagator else [propagator]
    )
    kinds = {type(part) for part in parts or ()}
    return TraceContextTextMapPropagator in kinds and kinds <= {
        TraceContextTextMapPropagator,
        W3CBaggagePropagator,
    }
