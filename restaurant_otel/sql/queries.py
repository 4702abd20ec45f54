"""One statement in flight, how it ended, and the fetching of its rows.

A `Query` is begun by `engines.py` and ended by `observation.py`. It carries nothing of the statement's
values: an error is told by its type and the database's code for it, because the messages of databases quote
the values they object to. Nor does it attach itself to the current context: while a statement executes,
that stays the caller's.

When its statement was executed it stays with the result as the strategy by which SQLAlchemy fetches rows, and
times that. Results that are buffered or streamed by a strategy of SQLAlchemy's choice keep that.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import Span, Status, StatusCode

from restaurant_otel.conventions import error_type
from restaurant_otel.errors import survived
from restaurant_otel.sql import repeats
from restaurant_otel.tracing.span import ServerSpan

if TYPE_CHECKING:
    from restaurant_otel.sql.engines import ObservedEngine
    from restaurant_otel.sql.series import Known, Series

_Strategy: Any
_usual: Any = None
try:  # where SQLAlchemy keeps these elsewhere, fetching is not timed
    from sqlalchemy.engine import cursor as cursors
    from sqlalchemy.engine.default import DefaultExecutionContext

    _Strategy, _usual = cursors.CursorFetchStrategy, cursors._DEFAULT_FETCH
    if not hasattr(DefaultExecutionContext, "_is_server_side"):
        _usual = None
except (ImportError, AttributeError):
    _Strategy = object

_MOST_ROWS: Final = 1 << 40  # some drivers say 2**64 - 1 for "not known"


class Query(_Strategy):  # type: ignore[misc]
    """A statement that is being executed; `end` is called once, by the thread or task that executes it."""

    __slots__ = (
        "_counts_rows",
        "_engine",
        "_fetching",
        "_known",
        "_own",
        "_request",
        "_route",
        "_rows",
        "_series",
        "_span",
        "_started",
    )

    def __init__(
        self,
        engine: ObservedEngine,
        known: Known,
        request: Any,
        route: str | None,
        span: Span | None,
        own: bool,
    ) -> None:
        """`own`: the statement is its context's, and not one on its behalf (a sequence's)."""
        self._engine = engine
        self._known = known
        self._request = request
        self._route = route
        self._span = span
        self._own = own
        self._started = perf_counter()

    def commented(self, statement: str) -> str:
        """`statement` as the database shall see it. Never raises: without a comment it does as well."""
        try:
            return statement + self._engine.comment(self._route)
        except Exception as error:  # noqa: BLE001 - on the way to the driver
            survived("sql comments", error)
            return statement

    def end(
        self, error: BaseException | None, cursor: Any, statement: str, parameters: Any, context: Any
    ) -> None:
        """The statement was executed, or failed with `error`."""
        now = perf_counter()
        duration = now - self._started
        known, span, route, request = self._known, self._span, self._route, self._request
        cell = None
        if error is None:
            try:
                series = known.series[route]
            except KeyError:
                series = known.open(route)
            cell = series.duration
            series.by_statement.record(duration)
            if known.reads:
                rows = cursor.rowcount
                if 0 <= rows < _MOST_ROWS:
                    series.rows.add(rows)
                    if span is not None:
                        _set(span, "db.response.returned_rows", rows)
                if (
                    context.cursor_fetch_strategy is _usual
                    and cursor is context.cursor
                    and self._own
                    and not context._is_server_side
                    and not context.execution_options.get("stream_results")
                ):
                    self._series, self._fetching, self._rows, self._counts_rows = series, 0.0, 0, rows < 0
                    context.cursor_fetch_strategy = self
        else:
            failure, code = describe_error(error)
            cell = known.failure(route, failure)
            if span is not None:
                _tell(span, failure, code)
        identity = None
        if span is None:
            cell.record(duration)
        else:
            identity = span.get_span_context()
            if identity.trace_flags & 1:
                cell.record_with_exemplar(duration, identity.trace_id, identity.span_id)
            else:
                cell.record(duration)
            if isinstance(span, ServerSpan):
                span.finish(known.name, _NOTHING)
            else:
                span.end()
            self._span = None
        options = self._engine.options
        if request is not None:
            request.add_timing("db", duration)
            if known.reads and options.repeats:
                self._count(request, now, context, options.repeats)
            self._request = None
        if duration >= options.slow_seconds:
            self._engine.slow(known, route, duration, identity, statement, parameters, context, error is None)

    def _count(self, request: Any, now: float, context: Any, most: int) -> None:
        try:
            counts = request.queries
        except AttributeError:
            counts = request.queries = {}
        known = self._known
        count = counts.get(known)
        if count is None:
            if len(counts) < MOST_COUNTED:
                counts[known] = repeats.Count(now)
            return
        if self._started - count.last > repeats.PAUSE:
            count.number = 0
        count.last = now
        count.number += 1
        if count.cell is not None:
            count.cell.add(1)
        elif count.number >= most and not count.batches:
            repeats.found(count, known, request, self._route, context)
            self._engine.keeper.wake()

    # --- as SQLAlchemy's strategy for fetching rows ---------------------------------------------------

    def fetchone(self, result: Any, dbapi_cursor: Any, hard_close: bool = False) -> Any:
        """One row; None after the last."""
        began = perf_counter()
        try:
            row = dbapi_cursor.fetchone()
            self._fetching += perf_counter() - began
            if row is None:
                result._soft_close(hard=hard_close)
            else:
                self._rows += 1
            return row
        except BaseException as error:  # noqa: BLE001 - as SQLAlchemy's own strategy does: it raises it again
            self.handle_exception(result, dbapi_cursor, error)

    def fetchmany(self, result: Any, dbapi_cursor: Any, size: int | None = None) -> Any:
        """Some rows."""
        began = perf_counter()
        try:
            rows = dbapi_cursor.fetchmany() if size is None else dbapi_cursor.fetchmany(size)
            self._fetching += perf_counter() - began
            self._rows += len(rows)
            if not rows:
                result._soft_close()
            return rows
        except BaseException as error:  # noqa: BLE001 - as SQLAlchemy's own strategy does: it raises it again
            self.handle_exception(result, dbapi_cursor, error)

    def fetchall(self, result: Any, dbapi_cursor: Any) -> Any:
        """All rows that are left."""
        began = perf_counter()
        try:
            rows = dbapi_cursor.fetchall()
            self._fetching += perf_counter() - began
            self._rows += len(rows)
            result._soft_close()
            return rows
        except BaseException as error:  # noqa: BLE001 - as SQLAlchemy's own strategy does: it raises it again
            self.handle_exception(result, dbapi_cursor, error)

    def soft_close(self, result: Any, dbapi_cursor: Any) -> None:
        """The last row was fetched, or no more are wanted."""
        self._fetched()
        _usual.soft_close(result, dbapi_cursor)

    def hard_close(self, result: Any, dbapi_cursor: Any) -> None:
        """The same, and the result is of no further use."""
        self._fetched()
        _usual.hard_close(result, dbapi_cursor)

    def _fetched(self) -> None:
        if self._fetching:
            series: Series = self._series
            series.fetch.record(self._fetching)
            if self._counts_rows:
                series.rows.add(self._rows)
            self._fetching = 0.0


MOST_COUNTED: Final = 1_000
"""Statements that are counted for a request."""
_NOTHING: Final[dict[str, Any]] = {}


def _set(span: Span, name: str, value: Any) -> None:
    if isinstance(span, ServerSpan):
        span._attributes[name] = value  # nobody else has this span, and an integer needs no check
    else:
        span.set_attribute(name, value)


def _tell(span: Span, failure: str, code: str | None) -> None:
    span.set_attribute("error.type", failure)
    if code is not None:
        span.set_attribute("db.response.status_code", code)
    span.set_status(Status(StatusCode.ERROR, failure if code is None else f"{failure} ({code})"))


def describe_error(error: BaseException) -> tuple[str, str | None]:
    """The error's type, and the database's own code for it where the driver gives one."""
    code = _code(error)
    if type(error).__module__.startswith("sqlalchemy.") and error.__cause__ is not None:
        error = error.__cause__  # SQLAlchemy's adapters of async drivers wrap what the driver raised
    return error_type(error), code


def _code(error: BaseException) -> str | None:
    for name in ("sqlstate", "pgcode", "sqlite_errorname"):
        code = getattr(error, name, None)
        if isinstance(code, str) and code:
            return code
    # MySQL's drivers put the number first; anything else there may be a message.
    first = error.args[0] if error.args else None
    return str(first) if isinstance(first, int) and not isinstance(first, bool) else None
