"""Hearing of every query: listeners on SQLAlchemy's `Engine` class, hence on every engine, once each.

Engines made before and after, async engines (which are ordinary engines underneath) and engines made from
others by `execution_options` all go through the class's listeners. What a query means is not known here:
that is for `engines.py`. Statements that bypass SQLAlchemy (a cursor of `raw_connection()`) and those with
which a dialect sets itself up on its first connection are not heard of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from opentelemetry.trace import Tracer
from sqlalchemy import event
from sqlalchemy.engine import Engine

from restaurant_otel.errors import survived
from restaurant_otel.sql.engines import QUERY, ObservedEngine
from restaurant_otel.sql.queries import Query, abandoned, sweep


class Observation:
    """The listeners, while they are installed, and the engines they have met.

    `tracer` is asked at the first query and, while it raises or returns None, at each further one; queries
    are counted all the same. None: no spans are wanted.
    """

    def __init__(self, tracer: Callable[[], Tracer | None] | None) -> None:
        self._find_tracer = tracer
        self._tracer: Tracer | None = None
        # By the identity of the dialect, which an engine shares with those derived from it, and only they.
        self._engines: dict[int, ObservedEngine] = {}
        # Class-level listeners are called before an engine's own: statements come as SQLAlchemy made them,
        # not yet decorated with comments that differ each time.
        self._listeners: Final[tuple[tuple[str, Callable[..., Any], dict[str, bool]], ...]] = (
            ("before_cursor_execute", self._before, {"retval": True}),
            ("after_cursor_execute", self._after, {}),
            ("handle_error", self._failed, {}),
        )

    def start(self) -> None:
        """Listen."""
        for name, listener, options in self._listeners:
            event.listen(Engine, name, listener, **options)

    def stop(self) -> None:
        """Stop listening and forget everything. Queries in flight at that moment are not told."""
        for name, listener, _ in self._listeners:
            event.remove(Engine, name, listener)
        self._engines.clear()
        sweep()

    def tracer(self) -> Tracer | None:
        """The tracer, found once; None while there is none."""
        if self._tracer is None and self._find_tracer is not None:
            try:
                self._tracer = self._find_tracer()
            except Exception as error:  # noqa: BLE001 - asked again at the next query, which is counted anyway
                survived("sql", error)
        return self._tracer

    def _before(
        self, conn: Any, cursor: Any, statement: str, params: Any, context: Any, executemany: bool
    ) -> tuple[str, Any]:
        try:
            if abandoned:
                sweep()
            engine = self._engines.get(id(conn.dialect)) or self._meet(conn)
            return engine._before_cur_exec(conn, cursor, statement, params, context, executemany)
        except Exception as error:  # noqa: BLE001 - the query matters more than its telemetry
            survived("sql", error)
            return statement, params

    def _after(self, conn: Any, *rest: Any) -> None:
        context = rest[3]  # after cursor, statement and parameters
        _end(conn if context is None else context, None)

    def _failed(self, failure: Any) -> None:
        # Called for every BaseException: interruptions and cancelled tasks come this way too.
        _end(failure.execution_context or failure.connection, failure.original_exception)

    def _meet(self, conn: Any) -> ObservedEngine:
        key = id(conn.dialect)
        engines = self._engines
        return engines.setdefault(key, ObservedEngine(conn, self.tracer, lambda: engines.pop(key, None)))


def _end(holder: Any, error: BaseException | None) -> None:
    try:
        query: Query | None = holder.__dict__.pop(QUERY, None) if holder is not None else None
        if query is not None:
            query.end(error)
    except Exception as ours:  # noqa: BLE001 - the query matters more than its telemetry
        survived("sql", ours)
