"""An engine under observation: what is known of its statements, and how a query begins.

A statement is read once; its span's name and attributes and the cells that count it are remembered, so that
the next execution costs a look into a dict. `observation.py` says when queries begin and end.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import Span, SpanContext

from restaurant_otel import identity
from restaurant_otel.current import REQUEST_KEY, present
from restaurant_otel.errors import survived
from restaurant_otel.sql import databases, lexing, slow, statements, stock
from restaurant_otel.sql.keeper import Keeper
from restaurant_otel.sql.options import Options
from restaurant_otel.sql.queries import Query
from restaurant_otel.sql.series import Known
from restaurant_otel.sql.spans import LeanSpans, Spans
from restaurant_otel.sql.statements import MOST_READ

MOST_REMEMBERED: Final = 2_000
"""Statements remembered per engine; the least recently used half goes at once."""
MOST_COMMENTS: Final = 1_000


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
        self._young: dict[str, Known] = {}
        self._old: dict[str, Known] = {}
        self._comments: dict[str | None, str] = {}

    def begin(
        self,
        cursor: Any,
        statement: str,
        parameters: Any,
        context: Any,
        many: bool,
        spans: Spans | LeanSpans | None,
    ) -> Query | None:
        """A query that has begun; None where nothing is to be told.

        `many`: the driver is asked to execute `statement` once for each of `parameters`. `context` is
        SQLAlchemy's execution context. Without `spans` the query is counted but has no span.
        """
        current = present()
        request = None
        if current:
            # Suppression (an exporter that writes to a database, say) means no telemetry of any kind.
            if not is_instrumentation_enabled():
                return None
            request = current.get(REQUEST_KEY)
        text: Any = getattr(context, "statement", None)  # not there yet while a default is being computed
        own = statement is text
        if not own:
            text = _undecorated(statement, text)
        if many and len(parameters) > 1:
            known = self._known(text, True, context)
            attributes = {**known.attributes, "db.operation.batch.size": len(parameters)}
        else:
            try:  # the dict itself first: a call less on the way of nearly every query
                known = self._young[text]
            except KeyError:
                known = self._known(text, False, context)
            attributes = known.attributes
        route: str | None = None if request is None else request.route  # type: ignore[attr-defined]
        span: Span | None = None
        # Where contrib's tracer watches the engine too, it has left its span on the context: one is enough.
        # Ours begins last, so that nothing can come between it and the caller who will end it.
        if spans is not None and getattr(context, "_otel_span", None) is None:
            try:
                if self._stock:
                    span = stock.start_span(spans.tracer, cursor, statement, parameters, context, many)
                if span is None:
                    span = spans.start(known.name, attributes, current)
            except Exception as error:  # noqa: BLE001 - a sampler or processor of the host: the query still counts
                survived("sql", error)
        return Query(self, known, request, route, span, own)

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
        span: SpanContext | None,
        statement: str,
        parameters: Any,
        context: Any,
        succeeded: bool,
    ) -> None:
        """A query took longer than its objective."""
        if known.reads and succeeded and self.options.plans:
            question = slow.Question(statement, parameters, context.root_connection.engine)
        else:
            question = None
        slow.keep(known, route, seconds, span, question, self.keeper)

    def _known(self, text: str, batch: bool, context: Any) -> Known:
        text = text[:MOST_READ]
        key = f"BATCH {text}" if batch else text
        known = self._young.get(key)
        if known is None:
            known = self._old.get(key)
            if known is None:
                database = databases.describe(context.root_connection)
                known = Known(statements.read(text, self._rules), database, batch)
                self.keeper.wake()
            if len(self._young) >= MOST_REMEMBERED // 2:
                self._old, self._young = self._young, {}
            self._young[key] = known
        return known


def _undecorated(statement: str, original: str | None) -> str:
    # Listeners of the host may have put a comment around what SQLAlchemy made, with a trace id that differs
    # each time. (Or this is a statement on behalf of the context's own: a sequence's, a part of its rows.)
    if original and (statement.startswith(original) or statement.endswith(original)):
        return original
    return statement
