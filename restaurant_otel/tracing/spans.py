"""How a server span begins: lean where that gives the same result, by the SDK's tracer everywhere else.

The lean way is taken when the provider is the SDK's own class, its sampler is built of the standard ones
and none of its processors looks at spans before they have ended. Processors may be added at any time, so
that is checked again whenever their number changes. The private names of the SDK this needs are read
through guards: where one is missing, spans are made by the public API, and a test says so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import getrandbits
from typing import Any, Final, Protocol

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, StaticSampler, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind

from restaurant_otel import forks
from restaurant_otel._version import __version__
from restaurant_otel.tracing.identity import FLAGS, NO_STATE, Caller, identity_of, new_span_context
from restaurant_otel.tracing.propagation import Found
from restaurant_otel.tracing.queue import SpanQueue
from restaurant_otel.tracing.span import Pipeline, ServerSpan, readable_as_known

SCOPE: Final = "restaurant_otel"
SCHEMA: Final = "https://opentelemetry.io/schemas/1.29.0"
_ODD: Final = b"13579bdf"
"""The last digits of trace flags that say "sampled"."""
_FLAGS_SAID: Final = {b"%02x" % bits: (FLAGS[bits], FLAGS[bits & 2]) for bits in range(256)}
"""What the last two digits say: the caller's flags, and those that an unsampled span under it has."""
_SAMPLED: Final = {FLAGS[0]: FLAGS[1], FLAGS[2]: FLAGS[3]}
_RATIO_MASK: Final = TraceIdRatioBased.TRACE_ID_LIMIT

Bounds = tuple[int, int, int]
"""What the lower half of a trace id must stay below to be sampled: for a root, under a sampled parent, under
an unsampled one. "Always" is a bound above all ids, "never" is zero."""

Attributes = Callable[[], dict[str, Any]]
"""Makes the attributes; called only for a span that will be recorded, or a sampler that may want them."""


class Spans(Protocol):
    """Begins server spans. Any thread may call it.

    `records_nothing`: no request is sampled, whatever its caller says.
    """

    records_nothing: bool

    def start(self, name: str, context: Context, parent: Caller, attributes: Attributes) -> Span:
        """A begun span; the caller ends it. `context` holds no span of its own."""
        ...

    def unsampled(self, parent: Caller) -> SpanContext:
        """The identity that a request under `parent` has when it is not sampled."""
        ...


class NoSpans:
    """Nobody asked for traces: the caller's context is carried on, nothing is made."""

    records_nothing = True

    def start(
        self,
        name: str,  # noqa: ARG002 - the protocol's signature
        context: Context,  # noqa: ARG002
        parent: Caller,
        attributes: Attributes,  # noqa: ARG002
    ) -> Span:
        """A span that records nothing and passes the caller's identity on."""
        return trace.INVALID_SPAN if parent is None else NonRecordingSpan(self.unsampled(parent))

    def unsampled(self, parent: Caller) -> SpanContext:
        """The caller's own identity."""
        return identity_of(parent) or trace.INVALID_SPAN_CONTEXT


class PublicSpans:
    """By the tracer's public API: for providers and samplers of any make."""

    records_nothing = False

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def start(self, name: str, context: Context, parent: Caller, attributes: Attributes) -> Span:
        """A span of the provider's own."""
        caller = identity_of(parent)
        held = NonRecordingSpan(caller) if caller is not None else trace.INVALID_SPAN
        return self._tracer.start_span(
            name, trace.set_span_in_context(held, context), SpanKind.SERVER, attributes=attributes()
        )

    def unsampled(self, parent: Caller) -> SpanContext:
        """What the provider makes of it."""
        return self.start("", Context(), parent, dict).get_span_context()


