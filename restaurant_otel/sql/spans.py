"""How a query's span begins: lean where that gives the same result, by the tracer everywhere else.

The same idea as `tracing/spans.py`, whose guards decide, for CLIENT spans that nobody but us holds. One that is not
sampled is not made at all: nothing can be its child.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.sampling import ParentBased
from opentelemetry.trace import Span, SpanContext, SpanKind, Tracer

from restaurant_otel.current import SPAN_KEY
from restaurant_otel.tracing import spans as server
from restaurant_otel.tracing.identity import FLAGS, NO_STATE, new_span_context
from restaurant_otel.tracing.span import ServerSpan

_RATIO_MASK: Final = server._RATIO_MASK


class QuerySpan(ServerSpan):
    """A recording, sampled CLIENT span."""

    _kind = SpanKind.CLIENT


class Spans:
    """Spans by the tracer itself."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer

    def start(self, name: str, attributes: dict[str, Any], context: Context) -> Span | None:
        """A begun span, or None where nothing would be recorded; the caller ends it and leaves `attributes` alone."""
        return self.tracer.start_span(name, context, SpanKind.CLIENT, attributes=attributes)


class LeanSpans(server.LeanSpans):
    """Spans of our own type; see `tracing/spans.py` for when."""

    def __init__(self, tracer: SdkTracer, bounds: server.Bounds, public: Spans) -> None:
        provider: Any = SimpleNamespace(
            _active_span_processor=tracer.span_processor,
            id_generator=tracer.id_generator,
            _span_limits=tracer._span_limits,
        )
        super().__init__(provider, bounds, tracer, server.PublicSpans(tracer))
        self.tracer = tracer
        self._public = public

    def start(self, name: str, attributes: dict[str, Any], context: Context) -> Span | None:  # type: ignore[override]
        """As `Spans.start`."""
        if self._multi._span_processors is not self._processors:
            self._look_again()
        if not self._lean:
            return self._public.start(name, attributes, context)
        current: Any = context.get(SPAN_KEY)
        if type(current) is server.UnsampledSpan and not self._unsampled_bound:
            return None  # without asking it for an identity that it has not needed so far
        parent: SpanContext | None = current.get_span_context() if current is not None else None
        if parent is None or not parent.is_valid:
            bound = self._root_bound
            if not bound:
                return None
            parent, trace_id, ours, state = None, self._trace_id(), self._root_random, NO_STATE
        elif parent.is_remote:
            return self._public.start(name, attributes, context)
        else:
            trace_id, ours, state = parent.trace_id, parent.trace_flags & 2, parent.trace_state
            bound = self._sampled_bound if parent.trace_flags & 1 else self._unsampled_bound
        if trace_id & _RATIO_MASK >= bound:
            return None
        identity = new_span_context((trace_id, self._span_id() or 1, False, FLAGS[ours | 1], state, True))
        return QuerySpan(self._pipeline, name, identity, parent, attributes.copy())


def spans_of(tracer: Tracer) -> Spans | LeanSpans:
    """The cheapest way to begin query spans that gives what `tracer` would."""
    public = Spans(tracer)
    try:
        if type(tracer) is SdkTracer:
            bounds, enabled = _bounds(tracer.sampler), getattr(tracer, "_is_enabled", None)
            if bounds is not None and (enabled is None or enabled()):
                return LeanSpans(tracer, bounds, public)
    except AttributeError:
        pass  # an SDK that keeps these things elsewhere: the public way serves it
    return public


def _bounds(sampler: Any) -> server.Bounds | None:
    """A standard sampler as bounds for roots, under a sampled and under an unsampled local parent."""
    if isinstance(sampler, ParentBased) and type(sampler).should_sample is ParentBased.should_sample:
        names = ("_root", "_local_parent_sampled", "_local_parent_not_sampled")
        root, sampled, unsampled = (server._bound(getattr(sampler, name, None)) for name in names)
    else:
        root = sampled = unsampled = server._bound(sampler)
    if root is None or sampled is None or unsampled is None:
        return None
    return root, sampled, unsampled
