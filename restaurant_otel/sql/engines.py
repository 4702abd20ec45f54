"""An engine under observation: what is known of its statements, and how a query begins.

A statement is read once; its span's name and attributes and the cells that count it are remembered, so that
the next execution costs a look into a dict. `observation.py` says when queries begin and end.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Final

from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import Span, SpanKind, Tracer

from restaurant_otel import catalog
from restaurant_otel.current import current_request
from restaurant_otel.errors import survived
from restaurant_otel.metrics import HistogramCell, registry
from restaurant_otel.sql import databases, lexing, statements, stock
from restaurant_otel.sql.queries import Query
from restaurant_otel.sql.statements import MOST_READ, Statement

MOST_REMEMBERED: Final = 2_000
"""Statements remembered per engine; the least recently used half goes at once."""
MOST_ROUTES: Final = 1_000
"""Routes whose cell a statement remembers; further ones are looked up each time."""


class Known:
    """One statement on one database: its span's name and attributes, and the cells that count it."""

    __slots__ = ("_labels", "_summary", "attributes", "cells", "name")

    def __init__(self, statement: Statement, database: databases.Database, batch: bool) -> None:
        prefix = "BATCH " if batch else ""
        operation = (prefix + (statement.operation or "")).strip() or None
        summary = (prefix + statement.summary).strip()
        self.name = summary or database.namespace or database.system
        attributes = {
            "db.system.name": database.system,
            "db.namespace": database.namespace,
            "db.operation.name": operation,
            "db.collection.name": statement.collection,
            "db.query.summary": summary,
            "db.query.text": statement.text,
            "server.address": database.address,
            "server.port": database.port,
        }
        self.attributes = {name: value for name, value in attributes.items() if value}
        self._labels = (database.system, operation, statement.collection, database.namespace)
        self._summary = summary
        self.cells: dict[str | None, HistogramCell] = {}

    def bind(self, route: str | None) -> HistogramCell:
        """The cell for executions that succeed while `route` is served."""
        cell = self.bind_failure(route, None)
        if len(self.cells) < MOST_ROUTES:
            self.cells[route] = cell
        return cell

    def bind_failure(self, route: str | None, failure: str | None) -> HistogramCell:
        """The cell for those that end with the error type `failure`."""
        return (
            registry()
            .histogram(catalog.DB_CLIENT_OPERATION_DURATION)
            .bind(*self._labels, route, failure, self._summary or None)
        )


class ObservedEngine:
    """What is known of the engine whose dialect this is.

    `forget` is called when the dialect is gone; with `stock_spans` spans begin as contrib's. The memory is a
    pair of dicts used without a lock; threads that race at worst read a statement twice.
    """

    def __init__(self, dialect: Any, forget: Callable[[], object], stock_spans: bool) -> None:
        self._stock = stock_spans
        self._dialect = weakref.ref(dialect, lambda _: forget())
        self._rules = lexing.quoting(dialect.name)
        self._young: dict[str, Known] = {}
        self._old: dict[str, Known] = {}

    def begin(
        self, cursor: Any, statement: str, parameters: Any, context: Any, many: bool, tracer: Tracer | None
    ) -> Query | None:
        """A query that has begun; None where nothing is to be told.

        `many`: the driver is asked to execute `statement` once for each of `parameters`. `context` is
        SQLAlchemy's execution context. Without `tracer` the query is counted but has no span.
        """
        # Suppression (an exporter that writes to a database, say) means no telemetry of any kind.
        if not is_instrumentation_enabled():
            return None
        text = getattr(context, "statement", None)  # not there yet while a default is being computed
        if statement is not text:
            text = _undecorated(statement, text)
        if many and len(parameters) > 1:
            known = self._known(text, True, context)
            attributes = {**known.attributes, "db.operation.batch.size": len(parameters)}
        else:
            try:  # the dict itself first: a call less on the way of nearly every query
                known = self._young[text]
            except KeyError:
                known = self._known(text, False, context)
            attributes = known.attributes
        request = current_request()
        route = None if request is None else request.route
        span: Span | None = None
        # Where contrib's tracer watches the engine too, it has left its span on the context: one is enough.
        # Ours begins last, so that nothing can come between it and the caller who will end it.
        if tracer is not None and getattr(context, "_otel_span", None) is None:
            try:
                if self._stock:
                    span = stock.start_span(tracer, cursor, statement, parameters, context, many)
                if span is None:
                    span = tracer.start_span(known.name, kind=SpanKind.CLIENT, attributes=attributes)
            except Exception as error:  # noqa: BLE001 - a sampler or processor of the host: the query still counts
                survived("sql", error)
        return Query(known, request, route, span)

    def _known(self, text: str, batch: bool, context: Any) -> Known:
        text = text[:MOST_READ]
        key = f"BATCH {text}" if batch else text
        known = self._young.get(key)
        if known is None:
            known = self._old.get(key)
            if known is None:
                database = databases.describe(context.root_connection)
                known = Known(statements.read(text, self._rules), database, batch)
            if len(self._young) >= MOST_REMEMBERED // 2:
                self._old, self._young = self._young, {}
            self._young[key] = known
        return known


def _undecorated(statement: str, original: str | None) -> str:
    # Listeners of the host may have put a comment around what SQLAlchemy made, with a trace id that differs
    # each time. (Or this is a statement on behalf of the context's own: a sequence's, a part of its rows.)
    if original and (statement.startswith(original) or statement.endswith(original)):
        return original
    return statement
