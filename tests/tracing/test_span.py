"""Our server span behaves as the SDK's in everything public, and is used only where that holds."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from restaurant_otel.tracing.span import ServerSpan, readable_as_known
from restaurant_otel.tracing.spans import PublicSpans, UnsampledSpan, spans_of

LIMITS = SpanLimits(
    max_span_attributes=4, max_events=3, max_links=2, max_event_attributes=2, max_span_attribute_length=6
)


def begin(provider: TracerProvider, attributes: dict[str, Any]) -> tuple[Any, Any]:
    """The same span, begun by us and by the SDK."""
    ours = spans_of(provider).start("GET", Context(), None, lambda: dict(attributes))
    theirs = provider.get_tracer("t").start_span("GET", Context(), SpanKind.SERVER, attributes=attributes)
    assert isinstance(ours, ServerSpan)
    return ours, theirs


def told(span: ReadableSpan) -> dict[str, Any]:
    """What an exporter can see of a span, without what differs by nature (ids and times)."""
    return {
        "name": span.name,
        "kind": span.kind,
        "attributes": dict(span.attributes or {}),
        "events": [
            (e.name, {k: v for k, v in (e.attributes or {}).items() if k != "exception.stacktrace"})
            for e in span.events
        ],
        "links": [(link.context.span_id, dict(link.attributes or {})) for link in span.links],
        "status": (span.status.status_code, span.status.description),
        "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
        "parent": span.parent,
        "resource": span.resource,
        "ended": span.end_time is not None,
    }


VALUES: Any = st.one_of(
    st.text(max_size=12),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.floats(allow_nan=False),
    st.lists(st.text(max_size=3), max_size=3),
    st.just(object()),
    st.none(),
)
KEYS = st.sampled_from(["a", "b", "c", "d", "e", "http.route", ""])
OTHER = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1))
STEPS: Any = st.one_of(
    st.tuples(st.just("set_attribute"), KEYS, VALUES),
    st.tuples(st.just("set_attributes"), st.dictionaries(KEYS, VALUES, max_size=3)),
    st.tuples(st.just("add_event"), st.sampled_from(["x", "y"]), st.dictionaries(KEYS, VALUES, max_size=3)),
    st.tuples(st.just("add_link"), st.sampled_from([OTHER, trace.INVALID_SPAN_CONTEXT]), st.just({"k": "v"})),
    st.tuples(st.just("add_link"), st.just(trace.INVALID_SPAN_CONTEXT)),
    st.tuples(st.just("update_name"), st.text(max_size=4)),
    st.tuples(st.just("set_status"), st.sampled_from(list(StatusCode))),
    st.tuples(st.just("set_status"), st.sampled_from(list(StatusCode)), st.just("why")),
    st.tuples(
        st.just("set_status"), st.just(Status(StatusCode.ERROR, "own")), st.sampled_from([None, "ignored"])
    ),
    st.tuples(st.just("set_status"), st.just(Status(StatusCode.OK))),
    st.tuples(st.just("record_exception"), st.just(KeyError("k")), st.just({"exception.message": "mine"})),
    st.tuples(st.just("record_exception"), st.just(LookupError())),
    st.tuples(st.just("end")),
)


@pytest.mark.parametrize("limits", [LIMITS, SpanLimits()], ids=["tight", "default"])
def test_any_sequence_of_calls_gives_what_the_sdks_span_gives(limits: SpanLimits) -> None:
    logging.disable(logging.WARNING)

    @given(st.lists(STEPS, max_size=12))
    def check(steps: list[Any]) -> None:
        provider = TracerProvider(span_limits=limits, shutdown_on_exit=False, resource=Resource.get_empty())
        spans = begin(provider, {"a": "first", "long": "0123456789"})
        for name, *arguments in steps:
            for span in spans:
                getattr(span, name)(*arguments)
        ours, theirs = spans
        assert told(ours) == told(theirs)
        assert ours.is_recording() == theirs.is_recording()

    try:
        check()
    finally:
        logging.disable(logging.NOTSET)


def test_what_hooks_read_off_the_sdks_span_is_there() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    ours, theirs = begin(provider, {"a": 1})
    names = [name for name in vars(ReadableSpan) if not name.startswith("_")]
    assert [name for name in names if not hasattr(ours, name)] == []
    assert not hasattr(ours, "no_such_thing")
    assert ours.attributes == dict(theirs.attributes)
    assert ours.kind is SpanKind.SERVER


def test_as_a_context_manager_it_records_the_exception_and_ends() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    for span in begin(provider, {}):
        with pytest.raises(KeyError), span:
            raise KeyError("x")
        assert not span.is_recording()
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "KeyError: 'x'"
        assert [event.name for event in span.events] == ["exception"]


def test_a_second_end_only_warns(caplog: pytest.LogCaptureFixture) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    span, _ = begin(provider, {})
    span.end()
    span.end()
    assert "ended span" in caplog.text
    assert len(exporter.get_finished_spans()) == 1


# --- when it is used --------------------------------------------------------------------------------


class LooksAtTheStart(SpanProcessor):
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        span.set_attribute("seen", True)


class Collects(SpanProcessor):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


class Custom(Sampler):
    def should_sample(
        self, parent_context: Any, trace_id: int, name: str, *args: Any, **kwargs: Any
    ) -> SamplingResult:
        return SamplingResult(Decision.RECORD_AND_SAMPLE, {"sampled.by": "custom"})

    def get_description(self) -> str:
        return "custom"


def start(provider: TracerProvider) -> Any:
    return spans_of(provider).start("GET", Context(), None, lambda: {"a": 1})


def test_a_processor_that_looks_at_the_start_gets_the_sdks_span() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(LooksAtTheStart())
    span = start(provider)
    assert isinstance(span, Span)
    assert (span.attributes or {})["seen"] is True


def test_a_processor_added_later_is_noticed() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    spans = spans_of(provider)
    assert isinstance(spans.start("GET", Context(), None, dict), ServerSpan)
    provider.add_span_processor(LooksAtTheStart())
    assert isinstance(spans.start("GET", Context(), None, dict), Span)


def test_a_processor_that_looks_at_the_end_gets_a_readable_span() -> None:
    provider, collects = TracerProvider(shutdown_on_exit=False), Collects()
    provider.add_span_processor(collects)
    span = start(provider)
    assert isinstance(span, ServerSpan)
    span.end()
    assert isinstance(collects.spans[0], ReadableSpan)
    assert dict(collects.spans[0].attributes or {}) == {"a": 1}


def test_a_sampler_of_the_apps_own_is_asked() -> None:
    provider = TracerProvider(sampler=ParentBased(Custom()), shutdown_on_exit=False)
    assert start(provider).attributes["sampled.by"] == "custom"


def test_a_record_only_sampler_is_left_to_the_sdk() -> None:
    span = start(TracerProvider(sampler=StaticSampler(Decision.RECORD_ONLY), shutdown_on_exit=False))
    assert isinstance(span, Span)
    assert not span.get_span_context().trace_flags.sampled


def test_a_provider_of_another_make_is_used_through_the_public_api() -> None:
    class Mine(TracerProvider):
        pass

    assert isinstance(spans_of(Mine(shutdown_on_exit=False)), PublicSpans)
    assert isinstance(spans_of(trace.NoOpTracerProvider()), PublicSpans)


def test_the_private_names_of_the_sdk_that_the_lean_way_needs_are_there() -> None:
    """When this fails, spans still work, at the SDK's price: see `spans_of` for what has moved."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    try:
        assert not isinstance(spans_of(provider), PublicSpans)
        assert isinstance(start(provider), ServerSpan)
    finally:
        provider.shutdown()


