"""One statement in flight, and how it ended.

A `Query` is begun by `engines.py` and ended by `observation.py`. It carries nothing of the statement's
values: an error is told by its type and the database's code for it, because the messages of databases quote
the values they object to. Nor does it attach itself to the current context: while a statement executes,
that stays the caller's.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from opentelemetry.trace import Span, Status, StatusCode

from restaurant_otel.conventions import error_type
from restaurant_otel.current import Served

if TYPE_CHECKING:
    from restaurant_otel.sql.engines import Known


class Query:
    """A statement that is being executed; `end` is called once, by the thread or task that executes it."""

    __slots__ = ("_known", "_request", "_route", "_span", "_started")

    def __init__(self, known: Known, request: Served | None, route: str | None, span: Span | None) -> None:
        self._known = known
        self._request = request
        self._route = route
        self._span = span
        self._started = perf_counter()

    def end(self, error: BaseException | None = None) -> None:
        """The statement was executed, or failed with `error`."""
        duration = perf_counter() - self._started
        span = self._span
        if error is None:
            cell = self._known.cells.get(self._route) or self._known.bind(self._route)
        else:
            failure, code = describe_error(error)
            cell = self._known.bind_failure(self._route, failure)
            if span is not None:
                _tell(span, failure, code)
        if span is None:
            cell.record(duration)
        else:
            context = span.get_span_context()
            if context.trace_flags & 1:
                cell.record_with_exemplar(duration, context.trace_id, context.span_id)
            else:
                cell.record(duration)
            span.end()
        if self._request is not None:
            self._request.add_timing("db", duration)


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
