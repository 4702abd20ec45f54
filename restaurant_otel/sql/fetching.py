"""The fetching of rows, timed and counted: a strategy that stands in for SQLAlchemy's own.

SQLAlchemy hands a result's rows out through a strategy. For a SELECT whose rows it would fetch in the plainest way,
`observation.py` puts one of these in its place. `Fetching` is made once for a statement and a route and has no state:
all rows at once need none. Only for a result that is fetched piece by piece does it make a `Piecewise`, which adds up
until the last row. Results that SQLAlchemy buffers or streams keep the strategy that does so, and are not timed.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

from restaurant_otel.metrics.cells import CounterCell, HistogramCell

_Strategy: Any = object
USUAL: Any = None
"""The strategy that is replaced; None where SQLAlchemy keeps it elsewhere, and fetching is not timed."""
try:
    from sqlalchemy.engine import cursor as _cursors
    from sqlalchemy.engine.default import DefaultExecutionContext

    if hasattr(DefaultExecutionContext, "_is_server_side"):
        USUAL, _Strategy = _cursors._DEFAULT_FETCH, _cursors.CursorFetchStrategy
except (ImportError, AttributeError):
    pass


class Fetching(_Strategy):  # type: ignore[misc]  # Any: where SQLAlchemy has no such class
    """Fetches as SQLAlchemy would. `rows` None: they are known already and not to be counted. Any thread."""

    __slots__ = ("duration", "rows")

    def __init__(self, duration: HistogramCell, rows: CounterCell | None) -> None:
        self.duration = duration
        self.rows = rows

    def fetchall(self, result: Any, dbapi_cursor: Any) -> Any:
        """All rows."""
        began = perf_counter()
        try:
            rows = dbapi_cursor.fetchall()
            self.duration.record(perf_counter() - began)
            if self.rows is not None:
                self.rows.add(len(rows))
            result._soft_close()
            return rows
        except BaseException as error:  # noqa: BLE001 - as SQLAlchemy's own strategy does: it raises it again
            self.handle_exception(result, dbapi_cursor, error)

    def fetchone(self, result: Any, dbapi_cursor: Any, hard_close: bool = False) -> Any:
        """One row; None after the last."""
        strategy = result.cursor_strategy
        if strategy is self:
            strategy = result.cursor_strategy = Piecewise(self.duration, self.rows)
        return strategy.fetchone(result, dbapi_cursor, hard_close)

    def fetchmany(self, result: Any, dbapi_cursor: Any, size: int | None = None) -> Any:
        """Some rows."""
        strategy = result.cursor_strategy
        if strategy is self:
            strategy = result.cursor_strategy = Piecewise(self.duration, self.rows)
        return strategy.fetchmany(result, dbapi_cursor, size)


class Piecewise(_Strategy):  # type: ignore[misc]
    """The same for one result that is fetched in pieces: they are one fetch. For one thread or task."""

    __slots__ = ("_count", "_duration", "_rows", "_seconds")

    def __init__(self, duration: HistogramCell, rows: CounterCell | None) -> None:
        self._duration = duration
        self._rows = rows
        self._seconds = 0.0
        self._count = 0

    def fetchone(self, result: Any, dbapi_cursor: Any, hard_close: bool = False) -> Any:
        """One row; None after the last."""
        began = perf_counter()
        try:
            row = dbapi_cursor.fetchone()
            self._seconds += perf_counter() - began
            if row is None:
                result._soft_close(hard=hard_close)
            else:
                self._count += 1
            return row
        except BaseException as error:  # noqa: BLE001 - as SQLAlchemy's own strategy does: it raises it again
            self.handle_exception(result, dbapi_cursor, error)

    def fetchmany(self, result: Any, dbapi_cursor: Any, size: int | None = None) -> Any:
        """Some rows."""
        began = perf_counter()
        try:
            rows = dbapi_cursor.fetchmany() if size is None else dbapi_cursor.fetchmany(size)
            self._seconds += perf_counter() - began
            self._count += len(rows)
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
            self._seconds += perf_counter() - began
            self._count += len(rows)
            result._soft_close()
            return rows
        except BaseException as error:  # noqa: BLE001 - as SQLAlchemy's own strategy does: it raises it again
            self.handle_exception(result, dbapi_cursor, error)

    def soft_close(self, result: Any, dbapi_cursor: Any) -> None:
        """The last row was fetched, or no more are wanted."""
        self._fetched()
        USUAL.soft_close(result, dbapi_cursor)

    def hard_close(self, result: Any, dbapi_cursor: Any) -> None:
        """The same, and the result is of no further use."""
        self._fetched()
        USUAL.hard_close(result, dbapi_cursor)

    def _fetched(self) -> None:
        if self._seconds:
            self._duration.record(self._seconds)
            if self._rows is not None:
                self._rows.add(self._count)
            self._seconds = 0.0