SAMPLERS: list[Sampler] = [
    ALWAYS_ON,
    ALWAYS_OFF,
    TraceIdRatioBased(0.3),
    ParentBased(ALWAYS_ON),
    ParentBased(ALWAYS_OFF),
    ParentBasedTraceIdRatio(0.5),
    ParentBased(ALWAYS_ON, remote_parent_sampled=TraceIdRatioBased(0.4), remote_parent_not_sampled=ALWAYS_ON),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.get_description()[:60])
def test_decisions_and_identities_are_those_of_the_sdk(sampler: Sampler) -> None:
    @given(
        st.integers(1, 2**128 - 1),
        st.one_of(st.none(), st.integers(0, 255)),
        st.sampled_from([None, trace.TraceState([("k", "v")])]),
    )
    def check(trace_id: int, flags: int | None, state: Any) -> None:
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False, resource=Resource.get_empty())
        provider.id_generator.generate_trace_id = lambda: trace_id  # type: ignore[method-assign]
        parent = None if flags is None else SpanContext(trace_id, 7, True, TraceFlags(flags), state)
        ours = spans_of(provider).start("GET", Context(), parent, dict)
        context = (
            Context()
            if parent is None
            else trace.set_span_in_context(trace.NonRecordingSpan(parent), Context())
        )
        theirs = provider.get_tracer("t").start_span("GET", context, SpanKind.SERVER)
        mine, expected = ours.get_span_context(), theirs.get_span_context()
        assert ours.is_recording() == theirs.is_recording()
        assert mine.trace_id == expected.trace_id
        assert mine.trace_flags == expected.trace_flags
        assert mine.trace_state == expected.trace_state
        assert mine.is_remote == expected.is_remote
        assert type(mine.trace_flags) is type(expected.trace_flags)

    check()


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.get_description()[:60])
def test_a_traceparent_gives_what_its_identity_gives(sampler: Sampler) -> None:
    @given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
    def check(trace_id: int, span_id: int, flags: int) -> None:
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False, resource=Resource.get_empty())
        header = f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}".encode()
        parent = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
        ours, same = (spans_of(provider).start("GET", Context(), caller, dict) for caller in (header, parent))
        mine, expected = ours.get_span_context(), same.get_span_context()
        assert ours.is_recording() == same.is_recording()
        assert (mine.trace_id, mine.trace_flags, mine.trace_state) == (
            expected.trace_id,
            expected.trace_flags,
            expected.trace_state,
        )
        assert mine.is_valid
        assert getattr(ours, "parent", None) == getattr(same, "parent", None)

    check()


