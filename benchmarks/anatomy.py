"""Where our microseconds go: by option, by function, and what the building blocks cost on this machine.

`python -m benchmarks.http --profile` prints it. For whoever works on the request path; it promises nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import pstats
import time
from collections.abc import Callable
from typing import Any

from opentelemetry import context, propagate, trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from benchmarks import harness, peers
from benchmarks.harness import Variant
from restaurant_otel import ASGIMiddleware, catalog
from restaurant_otel.metrics import registry

NUMBER = 200


def run(arguments: argparse.Namespace) -> int:
    """Print all tables."""
    by_option(arguments.rounds)
    loop = asyncio.new_event_loop()
    asgi_bare = peers.asgi_runner(peers.asgi_bare(), loop)
    wsgi_bare = peers.wsgi_runner(peers.WSGI["bare"]())
    for name in ("ours 100 %", "ours 0 %"):
        by_function(f"ASGI, {name}", asgi_bare, peers.asgi_runner(peers.ASGI[name](), loop))
        by_function(f"WSGI, {name}", wsgi_bare, peers.wsgi_runner(peers.WSGI[name]()))
    by_block(arguments.rounds)
    return 0


# --- by option ----------------------------------------------------------------------------------------


class _Dropping(SpanProcessor):
    """Takes spans and does nothing: what remains is the cost of making them."""

    def on_end(self, span: ReadableSpan) -> None:
        pass


def _with(tracer_provider: trace.TracerProvider, **settings: Any) -> peers.Subject[peers.ASGIApp]:
    return peers.Subject(ASGIMiddleware(peers.starlette_app(), tracer_provider=tracer_provider, **settings))


def _without_queue() -> peers.Subject[peers.ASGIApp]:
    provider = TracerProvider()
    provider.add_span_processor(_Dropping())
    return _with(provider)


def _hook(span: trace.Span, scope: dict[str, Any]) -> None:
    pass


OPTIONS: dict[str, Callable[[], peers.Subject[peers.ASGIApp]]] = {
    "bare": peers.asgi_bare,
    "excluded": lambda: peers.asgi_ours(excluded_urls="area10"),
    "no tracing (no-op provider)": lambda: _with(trace.NoOpTracerProvider()),
    "0 %": lambda: peers.asgi_ours(sampled=False),
    "100 %, processor that does nothing": _without_queue,
    "100 %": peers.asgi_ours,
    "100 %, /metrics off": lambda: peers.asgi_ours(metrics_path="off"),
    "100 %, request hook": lambda: peers.asgi_ours(server_request_hook=_hook),
    "100 %, all opt-in attributes": lambda: peers.asgi_ours(opt_in_attributes="all"),
    "100 %, two request headers captured": lambda: peers.asgi_ours(
        http_capture_headers_server_request="accept-language,cache-control"
    ),
    "100 %, Server-Timing": lambda: peers.asgi_ours(server_timing=True),
    "100 %, traceresponse": lambda: peers.asgi_ours(trace_response_header=True),
}


def by_option(rounds: int) -> None:
    loop = asyncio.new_event_loop()
    runs = {name: peers.asgi_runner(build(), loop) for name, build in OPTIONS.items()}
    costs = harness.measure([Variant(*item) for item in runs.items()], number=NUMBER, rounds=rounds)
    harness.show("Ours by option (ASGI, Starlette, 20 routes)", costs, [], over="bare")


# --- by function --------------------------------------------------------------------------------------


def by_function(
    title: str, bare_run: Callable[[int], None], ours_run: Callable[[int], None], most: int = 30
) -> None:
    """Calls and own time of each function a request, without those that the bare app calls as often.

    The profiler itself costs a fraction of a microsecond a call: read shares and counts, not sums.
    """
    bare, ours = _profile(bare_run), _profile(ours_run)
    rows = []
    for place, (calls, own) in ours.items():
        calls_bare, own_bare = bare.get(place, (0.0, 0.0))
        if calls - calls_bare > 0.01:
            rows.append((own - own_bare, calls - calls_bare, place))
    rows.sort(reverse=True)
    total = sum(own for own, _, _ in rows)
    print(f"\n{title}, by function: {total:.1f} us a request under the profiler\n")
    table = [(place, f"{calls:.2f}", f"{own:.2f}", f"{own / total:.0%}") for own, calls, place in rows[:most]]
    harness.table(("", "calls", "own us", "share"), table)


def _profile(run_requests: Callable[[int], None], requests: int = 5000) -> dict[str, tuple[float, float]]:
    run_requests(NUMBER)
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(requests // NUMBER):
        run_requests(NUMBER)
    profiler.disable()
    seen: dict[str, tuple[float, float]] = {}
    entries: dict[tuple[str, int, str], tuple[int, int, float, float, Any]] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    for (file, line, function), (_, calls, own, _, _) in entries.items():
        place = f"{'/'.join(file.split(os.sep)[-2:])}:{line} {function}" if line else function
        before = seen.get(place, (0.0, 0.0))
        seen[place] = (before[0] + calls / requests, before[1] + own / requests * 1e6)
    return seen


# --- by building block --------------------------------------------------------------------------------


def _repeat(step: Callable[[], object], flush: Callable[[], None]) -> Callable[[int], None]:
    def run_step(number: int) -> None:
        for _ in range(number):
            step()
        flush()

    return run_step


def by_block(rounds: int) -> None:
    """What one call of each costs, a call of an empty function taken off."""
    pipeline = peers.Pipeline(sampled=True)
    tracer = pipeline.tracer_provider.get_tracer("blocks")
    unsampled = peers.Pipeline(sampled=False).tracer_provider.get_tracer("blocks")
    attributes = {f"http.attribute.{n}": f"value {n}" for n in range(10)}
    labels = dict(list(attributes.items())[:6])
    carrier = dict(peers.HEADERS)
    span = trace.NonRecordingSpan(trace.SpanContext(1, 1, is_remote=False))
    ids = RandomIdGenerator()
    values = ("GET", "/area10/items/{item_id}", 200, "http", "1.1", None)
    instrument = registry().histogram(catalog.HTTP_SERVER_REQUEST_DURATION)
    cell = instrument.bind(*values)
    sdk = pipeline.meter_provider.get_meter("blocks").create_histogram("blocks")

    def enter_and_leave() -> None:
        context.detach(context.attach(trace.set_span_in_context(span)))

    def sampled_span() -> None:
        tracer.start_span("GET", kind=trace.SpanKind.SERVER, attributes=attributes).end()

    steps: dict[str, Callable[[], object]] = {
        "empty call": lambda: None,
        "perf_counter": lambda: time.perf_counter(),
        "time_ns": lambda: time.time_ns(),
        "span id": lambda: ids.generate_span_id(),
        "trace id": lambda: ids.generate_trace_id(),
        "extract traceparent and baggage": lambda: propagate.extract(carrier),
        "span into context, attach, detach": enter_and_leave,
        "SDK span, unsampled": lambda: unsampled.start_span("GET").end(),
        "SDK span, 10 attributes, batch processor": sampled_span,
        "cell.record": lambda: cell.record(0.02),
        "cell.record_with_exemplar": lambda: cell.record_with_exemplar(0.02, 1, 1),
        "instrument.bind, known set": lambda: instrument.bind(*values),
        "SDK histogram.record, 6 attributes": lambda: sdk.record(0.02, labels),
    }
    variants = [Variant(name, _repeat(step, pipeline.flush)) for name, step in steps.items()]
    costs = harness.measure(variants, number=500, rounds=rounds)
    harness.show("Building blocks, one call each", costs, [], over="empty call")
