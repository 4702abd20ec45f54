"""The queue between a request's end and the exporter: bounded, counted, and never in the request's way.

It takes the place of the SDK's `BatchSpanProcessor` where the providers are ours, reads the same
``OTEL_BSP_*`` variables, and differs in what an app notices: its thread starts with the first span, what
is dropped is counted, and a collector that hangs delays the process's exit by `EXIT_SECONDS` at most.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import Final

from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from restaurant_otel import catalog, forks
from restaurant_otel.errors import survived
from restaurant_otel.metrics.registry import registry

EXIT_SECONDS: Final = 2.0
"""How long `shutdown` waits for the exporter, at most."""


class SpanQueue(SpanProcessor):
    """Hands ended, sampled spans to `exporter` in batches, from a thread of its own.

    Any thread may call any method. After a fork the child starts with an empty queue and no thread: what
    the parent had queued, the parent exports.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._most = _whole_number("OTEL_BSP_MAX_QUEUE_SIZE", 2048)
        self._batch = min(_whole_number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512), self._most)
        self._delay = _whole_number("OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000
        self._stopped = False
        self._hopeless = (
            False  # the last flush took longer than it was given: the end need not wait for another
        )
        self._start_over()
        forks.follow(in_child=self._start_over)

    def _start_over(self) -> None:
        self._spans: deque[ReadableSpan] = deque()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._exporting = threading.Lock()
        self._wake = threading.Event()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing: spans are of interest when they have ended."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queue `span` if it is sampled; count it as dropped if there is no room."""
        context = span.get_span_context()
        if context is not None and context.trace_flags.sampled:
            self.put(span)

    def put(self, span: ReadableSpan) -> None:
        """Queue an ended, sampled span."""
        spans = self._spans
        waiting = len(spans)
        if waiting >= self._most or self._stopped:
            count_dropped("stopped" if self._stopped else "queue_full", 1)
            return
        spans.append(span)
        if self._thread is None:
            self._start()
        if waiting + 1 >= self._batch and not self._wake.is_set():
            self._wake.set()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None and not self._stopped:
                thread = threading.Thread(target=self._run, name="restaurant-otel-spans", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        while not self._stopped:
            self._wake.wait(self._delay)
            self._wake.clear()
            self._export_all()

    def _export_all(self) -> None:
        with self._exporting:
            while self._spans:
                take = self._spans.popleft  # nobody else takes any: this many are there
                self._export([take() for _ in range(min(len(self._spans), self._batch))])

    def _export(self, batch: list[ReadableSpan]) -> None:
        try:
            with suppress_instrumentation():
                result = self._exporter.export(batch)
        except Exception as error:  # noqa: BLE001 - an exporter is somebody else's code, on our thread
            survived("span export", error)
            result = SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS:
            count_dropped("export_failed", len(batch))

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what is queued now; False if that took longer than `timeout_millis`."""
        if not self._spans and not self._exporting.locked():
            return True
        flusher = threading.Thread(target=self._export_all, name="restaurant-otel-flush", daemon=True)
        flusher.start()
        flusher.join(timeout_millis / 1000)
        self._hopeless = flusher.is_alive()
        return not self._hopeless

    def shutdown(self) -> None:
        """Export what is queued, waiting `EXIT_SECONDS` at most; what is left then is counted as dropped."""
        if self._stopped:
            return
        self._stopped = True
        patience = EXIT_SECONDS if not self._hopeless else 0.1
        deadline = time.monotonic() + patience
        if self._thread is not None:
            self._wake.set()
            self._thread.join(patience)
        left = deadline - time.monotonic()
        if self._spans and left > 0:
            self.force_flush(int(left * 1000))
        stopper = threading.Thread(target=self._stop_exporter, name="restaurant-otel-stop", daemon=True)
        stopper.start()
        stopper.join(max(0.1, deadline - time.monotonic()))
        if self._spans:
            count_dropped("stopped", len(self._spans))

    def _stop_exporter(self) -> None:
        try:
            self._exporter.shutdown()
        except Exception as error:  # noqa: BLE001 - as above
            survived("span export", error)


def count_dropped(reason: str, count: int) -> None:
    """Count spans that were lost or let go for `reason`, a short constant."""
    registry().counter(catalog.TELEMETRY_SPANS_DROPPED).bind(reason).add(count)


def _whole_number(variable: str, default: int) -> int:
    # A malformed variable of the standard's is the SDK's to complain about; here it means the default.
    text = os.environ.get(variable, "").strip()
    return int(text) if text.isdigit() and int(text) > 0 else default
