"""An engine under observation: what is known of its statements, and what is to be done for a query besides counting it.

A statement is read once; its span's name and attributes and the cells that count it are remembered, so that
the next execution costs a look into a dict. `observation.py` says when queries begin and end.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sized
from typing import Any, Final
from urllib.parse import quote

from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import Span

from restaurant_otel import identity
from restaurant_otel.current import enter, leave, present
from restaurant_otel.errors import survived
from restaurant_otel.sql import databases, lexing, repeats, slow, statements, stock
from restaurant_otel.sql.keeper import Keeper
from restaurant_otel.sql.options import Options
from restaurant_otel.sql.series import Known
from restaurant_otel.sql.spans import LeanSpans, Spans
from restaurant_otel.sql.statements import MOST_READ

MOST_REMEMBERED: Final = 2_000
"""Statements remembered per engine; the least recently used half goes at once."""
MOST_COMMENTS: Final = 1_000


def _suppressing() -> tuple[str, ...]:
    token = enter(Context())
    try:
        with suppress_instrumentation():
            return tuple(present())
    finally:
        leave(token)


SUPPRESSING: Final = frozenset(_suppressing())
"""What a context within which there shall be no telemetry holds: `is_instrumentation_enabled` takes 0.6 us to look."""


class ObservedEngine:
    """What is known of the engine whose dialect this is.

    `forget` is called when the dialect is gone; with `stock_spans` spans begin as contrib's. The memory is a
    pair of dicts used without a lock; threads that race at worst read a statement twice.
    """

    def __init__(
        self,
        dialect: Any,
        forget: Callable[[], object],
        stock_spans: bool,
        options: Options,
        keeper: Keeper,
    ) -> None:
        self.options = options
        self.keeper = keeper
        self._stock = stock_spans
        self._dialect = weakref.ref(dialect, lambda _: forget())
        self._rules = lexing.quoting(dialect.name)
        self._percent = dialect.paramstyle in ("format", "pyformat")
        self.recent: dict[str, Known] = {}
        self._older: dict[str, Known] = {}
        self._comments: dict[str | None, str] = {}
        # SQLAlchemy's collection for a dialect that nobody listens to by itself shows those who listen to all: their
        # number tells if we are alone, as long as it is the collection asked. (Its own `len` is a Python function.)
        # Without such a list we never know that we are.
        self.shared = dialect.dispatch.do_execute
        by_itself = getattr(self.shared, "listeners", None) != ()
        self.listeners: Sized = () if by_itself else getattr(self.shared, "parent_listeners", ())

    def start_span(
        self,
        spans: Spans | LeanSpans,
        known: Known,
        cursor: Any,
        statement: str,
        parameters: Any,
        context: Any,
        many: bool,
        current: Context,
    ) -> Span | None:
        """The span of a query that is about to be executed, if it is to have one. Never raises.

        `many`: the driver is asked to execute `statement` once for each of `parameters`. `context` is SQLAlchemy's
        execution context, `current` OpenTelemetry's.
        """
        # Where contrib's tracer watches the engine too, it has left its span on the context: one is enough.
        if getattr(context, "_otel_span", None) is not None:
            return None
        try:
            if self._stock:
                span = stock.start_span(spans.tracer, cursor, statement, parameters, context, many)
                if span is not None:
                    return span
            attributes = known.attributes
            if many and len(parameters) > 1:
                attributes = {**attributes, "db.operation.batch.size": len(parameters)}
            return spans.start(known.name, attributes, current)
        except Exception as error:  # noqa: BLE001 - a sampler or processor of the host: the query still counts
            survived("sql", error)
            return None

    def failed(
        self,
        known: Known,
        request: Any,
        route: str | None,
        span: Span | None,
        began: float,
        duration: float,
        statement: str,
        parameters: Any,
        context: Any,
    ) -> None:
        """A query has failed: what `observation.py` does itself for one that succeeds. Never raises."""
        options = self.options
        try:
            if request is not None:
                request.add_timing("db", duration)
                if known.reads and options.repeats:
                    repeats.count(
                        known, request, route, began, duration, context, options.repeats, self.keeper
                    )
            if duration >= options.slow_seconds:
                self.slow(known, route, duration, span, statement, parameters, context, False)
        except Exception as error:  # noqa: BLE001 - the app gets the query's own error
            survived("sql", error)

    def commented(self, statement: str, route: str | None) -> str:
        """`statement` as the database shall see it. Never raises: without a comment it does as well."""
        try:
            return statement + self.comment(route)
        except Exception as error:  # noqa: BLE001 - on the way to the driver
            survived("sql comments", error)
            return statement

    def comment(self, route: str | None) -> str:
        """What goes behind a statement: the same text each time, so that prepared statements stay prepared."""
        made = self._comments.get(route)
        if made is None:
            words: dict[str, str | None] = {}
            if "application" in self.options.comments:
                words["application"] = str(identity.resource().attributes.get("service.name", ""))
            if "route" in self.options.comments:
                words["route"] = route
            # By sqlcommenter's rules. A driver that formats its parameters would stumble over a lone percent sign.
            text = ",".join(f"{key}='{quote(value, safe='')}'" for key, value in words.items() if value)
            made = f" /*{text.replace('%', '%%') if self._percent else text}*/" if text else ""
            if len(self._comments) < MOST_COMMENTS:
                self._comments[route] = made
        return made

    def slow(
        self,
        known: Known,
        route: str | None,
        seconds: float,
        span: Span | None,
        statement: str,
        parameters: Any,
        context: Any,
        succeeded: bool,
    ) -> None:
        """A query took longer than its objective."""
        trace = span.get_span_context() if span is not None else None
        if known.reads and succeeded and self.options.plans:
            question = slow.Question(statement, parameters, context.root_connection.engine)
        else:
            question = None
        slow.keep(known, route, seconds, trace, question, self.keeper)

    def known(self, statement: str, context: Any, batch: bool = False) -> Known:
        """What is known of a statement; read if it is new. `batch`: it is executed for several sets of parameters."""
        original = getattr(context, "statement", None)  # not there yet while a default is being computed
        text = (statement if statement is original else _undecorated(statement, original))[:MOST_READ]
        key = f"BATCH {text}" if batch else text
        known = self.recent.get(key)
        if known is None:
            known = self._older.get(key)
            if known is None:
                database = databases.describe(context.root_connection)
                known = Known(statements.read(text, self._rules), database, batch)
                self.keeper.wake()
            if len(self.recent) >= MOST_REMEMBERED // 2:
                self._older, self.recent = self.recent, {}
            self.recent[key] = known
        return known


def _undecorated(statement: str, original: str | None) -> str:
    # Listeners of the host may have put a comment around what SQLAlchemy made, with a trace id that differs
    # each time. (Or this is a statement on behalf of the context's own: a sequence's, a part of its rows.)
    if original and (statement.startswith(original) or statement.endswith(original)):
        return original
    return statement
