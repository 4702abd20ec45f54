"""Finished spans of one test, from a provider of its own: nothing global is set."""

from __future__ import annotations

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind


class Spans:
    """`provider` is passed by keyword to what is tested; the rest reads what was finished."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(
            sampler=sampler, resource=Resource({"service.name": "tests"}), shutdown_on_exit=False
        )
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def all(self) -> list[ReadableSpan]:
        """Every finished span, in the order of their ends."""
        return list(self._exporter.get_finished_spans())

    def of_kind(self, kind: SpanKind) -> list[ReadableSpan]:
        """Those of one kind."""
        return [span for span in self.all() if span.kind is kind]

    def server(self) -> ReadableSpan:
        """The one SERVER span; AssertionError when there is none or more than one."""
        found = self.of_kind(SpanKind.SERVER)
        assert len(found) == 1, f"{len(found)} server spans: {[span.name for span in found]}"
        return found[0]

    def named(self, name: str) -> list[ReadableSpan]:
        """Those called `name`."""
        return [span for span in self.all() if span.name == name]

    def clear(self) -> None:
        """Forget what was finished so far."""
        self._exporter.clear()

    def close(self) -> None:
        """Shut the provider down."""
        self.provider.shutdown()
