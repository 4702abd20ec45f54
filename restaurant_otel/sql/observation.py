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

from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

from opentelemetry.trace import Tracer
from sqlalchemy import event
from sqlalchemy.engine import Engine

from restaurant_otel.current import REQUEST_KEY, present
from restaurant_otel.errors import survived
from restaurant_otel.sql import queries, repeats
from restaurant_otel.sql.engines import SUPPRESSING, ObservedEngine
from restaurant_otel.sql.fetching import USUAL
from restaurant_otel.sql.keeper import Keeper
from restaurant_otel.sql.options import Options
from restaurant_otel.sql.pools import Pools
from restaurant_otel.sql.spans import LeanSpans, Spans, spans_of

EXECUTE: Final = "do_execute"
MANY: Final = "do_executemany"
NO_PARAMETERS: Final = "do_execute_no_params"
MOST_ROWS: Final = 1 << 40
"""Some drivers say 2**64 - 1 for "not known"."""


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
        self._comments = bool(self._options.comments)
        self._spans: Spans | LeanSpans | None = None
        self.pools = Pools()
        self.keeper = Keeper(self.pools.observe)
        # By the identity of the dialect, which an engine shares with those derived from it, and only they.
        self._engines: dict[int, ObservedEngine] = {}
        self._slow = self._options.slow_seconds
        self._repeats = self._options.repeats
        self._listeners: Final[dict[str, Callable[..., bool]]] = {
            EXECUTE: self._do_execute,
            MANY: self._do_executemany,
            NO_PARAMETERS: self._do_execute_no_params,
        }

    def start(self) -> None:
        """Listen."""
        for name, listener in self._listeners.items():
            event.listen(Engine, name, listener)
        self.pools.start()

    def stop(self) -> None:
        """Stop listening and forget everything. Queries in flight still end."""
        for name, listener in self._listeners.items():
            event.remove(Engine, name, listener)
        self.pools.stop()
        self.keeper.stop()
        self._engines.clear()

    def judge_by(self, options: Options) -> None:
        """Judge queries by these from now on."""
        self._options = options
        self._slow = options.slow_seconds
        self._repeats = options.repeats
        for engine in list(self._engines.values()):
            engine.options = options

    # One function from a query's beginning to its end, and nothing kept in between but its variables: calls and
    # objects for the steps cost a sixth more. A query passes here with cold caches: what it touches is what it costs.
    def _do_execute(
        self, cursor: Any, statement: str, parameters: Any, context: Any, way: str = EXECUTE
    ) -> bool:
        """Execute a statement in the dialect's stead, if it is to be told; `way` is the dialect's method for it."""
        try:
            dialect = context.dialect
            engine = self._engines.get(id(dialect)) or self._meet(dialect)
            request = route = span = None
            current = present()
            if current:
                # Suppression (an exporter that writes to a database, say) means no telemetry of any kind.
                if not SUPPRESSING.isdisjoint(current) and any(current.get(key) for key in SUPPRESSING):
                    return False
                request = current.get(REQUEST_KEY)
                if request is not None:
                    route = request.route  # type: ignore[attr-defined]
            if way is EXECUTE:
                alone = dialect.dispatch.do_execute is engine.shared and len(engine.listeners) == 1
                try:
                    known = engine.recent[statement]
                except KeyError:
                    known = engine.known(statement, context)
            else:
                alone = False
                known = engine.known(statement, context, batch=way is MANY and len(parameters) > 1)
            asked = engine.commented(statement, route) if self._comments else statement
            if self._find_tracer is not None:
                spans = self._spans or self._look_for_tracer()
                # Ours begins last, so that nothing can come between it and its end.
                if spans is not None:
                    span = engine.start_span(
                        spans, known, cursor, statement, parameters, context, way is MANY, current
                    )
        except Exception as error:  # noqa: BLE001 - SQLAlchemy executes the query as if we were not there
            survived("sql", error)
            return False
        began = perf_counter()
        try:
            if alone:
                dialect.do_execute(cursor, asked, parameters, context)
            else:
                self._go_on(way, cursor, asked, parameters, context)
        except BaseException as error:
            duration = perf_counter() - began
            queries.failed(error, known, route, span, duration)
            engine.failed(known, request, route, span, began, duration, statement, parameters, context)
            raise
        duration = perf_counter() - began
        try:
            try:
                series = known.series[route]
            except KeyError:
                series = known.open(route)
            if span is None:
                series.durations.record(duration)
            if known.reads:
                strategy = series.fetching
                rows = getattr(cursor, "rowcount", None)
                if rows is not None and 0 <= rows < MOST_ROWS:
                    strategy = series.fetching_known_rows
                    series.rows.add(rows)
                    if span is not None:
                        queries.set_rows(span, rows)
                if (
                    context.cursor_fetch_strategy is USUAL
                    # It is the context's own, and not one on its behalf, such as a sequence's: then there may be none.
                    and statement is getattr(context, "statement", None)
                    and not context._is_server_side
                    and not context.execution_options.get("stream_results")
                ):
                    context.cursor_fetch_strategy = strategy
            if span is not None:
                queries.succeeded(known, series, span, began, duration)
            if request is not None:
                request.add_timing("db", duration)  # type: ignore[attr-defined]
                if known.reads and self._repeats:
                    repeats.count(known, request, route, began, duration, context, self._repeats, self.keeper)
            if duration >= self._slow:
                engine.slow(known, route, duration, span, statement, parameters, context, True)
        except Exception as error:  # noqa: BLE001 - whatever a span processor of the host raises
            survived("sql", error)
        return True

    def _do_executemany(self, cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
        return self._do_execute(cursor, statement, parameters, context, MANY)

    def _do_execute_no_params(self, cursor: Any, statement: str, context: Any) -> bool:
        return self._do_execute(cursor, statement, None, context, NO_PARAMETERS)

    def _go_on(self, way: str, cursor: Any, statement: str, parameters: Any, context: Any) -> None:
        """Do what SQLAlchemy would do if we had declined."""
        without = way is NO_PARAMETERS
        arguments = (cursor, statement, context) if without else (cursor, statement, parameters, context)
        # Those before ours have declined already; one behind it may still execute the statement its way.
        dialect, ours, behind = context.dialect, self._listeners[way], False
        for listener in getattr(dialect.dispatch, way):
            if behind and listener(*arguments):
                return
            behind = behind or listener == ours
        getattr(dialect, way)(*arguments)

    def _look_for_tracer(self) -> Spans | LeanSpans | None:
        try:
            tracer = self._find_tracer() if self._find_tracer is not None else None
            self._spans = spans_of(tracer) if tracer is not None else None
        except Exception as error:  # noqa: BLE001 - asked again at the next query, which is counted anyway
            survived("sql", error)
        return self._spans

    def _meet(self, dialect: Any) -> ObservedEngine:
        key, engines = id(dialect), self._engines
        met = ObservedEngine(dialect, lambda: engines.pop(key, None), self._stock, self._options, self.keeper)
        return engines.setdefault(key, met)
