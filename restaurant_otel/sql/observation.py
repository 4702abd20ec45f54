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
from restaurant_otel.sql.keeper import Keeper
from restaurant_otel.sql.options import Options
from restaurant_otel.sql.pools import Pools
from restaurant_otel.sql.queries import Query
from restaurant_otel.sql.spans import LeanSpans, Spans, spans_of


class Observation:
    """The listeners, while they are installed, and the engines they have met.

    `tracer` is asked at the first query and, while it raises or returns None, at each further one; queries
    are counted all the same. None: no spans are wanted. `stock`: they begin as contrib's.
    """

    def __init__(
        self, tracer: Callable[[], Tracer | None] | None, stock: bool = False, options: Options | None = None
    ) -> None:
        self._find_tracer = tracer
        self._stock = stock
        self._options = options or Options()
        self._spans: Spans | LeanSpans | None = None
        self.pools = Pools()
        self.keeper = Keeper(self.pools.observe)
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
        self.pools.start()

    def stop(self) -> None:
        """Stop listening and forget everything. Queries in flight still end."""
        for name, listener in self._listeners:
            event.remove(Engine, name, listener)
        self.pools.stop()
        self.keeper.stop()
        self._engines.clear()

    def judge_by(self, options: Options) -> None:
        """Judge queries by these from now on."""
        self._options = options
        for engine in list(self._engines.values()):
            engine.options = options

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
            (cursor, self._commented(query, statement), parameters, context),
            parameters,
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
            (cursor, self._commented(query, statement), parameters, context),
            parameters,
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
            (cursor, self._commented(query, statement), context),
            None,
        )

    def _begin(self, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> Query | None:
        try:
            engine = self._engines.get(id(context.dialect)) or self._meet(context.dialect)
            spans = self._spans or self._look_for_tracer()
            return engine.begin(cursor, statement, parameters, context, many, spans)
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
        parameters: Any,
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
            _end(query, error, arguments, parameters)
            raise
        _end(query, None, arguments, parameters)
        return True

    def _commented(self, query: Query, statement: str) -> str:
        return query.commented(statement) if self._options.comments else statement

    def _look_for_tracer(self) -> Spans | LeanSpans | None:
        if self._find_tracer is not None:
            try:
                tracer = self._find_tracer()
                self._spans = spans_of(tracer) if tracer is not None else None
            except Exception as error:  # noqa: BLE001 - asked again at the next query, which is counted anyway
                survived("sql", error)
        return self._spans

    def _meet(self, dialect: Any) -> ObservedEngine:
        key, engines = id(dialect), self._engines
        met = ObservedEngine(dialect, lambda: engines.pop(key, None), self._stock, self._options, self.keeper)
        return engines.setdefault(key, met)


def _end(query: Query, error: BaseException | None, arguments: tuple[Any, ...], parameters: Any) -> None:
    try:
        query.end(error, arguments[0], arguments[1], parameters, arguments[-1])
    except Exception as ours:  # noqa: BLE001 - whatever a span processor of the host raises
        survived("sql", ours)