class LeanSpans:
    """Spans of our own type, for an SDK provider whose sampler and processors allow it."""

    def __init__(
        self, provider: TracerProvider, bounds: Bounds, tracer: Tracer, otherwise: PublicSpans
    ) -> None:
        self._otherwise = otherwise
        self._multi = provider._active_span_processor
        self._tracer = tracer
        self._root_bound, self._sampled_bound, self._unsampled_bound = bounds
        self.records_nothing = not any(bounds)
        self._trace_id = provider.id_generator.generate_trace_id
        self._span_id = provider.id_generator.generate_span_id
        if type(provider.id_generator) is RandomIdGenerator:
            self._span_id = partial(getrandbits, 64)  # the same, without a call in between
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

    def start(self, name: str, context: Context, parent: Caller, attributes: Attributes) -> Span:
        """A `ServerSpan` if it is to be recorded, otherwise one that only carries the identity."""
        if self._multi._span_processors is not self._processors:
            self._look_again()
        if not self._lean:
            return self._otherwise.start(name, context, parent, attributes)
        if isinstance(parent, bytes):
            bound = self._sampled_bound if parent[54] in _ODD else self._unsampled_bound
            if not bound:
                return UnsampledSpan(self.unsampled, parent)
            # What `identity_of` would do, with the flags of both spans at once.
            caller: SpanContext | None
            trace_id, (theirs, ours) = int(parent[3:35], 16), _FLAGS_SAID[parent[53:]]
            caller = new_span_context((trace_id, int(parent[36:52], 16), True, theirs, NO_STATE, True))
            state = NO_STATE
        elif parent is None:
            bound = self._root_bound
            if not bound:
                return UnsampledSpan(self.unsampled, None)
            trace_id, ours, state, caller = self._trace_id(), FLAGS[self._root_random], NO_STATE, None
        else:
            caller = parent
            trace_id, state = caller.trace_id, caller.trace_state
            theirs, ours = caller.trace_flags, FLAGS[caller.trace_flags & 2]
            bound = self._sampled_bound if theirs & 1 else self._unsampled_bound
        if trace_id & _RATIO_MASK >= bound:
            return NonRecordingSpan(
                new_span_context((trace_id, self._span_id() or 1, False, ours, state, True))
            )
        new_id = self._span_id
        identity = new_span_context((trace_id, new_id() or 1, False, _SAMPLED[ours], state, True))
        return ServerSpan(self._pipeline, name, identity, caller, attributes())

    def unsampled(self, parent: Caller) -> SpanContext:
        """A new identity under `parent`, not sampled."""
        caller, span_id = identity_of(parent), self._span_id() or 1
        if caller is None:
            return new_span_context(
                (self._trace_id(), span_id, False, FLAGS[self._root_random], NO_STATE, True)
            )
        flags = FLAGS[caller.trace_flags & 2]
        return new_span_context((caller.trace_id, span_id, False, flags, caller.trace_state, True))

    def _look_again(self) -> None:
        """Decide by the processors there are now; they are a tuple, made anew when one is added."""
        processors: tuple[SpanProcessor, ...] = self._multi._span_processors
        self._lean = all(_looks_at_the_end_only(processor) for processor in processors)
        if len(processors) == 1 and isinstance(processors[0], SpanQueue):
            self._pipeline.on_end = processors[0].put
        else:
            self._pipeline.on_end = self._multi.on_end
        self._pipeline.resource = self._tracer.resource  # the SDK renews it after a fork
        self._processors = processors


class UnsampledSpan(NonRecordingSpan):
    """A span that is not recorded, and has no identity until somebody asks for it: few requests ever do.

    `identify` makes it of `origin`, once.
    """

    _identity: SpanContext | None = None

    def __init__(self, identify: Callable[[Any], SpanContext], origin: Caller | Found) -> None:
        self._identify = identify
        self._origin = origin

    def get_span_context(self) -> SpanContext:
        """The span's identity, the same at each call."""
        identity = self._identity
        if identity is None:
            with _making:
                identity = self._identity
                if identity is None:
                    identity = self._identity = self._identify(self._origin)
        return identity

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.get_span_context()!r})"


_making: Final = forks.Lock()


def spans_of(provider: trace.TracerProvider | None) -> Spans:
    """The cheapest way to begin server spans that gives what `provider` would. None: there are none."""
    if provider is None:
        return NoSpans()
    tracer = provider.get_tracer(SCOPE, __version__, SCHEMA)
    public = PublicSpans(tracer)
    try:
        if type(provider) is TracerProvider and type(tracer) is Tracer and readable_as_known():
            bounds, enabled = _bounds(provider.sampler), getattr(tracer, "_is_enabled", None)
            if bounds is not None and (enabled is None or enabled()) and not _counts_spans(tracer):
                return LeanSpans(provider, bounds, tracer, public)
    except AttributeError:
        pass  # an SDK that keeps these things elsewhere: the public way serves it
    return public


def _counts_spans(tracer: Tracer) -> bool:
    """Whether the SDK has been told to keep metrics of its own spans: ours would be missing in them."""
    counting = getattr(tracer, "_tracer_metrics", None)
    return counting is not None and type(counting).__name__ != "NoOpTracerMetrics"


def _looks_at_the_end_only(processor: SpanProcessor) -> bool:
    if type(processor) in (SpanQueue, BatchSpanProcessor, SimpleSpanProcessor):
        return True
    kind = type(processor)
    return kind.on_start is SpanProcessor.on_start and (
        getattr(kind, "_on_ending", None) is getattr(SpanProcessor, "_on_ending", None)
    )


def _bounds(sampler: Sampler) -> Bounds | None:
    """`sampler` as three bounds (see `Bounds`); None where it is not a standard one."""
    if isinstance(sampler, ParentBased) and type(sampler).should_sample is ParentBased.should_sample:
        # Callers of a server are remote by definition, so the two rules for local parents never apply.
        names = ("_root", "_remote_parent_sampled", "_remote_parent_not_sampled")
        root, sampled, unsampled = (_bound(getattr(sampler, name, None)) for name in names)
    else:
        root = sampled = unsampled = _bound(sampler)
    if root is None or sampled is None or unsampled is None:
        return None
    return root, sampled, unsampled


def _bound(sampler: Any) -> int | None:
    """A sampler that looks at the trace id only, as the bound that the id's lower half must stay below."""
    if type(sampler) is StaticSampler:
        decision = sampler.should_sample(None, 1, "").decision
        return {Decision.DROP: 0, Decision.RECORD_AND_SAMPLE: _RATIO_MASK + 1}.get(decision)
    return sampler.bound if type(sampler) is TraceIdRatioBased else None
