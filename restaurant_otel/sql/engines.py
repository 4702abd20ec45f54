"""An engine under observation: what is known of its statements, and how one begins.

`ObservedEngine` is contrib's `EngineTracer` with another way to begin. Contrib's works the same URL out anew
for every query, shows literals, and learns of queries through listeners of its own on each engine, of which
an async engine gets two and loses a span a query; and its constructor fixes the process's choice of
semantic conventions. Ours remembers what it said of a statement last time, always speaks the stable
conventions, and is told of queries by `observation.py`, once. Where a future contrib has no `EngineTracer`,
the same class stands alone: nothing it calls is private.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Final

from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import Span, SpanKind, Tracer

from restaurant_otel import catalog
from restaurant_otel.current import current_route
from restaurant_otel.errors import survived
from restaurant_otel.metrics import HistogramCell, registry
from restaurant_otel.sql import databases, lexing, statements
from restaurant_otel.sql.queries import Query
from restaurant_otel.sql.statements import MOST_READ, Statement

EngineTracer: Any
try:
    from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
except Exception:  # noqa: BLE001 - a package that cannot be imported, for whatever reason, is not there
    EngineTracer = object

MOST_REMEMBERED: Final = 2_000
"""Statements remembered per engine; the least recently used half goes at once."""
MOST_ROUTES: Final = 1_000
"""Routes whose cell a statement remembers; further ones are looked up each time."""

QUERY: Final = "_restaurant_otel_query"
"""Where an execution context holds its `Query`."""


class Known:
    """One statement on one database: its span's name and attributes, and the cells that count it."""

    __slots__ = ("_labels", "attributes", "cells", "name")

    def __init__(self, statement: Statement, database: databases.Database, batch: bool) -> None:
        prefix = "BATCH " if batch else ""
        operation = prefix + statement.operation if statement.operation else prefix.strip() or None
        summary = prefix + statement.summary if statement.summary else prefix.strip()
        self.name = summary or database.namespace or database.system
        self.attributes = {
            key: value
            for key, value in (
                ("db.system.name", database.system),
                ("db.namespace", database.namespace),
                ("db.operation.name", operation),
                ("db.collection.name", statement.collection),
                ("db.query.summary", summary),
                ("db.query.text", statement.text),
                ("server.address", database.address),
                ("server.port", database.port),
            )
            if value
        }
        self._labels = (database.system, operation, statement.collection, database.namespace)
        self.cells: dict[str | None, HistogramCell] = {}

    def bind(self, route: str | None) -> HistogramCell:
        """The cell for executions that succeed while `route` is served."""
        cell = self.bind_failure(route, None)
        if len(self.cells) < MOST_ROUTES:
            self.cells[route] = cell
        return cell

    def bind_failure(self, route: str | None, failure: str | None) -> HistogramCell:
        """The cell for those that end with the error type `failure`."""
        return registry().histogram(catalog.DB_CLIENT_OPERATION_DURATION).bind(*self._labels, route, failure)


class ObservedEngine(EngineTracer):  # type: ignore[misc]  # the package has no types
    """What is known of one engine. `forget` is called when the engine's dialect is gone.

    Its memory is a dict read without a lock; threads that race at worst read one statement twice.
    """

    def __init__(
        self, connection: Any, tracer: Callable[[], Tracer | None], forget: Callable[[], object]
    ) -> None:
        # Not super().__init__(): it listens, to the pool too, and fixes the process's semantic conventions.
        dialect = connection.dialect
        self._dialect = weakref.ref(dialect, lambda _: forget())
        self._tracer = tracer
        self._rules = lexing.quoting(dialect.name)
        self._database = databases.describe(connection)
        self._young: dict[str, Known] = {}
        self._old: dict[str, Known] = {}
        self._foreign: tuple[int, object] = (-1, None)
        self._traced_elsewhere = False

    def _before_cur_exec(
        self,
        conn: Any,
        cursor: Any,  # noqa: ARG002 - contrib's signature
        statement: str,
        params: Any,
        context: Any,
        executemany: bool,
    ) -> tuple[str, Any]:
        # Suppression (an exporter that writes to a database, say) means no telemetry of any kind.
        if is_instrumentation_enabled():
            size = _batch_size(params, context) if executemany else 1
            if size > 1:
                known = self._known(statement, batch=True)
                span = self._start(known, {**known.attributes, "db.operation.batch.size": size})
            else:
                try:  # the dict itself first: a call less on the way of nearly every query
                    known = self._young[statement]
                except KeyError:
                    known = self._known(statement)
                span = self._start(known, known.attributes)
            holder = conn if context is None else context
            holder.__dict__[QUERY] = Query(known, current_route(), span)
        return statement, params

    def _start(self, known: Known, attributes: dict[str, Any]) -> Span | None:
        tracer = self._tracer()
        if tracer is None or self._is_traced_elsewhere():
            return None
        try:
            return tracer.start_span(known.name, kind=SpanKind.CLIENT, attributes=attributes)
        except Exception as error:  # noqa: BLE001 - a sampler or processor of the host: the query still counts
            survived("sql", error)
            return None

    def _known(self, text: str, batch: bool = False) -> Known:
        text = text[:MOST_READ]
        key = f"BATCH {text}" if batch else text
        known = self._young.get(key)
        if known is None:
            known = self._old.get(key)
            if known is None:
                known = Known(statements.read(text, self._rules), self._database, batch)
            if len(self._young) >= MOST_REMEMBERED // 2:
                self._old, self._young = self._young, {}
            self._young[key] = known
        return known

    def _is_traced_elsewhere(self) -> bool:
        # Contrib's instrumentor may come, and go, at any time. Its list of listeners tells: looked through
        # only when its length or its last entry has changed.
        listeners = getattr(EngineTracer, "_remove_event_listener_params", ())
        state = (len(listeners), listeners[-1] if listeners else None)
        if state != self._foreign:
            dialect = self._dialect()
            self._traced_elsewhere = any(
                identifier == "before_cursor_execute" and getattr(engine(), "dialect", None) is dialect
                for engine, identifier, _ in list(listeners)
            )
            self._foreign = state
        return self._traced_elsewhere


def _batch_size(params: Any, context: Any) -> int:
    """How many executions the driver is asked for at once.

    SQLAlchemy's "insertmanyvalues" calls itself executemany too, but is one statement with many rows.
    """
    style = getattr(context, "execute_style", None)
    if style is not None and style.name != "EXECUTEMANY":
        return 1
    return len(params) if isinstance(params, (list, tuple)) else 1
