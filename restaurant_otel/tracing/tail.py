"""Sampling that keeps what matters: a trace's fate is decided when its local root ends, not when it begins.

`TailSampler` stands before the span queue. It holds the spans of each trace until the span that began in
this process ends, and then passes all of them on, or none: kept are traces that were slow, that failed, or
that were drawn. What it decides is for this process alone; other services draw by the same rule on the
trace id, so that the drawn share of traces is whole everywhere.

It works on what the head sampler has let through, so leave that at its default, which samples all that the
caller has not ruled out.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final
from weakref import WeakSet

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import StatusCode

from restaurant_otel import forks
from restaurant_otel.tracing.queue import SpanQueue, count_dropped

MOST_SPANS: Final = 20_000
"""Spans held at once, at most; beyond that the oldest trace is decided by the draw alone."""

HOLD_SECONDS: Final = 60.0
"""How long a trace is held, at most: the root of an endless stream may not end for hours."""

_VERDICTS: Final = 20_000


_samplers: WeakSet[TailSampler] = WeakSet()


def samplers() -> list[TailSampler]:
    """Those of this process."""
    return list(_samplers)


class _Trace:
    __slots__ = ("failed", "since", "spans")

    def __init__(self) -> None:
        self.since = time.monotonic()
        self.spans: list[ReadableSpan] = []
        self.failed = False


class TailSampler(SpanProcessor):
    """Passes whole traces on to `queue`, or drops them. Any thread may call any method.

    Kept is a trace whose local root took more than `slow_seconds` (or what `slow_routes` says for its
    ``http.route``), one in which a span has failed, and the share `ratio` (0-1) of all others.
    """

    def __init__(
        self, queue: SpanQueue, ratio: float, slow_seconds: float, slow_routes: Mapping[str, float]
    ) -> None:
        self._queue = queue
        self._bound = TraceIdRatioBased.get_bound_for_rate(ratio)
        self._slow_seconds = slow_seconds
        self._slow_routes = dict(slow_routes)
        self.ratio = ratio
        self.slow_seconds = slow_seconds
        _samplers.add(self)
        self._start_over()
        forks.follow(in_child=self._start_over)

    def _start_over(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[int, _Trace] = OrderedDict()  # oldest first
        self._spans_held = 0
        self._verdicts: OrderedDict[int, bool] = OrderedDict()

    def change(self, ratio: float | None, slow_seconds: float | None) -> None:
        """Decide by these from now on; None leaves one as it is."""
        if ratio is not None:
            self.ratio, self._bound = ratio, TraceIdRatioBased.get_bound_for_rate(ratio)
        if slow_seconds is not None:
            self.slow_seconds = self._slow_seconds = slow_seconds

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing: spans are of interest when they have ended."""

    def on_end(self, span: ReadableSpan) -> None:
        """Hold `span`, or decide its trace if it is the local root."""
        context = span.get_span_context()
        if context is None or not context.trace_flags.sampled:
            return
        with self._lock:
            if span.parent is None or span.parent.is_remote:
                passed = self._decide(context.trace_id, span)
            else:
                passed = self._hold(context.trace_id, span)
            passed += self._let_go()
        for kept in passed:
            self._queue.put(kept)

    def _decide(self, trace_id: int, root: ReadableSpan) -> list[ReadableSpan]:
        trace = self._held.pop(trace_id, None) or _Trace()
        self._spans_held -= len(trace.spans)
        keep = (
            self._verdicts.get(trace_id, False)
            or trace.failed
            or _has_failed(root)
            or self._is_slow(root)
            or self._is_drawn(trace_id)
        )
        self._remember(trace_id, keep)
        return [*trace.spans, root] if keep else []

    def _hold(self, trace_id: int, span: ReadableSpan) -> list[ReadableSpan]:
        verdict = self._verdicts.get(trace_id)
        if verdict is not None and trace_id not in self._held:
            return [span] if verdict else []  # it ends after its root, as background work does
        trace = self._held.get(trace_id)
        if trace is None:
            trace = self._held[trace_id] = _Trace()
        trace.spans.append(span)
        trace.failed = trace.failed or _has_failed(span)
        self._spans_held += 1
        return []

    def _let_go(self) -> list[ReadableSpan]:
        """Decide by what is known so far those traces for which there is no more room, or time."""
        passed: list[ReadableSpan] = []
        too_old = time.monotonic() - HOLD_SECONDS
        while self._held:
            trace_id, trace = next(iter(self._held.items()))
            if self._spans_held <= MOST_SPANS and trace.since > too_old:
                break
            passed += self._give_up(trace_id)
        return passed

    def _give_up(self, trace_id: int) -> list[ReadableSpan]:
        trace = self._held.pop(trace_id)
        self._spans_held -= len(trace.spans)
        keep = trace.failed or self._is_drawn(trace_id)
        self._remember(trace_id, keep)
        if not keep:
            count_dropped("tail_undecided", len(trace.spans))
        return trace.spans if keep else []

    def _remember(self, trace_id: int, keep: bool) -> None:
        self._verdicts[trace_id] = keep
        if len(self._verdicts) > _VERDICTS:
            self._verdicts.popitem(last=False)

    def _is_drawn(self, trace_id: int) -> bool:
        return trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < self._bound

    def _is_slow(self, root: ReadableSpan) -> bool:
        if root.start_time is None or root.end_time is None:
            return False
        route = (root.attributes or {}).get("http.route")
        limit = self._slow_routes.get(str(route), self._slow_seconds)
        return root.end_time - root.start_time > limit * 1e9

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what is decided; what is held stays held."""
        return self._queue.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Decide what is held by what is known so far, and export what is kept."""
        with self._lock:
            passed = [span for trace_id in list(self._held) for span in self._give_up(trace_id)]
        for kept in passed:
            self._queue.put(kept)
        self._queue.shutdown()


def _has_failed(span: ReadableSpan) -> bool:
    return span.status.status_code is StatusCode.ERROR
