"""The tail sampler: whole traces or none, what matters always, and never more than it may hold."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, StatusCode, TraceFlags

from restaurant_otel import Settings
from restaurant_otel.telemetry import tracer_provider_with
from restaurant_otel.tracing import tail
from restaurant_otel.tracing.spans import spans_of
from tests.support.readings import Readings

DROPPED = "restaurant_telemetry_spans_dropped_total"
MILLISECOND = 1_000_000

Added = Callable[[], Readings]


class Pipeline:
    def __init__(self, **settings: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = tracer_provider_with([self.exporter], None, Settings.resolve({}, **settings))
        self.tracer = self.provider.get_tracer("t")

    def trace(
        self,
        milliseconds: int = 1,
        *,
        route: str = "/",
        children: int = 2,
        failed_child: bool = False,
        failed: bool = False,
        parent: Any = None,
    ) -> int:
        """One request with child spans, `milliseconds` long; its trace id."""
        context = (
            trace.set_span_in_context(trace.NonRecordingSpan(parent), Context()) if parent else Context()
        )
        root = self.tracer.start_span("root", context, attributes={"http.route": route}, start_time=0)
        inside = trace.set_span_in_context(root, Context())
        for _ in range(children):
            child = self.tracer.start_span("child", inside)
            if failed_child:
                child.set_status(StatusCode.ERROR)
            child.end()
        if failed:
            root.set_status(StatusCode.ERROR)
        root.end(milliseconds * MILLISECOND)
        return root.get_span_context().trace_id

    def kept(self) -> list[str]:
        self.provider.force_flush()
        return sorted(span.name for span in self.exporter.get_finished_spans())


@pytest.fixture
def pipeline() -> Iterator[Callable[..., Pipeline]]:
    made: list[Pipeline] = []

    def make(**settings: Any) -> Pipeline:
        made.append(Pipeline(**{"tail_sampling_ratio": 0, **settings}))
        return made[-1]

    yield make
    for each in made:
        each.provider.shutdown()


WHOLE = ["child", "child", "root"]


def test_a_quick_trace_that_went_well_is_dropped_whole(pipeline: Any) -> None:
    held = pipeline()
    held.trace(199)
    assert held.kept() == []


def test_a_slow_trace_is_kept_whole(pipeline: Any) -> None:
    held = pipeline()
    held.trace(201)
    assert held.kept() == WHOLE


def test_a_route_may_have_an_objective_of_its_own(pipeline: Any) -> None:
    held = pipeline(tail_sampling_slow_routes={"/report": 2.0}, tail_sampling_slow_seconds=0.1)
    held.trace(1500, route="/report")
    assert held.kept() == []
    held.trace(150, route="/other")
    assert held.kept() == WHOLE


@pytest.mark.parametrize("how", [{"failed": True}, {"failed_child": True}])
def test_a_trace_in_which_something_failed_is_kept_whole(pipeline: Any, how: dict[str, bool]) -> None:
    held = pipeline()
    held.trace(1, **how)
    assert held.kept() == WHOLE


def test_the_drawn_share_is_kept_and_the_draw_is_by_trace_id(pipeline: Any) -> None:
    first, second = pipeline(tail_sampling_ratio=0.5), pipeline(tail_sampling_ratio=0.5)
    for n in range(200):
        parent = SpanContext((n << 64) + n * 0x9E3779B97F4A7C15 % 2**64 + 1, 7, True, TraceFlags(1))
        first.trace(parent=parent, children=0)
        second.trace(parent=parent, children=0)
    for each in (first, second):
        each.provider.force_flush()
    ids = [{s.get_span_context().trace_id for s in p.exporter.get_finished_spans()} for p in (first, second)]
    assert ids[0] == ids[1]
    assert 60 < len(ids[0]) < 140


def test_what_ends_after_its_root_shares_its_fate(pipeline: Any) -> None:
    held = pipeline()
    for milliseconds in (300, 1):
        root = held.tracer.start_span("root", Context(), start_time=0)
        late = held.tracer.start_span("late", trace.set_span_in_context(root, Context()))
        root.end(milliseconds * MILLISECOND)
        late.end()
    assert held.kept() == ["late", "root"]


def test_memory_is_bounded_and_what_is_let_go_is_counted(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch, added: Added
) -> None:
    monkeypatch.setattr(tail, "MOST_SPANS", 10)
    held = pipeline()
    root = held.tracer.start_span("root", Context(), start_time=0)
    for _ in range(50):
        held.tracer.start_span("child", trace.set_span_in_context(root, Context())).end()
    assert added().total(DROPPED, restaurant_telemetry_reason="tail_undecided") >= 11
    root.end(300 * MILLISECOND)
    assert "root" in held.kept(), "a slow root is kept even if its children had to go"


def test_a_trace_whose_root_does_not_end_is_not_held_for_ever(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch, added: Added
) -> None:
    monkeypatch.setattr(tail, "HOLD_SECONDS", -1.0)
    held = pipeline()
    stream = held.tracer.start_span("stream", Context())
    held.tracer.start_span("child", trace.set_span_in_context(stream, Context())).end()
    assert added().total(DROPPED, restaurant_telemetry_reason="tail_undecided") == 1
    stream.end()


def test_at_the_end_what_is_undecided_is_decided_by_what_is_known(added: Added) -> None:
    held = Pipeline(tail_sampling_ratio=0)
    for failed in (True, False):
        root = held.tracer.start_span("root", Context())
        child = held.tracer.start_span("child", trace.set_span_in_context(root, Context()))
        if failed:
            child.set_status(StatusCode.ERROR)
        child.end()
    held.provider.shutdown()
    assert [span.name for span in held.exporter.get_finished_spans()] == ["child"]


def test_our_server_span_goes_through_it(pipeline: Any) -> None:
    held = pipeline()
    for status in (StatusCode.ERROR, StatusCode.UNSET):
        span = spans_of(held.provider).start("ours", Context(), None, dict)
        span.set_status(status)
        span.end()
    assert held.kept() == ["ours"]


def test_a_forked_child_starts_with_nothing_held(pipeline: Any) -> None:
    held = pipeline()
    root = held.tracer.start_span("root", Context(), start_time=0)
    held.tracer.start_span("child", trace.set_span_in_context(root, Context())).end()
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        held.trace(300, children=1)
        os.write(writer, ",".join(held.kept()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"child,root"


def test_off_by_default() -> None:
    provider = tracer_provider_with([InMemorySpanExporter()], None, Settings.resolve({}))
    assert isinstance(provider, TracerProvider)
    processors = provider._active_span_processor._span_processors
    assert not any(isinstance(processor, tail.TailSampler) for processor in processors)
    provider.shutdown()
