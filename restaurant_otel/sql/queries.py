"""How queries end: what their spans say of it, and of what went wrong.

Nothing of a statement's values is told: an error is told by its type and the database's code for it, because the
messages of databases quote the values they object to. Called by `observation.py`, once a query.
"""

from __future__ import annotations

from typing import Any, Final

from opentelemetry.trace import Span, Status, StatusCode

from restaurant_otel.conventions import error_type
from restaurant_otel.errors import survived
from restaurant_otel.sql.series import Known, Series
from restaurant_otel.sql.spans import QuerySpan

_NOTHING: Final[dict[str, Any]] = {}


def succeeded(known: Known, series: Series, span: Span, began: float, duration: float) -> None:
    """Count a query that has a span and began at `began` (`perf_counter`), and end the span. Never raises."""
    identity = span.get_span_context()
    if identity.trace_flags & 1:
        series.record_sampled(duration, began + duration, identity)
    else:
        series.durations.record(duration)
    try:
        _end(span, known)
    except Exception as ours:  # noqa: BLE001 - whatever a span processor of the host raises
        survived("sql", ours)


def failed(error: BaseException, known: Known, route: str | None, span: Span | None, duration: float) -> None:
    """Count a query that failed with `error`, and end its span. Never raises."""
    try:
        failure, code = describe_error(error)
        cell = known.failure(route, failure)
        if span is None:
            cell.record(duration)
            return
        identity = span.get_span_context()
        if identity.trace_flags & 1:
            cell.record_with_exemplar(duration, identity.trace_id, identity.span_id)
        else:
            cell.record(duration)
        _tell(span, failure, code)
        _end(span, known)
    except Exception as ours:  # noqa: BLE001 - whatever a span processor of the host raises
        survived("sql", ours)


def set_rows(span: Span, rows: int) -> None:
    """Say how many rows there are."""
    if type(span) is QuerySpan:
        span._attributes["db.response.returned_rows"] = (
            rows  # nobody else has it, and an integer needs no check
        )
    else:
        span.set_attribute("db.response.returned_rows", rows)


def _end(span: Span, known: Known) -> None:
    if type(span) is QuerySpan:
        span.finish(known.name, _NOTHING)
    else:
        span.end()


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