@pytest.mark.parametrize("parent", [None, b"00-" + b"ab" * 16 + b"-" + b"cd" * 8 + b"-01"])
def test_an_unsampled_span_has_one_identity_whoever_asks_first(parent: bytes | None) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    span = spans_of(provider).start("GET", Context(), parent, dict)
    assert isinstance(span, UnsampledSpan)
    asked: list[SpanContext] = []
    threads = [threading.Thread(target=lambda: asked.append(span.get_span_context())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(identity) for identity in asked}) == 1
    assert asked[0].is_valid
    assert not asked[0].trace_flags.sampled
    assert repr(asked[0]) in repr(span)
    assert not span.is_recording()
    child = provider.get_tracer("t").start_span("child", trace.set_span_in_context(span, Context()))
    assert child.get_span_context().trace_id == asked[0].trace_id


def test_the_sdks_readable_span_is_laid_out_as_ours_and_else_ours_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert readable_as_known()
    kept = ReadableSpan.__init__

    def otherwise(self: ReadableSpan, *arguments: Any, **keywords: Any) -> None:
        kept(self, *arguments, **keywords)
        self._moved = 1  # type: ignore[attr-defined]

    monkeypatch.setattr(ReadableSpan, "__init__", otherwise)
    assert not readable_as_known()
    assert isinstance(spans_of(TracerProvider(shutdown_on_exit=False)), PublicSpans)


def test_an_sdk_that_counts_its_spans_makes_them_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    reader = InMemoryMetricReader()
    provider = TracerProvider(shutdown_on_exit=False, meter_provider=MeterProvider([reader]))
    if not hasattr(provider.get_tracer("t"), "_tracer_metrics"):
        pytest.skip("this SDK keeps no metrics of its spans")
    start(provider).end()
    data = reader.get_metrics_data()
    assert data is not None
    names = {metric.name for r in data.resource_metrics for s in r.scope_metrics for metric in s.metrics}
    assert "otel.sdk.span.started" in names
