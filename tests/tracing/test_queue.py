"""The span queue: bounded, counted, prompt at the end, and safe after a fork."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from restaurant_otel.tracing import queue
from restaurant_otel.tracing.queue import SpanQueue
from restaurant_otel.tracing.spans import spans_of
from tests.support.readings import Readings
from tests.support.wait import eventually

DROPPED = "restaurant_telemetry_spans_dropped_total"

Added = Callable[[], Readings]


class Keeps(SpanExporter):
    """Keeps what it is given; may be held up, fail or raise."""

    def __init__(
        self, result: SpanExportResult = SpanExportResult.SUCCESS, error: Exception | None = None
    ) -> None:
        self.batches: list[list[ReadableSpan]] = []
        self.free = threading.Event()
        self.free.set()
        self.result, self.error = result, error
        self.stopped = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.free.wait(20)
        self.batches.append(list(spans))
        if self.error is not None:
            raise self.error
        return self.result

    def shutdown(self) -> None:
        self.stopped = True

    @property
    def spans(self) -> list[ReadableSpan]:
        return [span for batch in self.batches for span in batch]


def provider_with(exporter: SpanExporter, **options: Any) -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False, **options)
    provider.add_span_processor(SpanQueue(exporter))
    return provider


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("restaurant-otel-")}


def test_spans_of_both_kinds_arrive_as_readable_spans() -> None:
    exporter = Keeps()
    provider = provider_with(exporter)
    provider.get_tracer("app").start_span("theirs").end()
    spans_of(provider).start("ours", Context(), None, lambda: {"a": 1}).end()
    provider.shutdown()
    assert {span.name for span in exporter.spans} == {"theirs", "ours"}
    assert all(isinstance(span, ReadableSpan) for span in exporter.spans)
    assert exporter.stopped


def test_there_is_no_thread_before_the_first_sampled_span() -> None:
    before = threads()
    provider = provider_with(Keeps(), sampler=ALWAYS_OFF)
    provider.get_tracer("app").start_span("x").end()
    assert threads() == before
    provider.shutdown()


def test_a_full_batch_is_exported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "3")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    exporter = Keeps()
    provider = provider_with(exporter)
    for _ in range(3):
        provider.get_tracer("app").start_span("x").end()
    eventually(lambda: len(exporter.spans) == 3)
    provider.shutdown()


def test_what_the_queue_has_no_room_for_is_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch, added: Added
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "5")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    exporter = Keeps()
    exporter.free.clear()
    provider = provider_with(exporter)
    for _ in range(50):
        provider.get_tracer("app").start_span("x").end()
    lost = added().total(DROPPED, restaurant_telemetry_reason="queue_full")
    assert 40 <= lost <= 45
    exporter.free.set()
    provider.shutdown()
    assert len(exporter.spans) == 50 - lost


@pytest.mark.parametrize(
    "exporter", [Keeps(SpanExportResult.FAILURE), Keeps(error=ValueError("x"))], ids=["no", "raises"]
)
def test_what_the_exporter_does_not_deliver_is_counted(exporter: Keeps, added: Added) -> None:
    provider = provider_with(exporter)
    provider.get_tracer("app").start_span("x").end()
    provider.force_flush()
    provider.get_tracer("app").start_span("x").end()
    provider.shutdown()
    assert added().total(DROPPED, restaurant_telemetry_reason="export_failed") == 2


def test_an_exporter_that_hangs_delays_the_end_by_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch, added: Added
) -> None:
    monkeypatch.setattr(queue, "EXIT_SECONDS", 0.3)
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    exporter = Keeps()
    exporter.free.clear()
    provider = provider_with(exporter)
    for _ in range(5):
        provider.get_tracer("app").start_span("x").end()
    before = time.monotonic()
    provider.shutdown()
    assert time.monotonic() - before < 5
    assert added().total(DROPPED, restaurant_telemetry_reason="stopped") >= 3
    exporter.free.set()


def test_a_span_after_the_end_is_counted_as_dropped(added: Added) -> None:
    provider = provider_with(Keeps())
    provider.shutdown()
    provider.get_tracer("app").start_span("x").end()
    assert added().total(DROPPED, restaurant_telemetry_reason="stopped") == 1


def test_a_forked_child_exports_its_own_spans_and_none_of_the_parents() -> None:
    exporter = Keeps()
    provider = provider_with(exporter)
    provider.get_tracer("app").start_span("parent").end()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        provider.get_tracer("app").start_span("child").end()
        provider.force_flush()
        os.write(writer, ",".join(span.name for span in exporter.spans).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"child"
    provider.shutdown()
    assert [span.name for span in exporter.spans] == ["parent"]


def test_a_malformed_variable_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "lots")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "-3")
    provider = provider_with(Keeps())
    provider.get_tracer("app").start_span("x").end()
    provider.shutdown()
