"""One statement in flight: from before its cursor executes to after, however that ends.

A `Query` is made and ended by `engines.py` and `observation.py`. It ends exactly once, counts once, and
carries nothing of the statement's values: an error is told by its type and the database's code, because
messages of databases quote the values they object to.
"""

from __future__ import annotations

from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Final

from opentelemetry.trace import Span, Status, StatusCode

from restaurant_otel.conventions import error_type
from restaurant_otel.errors import survived

if TYPE_CHECKING:
    from restaurant_otel.sql.engines import Known

ABANDONED: Final = "abandoned"
"""The ``error.type`` of a statement whose end SQLAlchemy did not tell: it failed, how is not known."""

abandoned: Final[deque[Query]] = deque(maxlen=1000)
"""Queries that were thrown away before they ended, waiting for `sweep`."""


class Query:
    """A statement that is being executed. One thread or task at a time uses it."""

    __slots__ = ("_known", "_route", "_span", "_started")

    def __init__(self, known: Known, route: str | None, span: Span | None) -> None:
        self._known: Known | None = known
        self._route = route
        self._span = span
        self._started = perf_counter()

    def end(self, error: BaseException | None = None) -> None:
        """The statement was executed, or failed with `error`. Only the first call counts."""
        duration = perf_counter() - self._started
        known, self._known = self._known, None
        if known is None:
            return
        span = self._span
        if error is None:
            cell = known.cells.get(self._route) or known.bind(self._route)
        else:
            failure, code = describe_error(error)
            cell = known.bind_failure(self._route, failure)
            if span is not None:
                _tell(span, failure, code)
        if span is None:
            cell.record(duration)
            return
        context = span.get_span_context()
        if context.trace_flags & 1:
            cell.record_with_exemplar(duration, context.trace_id, context.span_id)
        else:
            cell.record(duration)
        span.end()

    def abandon(self) -> None:
        """End a statement of which nothing more will be heard."""
        self.end(_Abandoned())

    def __del__(self) -> None:
        # SQLAlchemy does not tell of every failure (`skip_user_error_events`, errors within its own error
        # handling), but it always lets go of the execution context that holds this. A finaliser may run
        # anywhere, also in a thread that holds the locks of a span processor, so it only hands over.
        if self._known is not None:
            abandoned.append(self)


class _Abandoned(Exception):  # noqa: N818 - never raised: its name is a label value
    pass


def sweep() -> None:
    """End the queries that were abandoned. Any thread."""
    while abandoned:
        try:
            query = abandoned.popleft()
        except IndexError:  # another thread was faster
            return
        try:
            query.abandon()
        except Exception as error:  # noqa: BLE001 - whatever a span processor of the host raises
            survived("sql", error)


def _tell(span: Span, failure: str, code: str | None) -> None:
    span.set_attribute("error.type", failure)
    if code is not None:
        span.set_attribute("db.response.status_code", code)
    span.set_status(Status(StatusCode.ERROR, failure if code is None else f"{failure} ({code})"))


def describe_error(error: BaseException) -> tuple[str, str | None]:
    """The error's type, and the database's own code for it where the driver gives one."""
    if isinstance(error, _Abandoned):
        return ABANDONED, None
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
