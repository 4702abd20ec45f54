"""The caller's trace and baggage, out of request headers.

By default that is W3C Trace Context and Baggage; whatever ``OTEL_PROPAGATORS`` or the app has set is
honoured. The one case that nearly every request is, a plain version-00 ``traceparent``, is read here in
about a microsecond; everything else goes through the propagator itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from opentelemetry import propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import SpanContext, TraceFlags, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Found = Mapping[bytes, list[bytes]]
"""Header values by lower-case name, in order of appearance."""

_PLAIN: Final = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


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
        if self._standard and len(found.get(b"traceparent", ())) == 1:
            match = _PLAIN.fullmatch(found[b"traceparent"][0])
            if match is not None and b"tracestate" not in found and b"baggage" not in found:
                return context, _span_context(match)
        if not any(name in found for name in self.wanted):
            return context, None
        carrier = {
            name.decode("latin-1"): [value.decode("latin-1") for value in values]
            for name, values in found.items()
            if name in self.wanted
        }
        # An empty context: a span that somebody left in the current one must never become the parent.
        extracted = self._propagator.extract(carrier, Context())
        parent = get_current_span(extracted).get_span_context()
        return Context({**context, **extracted}), parent if parent.is_valid else None


def _span_context(match: re.Match[bytes]) -> SpanContext | None:
    trace_id, span_id = int(match[1], 16), int(match[2], 16)
    if not trace_id or not span_id:
        return None
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(int(match[3], 16)))


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
