"""Spans begun by contrib's own `EngineTracer`, for dashboards that were built on its names and attributes.

It follows ``OTEL_SEMCONV_STABILITY_OPT_IN``, shows statements as they are, literals included, and costs
what it costs. What made it unreliable stays out: it gets no listeners of its own (on async engines those
lose spans), no pool counters, and `queries.py` ends its spans. Not used unless `install` is told to.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import Span, Tracer

EngineTracer: Any
try:
    from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
except Exception:  # noqa: BLE001 - whatever keeps it from being imported: `start_span` then gives None
    EngineTracer = object


class StockTracer(EngineTracer):  # type: ignore[misc]  # the package has no types
    """Contrib's tracer of one engine, told of queries by us."""

    @classmethod
    def _register_event_listener(cls, *_: Any, **__: Any) -> None:
        """Nothing: `observation.py` listens."""


def start_span(
    tracer: Tracer, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
) -> Span | None:
    """The span that contrib would begin for this statement; None where its tracer is not to be had."""
    if EngineTracer is object:
        return None
    connection = context.root_connection
    # Made anew each time: it holds nothing but what it reads from the engine in a few microseconds.
    stock = StockTracer(tracer, connection.engine, None)
    stock._before_cur_exec(connection, cursor, statement, parameters, context, many)
    span: Span | None = context._otel_span
    context._otel_span = None
    return span
