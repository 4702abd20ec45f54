"""Hearing of every query: listeners on SQLAlchemy's `Engine` class that stand around each call of the driver.

SQLAlchemy asks ``do_execute`` listeners whether they execute a statement in its stead. Ours do, by calling
what SQLAlchemy would have called next, so that a query ends in the same function in which it began: with its
result, or with whatever passes through, be it an error, an interruption or a cancelled task. (The other pair
of events, before and after a cursor's execution, has no such end: it is not told of every failure. It also
costs several times as much, because each connection joins its engine's listeners anew.)

All engines are heard, once each: made before or after, async (they are ordinary engines underneath), derived
by `execution_options`. Statements that bypass SQLAlchemy (`raw_connection()`) are not heard of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from opentelemetry.trace import Tracer
from sqlalchemy import event
from sqlalchemy.engine import Engine

from restaurant_otel.errors import survived
from restaurant_otel.sql.engines import ObservedEngine
from restaurant_otel.sql.queries import Query


class Observation:
    """The listeners, while they are installed, and the engines they have met.

    `tracer` is asked at the first query and, while it raises or returns None, at each further one; queries
    are counted all the same. None: no spans are wanted. `stock`: they begin as contrib's.
    """

    def __init__(self, tracer: Callable[[], Tracer | None] | None, stock: bool = False) -> None:
        self._find_tracer = tracer
        self._stock = stock
        self._tracer: Tracer | None = None
        # By the identity of the dialect, which an engine shares with those derived from it, and only they.
        self._engines: dict[int, ObservedEngine] = {}
        self._listeners: Final = (
            ("do_execute", self._do_execute),
            ("do_executemany", self._do_executemany),
            ("do_execute_no_params", self._do_execute_no_params),
        )

    def start(self) -> None:
        """Listen."""
        for name, listener in self._listeners:
            event.listen(Engine, name, listener)

    def stop(self) -> None:
        """Stop listening and forget everything. Queries in flight still end."""
        for name, listener in self._listeners:
            event.remove(Engine, name, listener)
        self._engines.clear()

    def _do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        query = self._begin(cursor, statement, parameters, context, False)
        if query is None:
            return False
        dialect = context.dialect
        return self._execute(
            query,
            self._do_execute,
            dialect.dispatch.do_execute,
            dialect.do_execute,
            (cursor, statement, parameters, context),
        )

    def _do_executemany(self, cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        query = self._begin(cursor, statement, parameters, context, True)
        if query is None:
            return False
        dialect = context.dialect
        return self._execute(
            query,
            self._do_executemany,
            dialect.dispatch.do_executemany,
            dialect.do_executemany,
            (cursor, statement, parameters, context),
        )

    def _do_execute_no_params(self, cursor: Any, statement: str, context: Any) -> bool:
        query = self._begin(cursor, statement, None, context, False)
        if query is None:
            return False
        dialect = context.dialect
        return self._execute(
            query,
            self._do_execute_no_params,
            dialect.dispatch.do_execute_no_params,
            dialect.do_execute_no_params,
            (cursor, statement, context),
        )

    def _begin(self, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> Query | None:
        try:
            engine = self._engines.get(id(context.dialect)) or self._meet(context.dialect)
            tracer = self._tracer or self._look_for_tracer()
            return engine.begin(cursor, statement, parameters, context, many, tracer)
        except Exception as error:  # noqa: BLE001 - SQLAlchemy executes the query as if we were not there
            survived("sql", error)
            return None

    def _execute(
        self,
        query: Query,
        ours: Callable[..., bool],
        listeners: Iterable[Callable[..., Any]],
        execute: Callable[..., None],
        arguments: tuple[Any, ...],
    ) -> bool:
        """Do what SQLAlchemy would do if `ours` had declined; True says that it is done."""
        try:
            # Those before ours have declined already; one behind it may still execute the statement its way.
            waiting = False
            for listener in listeners:
                if waiting and listener(*arguments):
                    break
                waiting = waiting or listener == ours
            else:
                execute(*arguments)
        except BaseException as error:
            _end(query, error)
            raise
        _end(query, None)
        return True

    def _look_for_tracer(self) -> Tracer | None:
        if self._find_tracer is not None:
            try:
                self._tracer = self._find_tracer()
            except Exception as error:  # noqa: BLE001 - asked again at the next query, which is counted anyway
                survived("sql", error)
        return self._tracer

    def _meet(self, dialect: Any) -> ObservedEngine:
        key, engines = id(dialect), self._engines
        return engines.setdefault(key, ObservedEngine(dialect, lambda: engines.pop(key, None), self._stock))


def _end(query: Query, error: BaseException | None) -> None:
    try:
        query.end(error)
    except Exception as ours:  # noqa: BLE001 - whatever a span processor of the host raises
        survived("sql", ours)
