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
        header = found.get(b"traceparent")
        if (
            header is not None
            and self._standard
            and len(header) == 55
            # Without hexadecimal digits there must be three dashes left, each in its place: three times as
            # fast as a regular expression.
            and header.translate(None, b"0123456789abcdef") == b"---"
            and header[:3] == b"00-"
            and header[35] == header[52] == _DASH
            and b"tracestate" not in found
            and b"baggage" not in found
        ):
            trace_id, span_id = int(header[3:35], 16), int(header[36:52], 16)
            if trace_id and span_id:
                flags = FLAGS[int(header[53:], 16)]
                return context, new_span_context((trace_id, span_id, True, flags, NO_STATE, True))
            return context, None
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
