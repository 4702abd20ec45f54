"""How a server span begins: lean where that gives the same result, by the SDK's tracer everywhere else.

The lean way is taken when the provider is the SDK's own class, its sampler is built of the standard ones
and none of its processors looks at spans before they have ended. Processors may be added at any time, so
that is checked again whenever their number changes. The private names of the SDK this needs are read
through guards: where one is missing, spans are made by the public API, and a test says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, StaticSampler, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags

from restaurant_otel._version import __version__
from restaurant_otel.tracing.queue import SpanQueue
from restaurant_otel.tracing.span import Pipeline, ServerSpan

SCOPE: Final = "restaurant_otel"
SCHEMA: Final = "https://opentelemetry.io/schemas/1.29.0"

Decide = Callable[[SpanContext | None, int], bool]
Attributes = Callable[[], dict[str, Any]]
"""Makes the attributes; called only for a span that will be recorded, or a sampler that may want them."""


class Spans(Protocol):
    """Begins server spans. Any thread may call it."""

    def start(self, name: str, context: Context, parent: SpanContext | None, attributes: Attributes) -> Span:
        """A begun span; the caller ends it. `context` holds no span of its own."""
        ...


class NoSpans:
    """Nobody asked for traces: the caller's context is carried on, nothing is made."""

    def start(
        self,
        name: str,  # noqa: ARG002 - the protocol's signature
        context: Context,  # noqa: ARG002
        parent: SpanContext | None,
        attributes: Attributes,  # noqa: ARG002
    ) -> Span:
        """A span that records nothing and passes the caller's identity on."""
        return trace.INVALID_SPAN if parent is None else NonRecordingSpan(parent)


class PublicSpans:
    """By the tracer's public API: for providers and samplers of any make."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def start(self, name: str, context: Context, parent: SpanContext | None, attributes: Attributes) -> Span:
        """A span of the provider's own."""
        held = NonRecordingSpan(parent) if parent is not None else trace.INVALID_SPAN
        return self._tracer.start_span(
            name, trace.set_span_in_context(held, context), SpanKind.SERVER, attributes=attributes()
        )


class LeanSpans:
    """Spans of our own type, for an SDK provider whose sampler and processors allow it."""

    def __init__(self, provider: TracerProvider, otherwise: PublicSpans, tracer: Tracer) -> None:
        self._otherwise = otherwise
        self._multi = provider._active_span_processor
        self._tracer = tracer
        self._decide = _decision(provider.sampler)
        self._trace_id = provider.id_generator.generate_trace_id
        self._span_id = provider.id_generator.generate_span_id
        is_random = getattr(provider.id_generator, "is_trace_id_random", None)
        # W3C Trace Context level 2: bit 1 says that the trace id is random. The SDK sets it for roots.
        self._root_random = 2 if is_random is not None and is_random() else 0
        self._pipeline = Pipeline(
            tracer.resource,
            tracer._instrumentation_scope,
            getattr(provider, "_span_limits", None) or SpanLimits(),
            self._multi.on_end,
        )
        self._look_again()

    def start(self, name: str, context: Context, parent: SpanContext | None, attributes: Attributes) -> Span:
        """A `ServerSpan` if it is to be recorded, otherwise one that only carries the identity."""
        if self._multi._span_processors is not self._processors:
            self._look_again()
        if not self._lean:
            return self._otherwise.start(name, context, parent, attributes)
        if parent is None:
            trace_id, random, state = self._trace_id(), self._root_random, None
        else:
            trace_id, random, state = parent.trace_id, parent.trace_flags & 2, parent.trace_state
        if self._decide(parent, trace_id):
            identity = SpanContext(trace_id, self._span_id(), False, _FLAGS[random | 1], state)
            return ServerSpan(self._pipeline, name, identity, parent, attributes())
        return NonRecordingSpan(SpanContext(trace_id, self._span_id(), False, _FLAGS[random], state))

    def _look_again(self) -> None:
        """Decide by the processors there are now; they are a tuple, made anew when one is added."""
        processors: tuple[SpanProcessor, ...] = self._multi._span_processors
        self._lean = all(_looks_at_the_end_only(processor) for processor in processors)
        if len(processors) == 1 and isinstance(processors[0], SpanQueue):
            self._pipeline.on_end = processors[0].put  # turned into the SDK's form in the export thread
        else:
            multi = self._multi
            self._pipeline.on_end = lambda span: multi.on_end(span.readable())
        self._pipeline.resource = self._tracer.resource  # the SDK renews it after a fork
        self._processors = processors


def spans_of(provider: trace.TracerProvider | None) -> Spans:
    """The cheapest way to begin server spans that gives what `provider` would. None: there are none."""
    if provider is None:
        return NoSpans()
    tracer = provider.get_tracer(SCOPE, __version__, SCHEMA)
    public = PublicSpans(tracer)
    try:
        if (
            type(provider) is TracerProvider
            and type(tracer) is Tracer
            and _decision(provider.sampler) is not None
        ):
            enabled = getattr(tracer, "_is_enabled", None)
            if enabled is None or enabled():
                return LeanSpans(provider, public, tracer)
    except AttributeError:
        pass  # an SDK that keeps these things elsewhere: the public way serves it
    return public


_FLAGS: Final = [TraceFlags(bits) for bits in range(4)]


def _looks_at_the_end_only(processor: SpanProcessor) -> bool:
    if type(processor) in (SpanQueue, BatchSpanProcessor, SimpleSpanProcessor):
        return True
    kind = type(processor)
    return kind.on_start is SpanProcessor.on_start and (
        getattr(kind, "_on_ending", None) is getattr(SpanProcessor, "_on_ending", None)
    )


def _decision(sampler: Sampler) -> Any:
    """`sampler` as a function of the caller's span and the trace id; None where it is not a standard one."""
    if isinstance(sampler, ParentBased) and type(sampler).should_sample is ParentBased.should_sample:
        # Callers of a server are remote by definition, so the two rules for local parents never apply.
        names = ("_root", "_remote_parent_sampled", "_remote_parent_not_sampled")
        parts = [_alone(getattr(sampler, name, None)) for name in names]
        return _parent_based(*parts) if None not in parts else None
    alone = _alone(sampler)
    return None if alone is None else lambda _parent, trace_id: alone(trace_id)


def _parent_based(root: Any, sampled: Any, not_sampled: Any) -> Decide:
    def decide(parent: SpanContext | None, trace_id: int) -> bool:
        if parent is None:
            return bool(root(trace_id))
        return bool(sampled(trace_id) if parent.trace_flags & 1 else not_sampled(trace_id))

    return decide


def _alone(sampler: Any) -> Any:
    """A sampler that looks at the trace id only, as a function of it; None for any other."""
    if type(sampler) is StaticSampler:
        decision = sampler.should_sample(None, 1, "").decision
        if decision is Decision.RECORD_ONLY:
            return None
        return lambda _trace_id: decision is Decision.RECORD_AND_SAMPLE
    if type(sampler) is TraceIdRatioBased:
        bound, mask = sampler.bound, TraceIdRatioBased.TRACE_ID_LIMIT
        return lambda trace_id: trace_id & mask < bound
    return None
