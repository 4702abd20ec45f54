"""What is remembered of a statement, so that its next execution costs a look into a dict.

`Known` is one statement on one database, `Series` one statement for one route: the cells that count it. Which
statements get a place of their own in the query book is decided here: while there is plenty of room each does,
when it grows scarce only those that come back, and past `MOST_FINGERPRINTS` all newcomers share `other`. So a
flood of statements that are asked once cannot crowd out those that matter, and counters never go back, as they
would if places were given away again.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from opentelemetry.trace import SpanContext

from restaurant_otel import catalog, forks
from restaurant_otel.metrics import registry
from restaurant_otel.metrics.cells import CounterCell, HistogramCell, Sampled, pair
from restaurant_otel.sql import databases, places
from restaurant_otel.sql.book import OTHER
from restaurant_otel.sql.fetching import Fetching
from restaurant_otel.sql.notes import notes
from restaurant_otel.sql.statements import Statement

MOST_ROUTES: Final = 1_000
"""Routes whose cells a statement remembers; further ones are looked up each time."""
MOST_FINGERPRINTS: Final = 500
"""Statements with a place of their own, a process."""
MOST_SERIES: Final = 1_500
"""Pairs of such a statement and a route."""
PLENTY: Final = 400
COMES_BACK: Final = 3
"""When fewer than `MOST_FINGERPRINTS - PLENTY` places are left, a statement gets one at this execution."""
MOST_LOCATIONS: Final = 5

_lock: Final = forks.Lock()
_admitted: Final[set[str]] = set()
_series: Final[set[tuple[str, str | None]]] = set()


class Series(Sampled):
    """The cells of one statement for one route, and what counts its rows.

    `durations` counts in `duration` and in `by_statement`; `fetching` counts rows, `fetching_known_rows` does not.
    """

    __slots__ = ("by_statement", "duration", "durations", "fetching", "fetching_known_rows", "rows")

    def __init__(
        self, duration: HistogramCell, by_statement: HistogramCell, rows: CounterCell, fetch: HistogramCell
    ) -> None:
        super().__init__()
        self.duration = duration
        self.by_statement = by_statement
        self.durations = pair(duration, by_statement)
        self.rows = rows
        self.fetching = Fetching(fetch, rows)
        self.fetching_known_rows = Fetching(fetch, None)

    def record_sampled(self, seconds: float, ended: float, context: SpanContext) -> None:
        """Count a sampled query that took `seconds` until `ended` (`perf_counter`), as an exemplar if it is due."""
        if self.takes(seconds, ended):
            self.duration.record_with_exemplar(seconds, context.trace_id, context.span_id)
            self.by_statement.record(seconds)
        else:
            self.durations.record(seconds)


class Known:
    """One statement on one database: its span's name and attributes, and the cells that count it."""

    __slots__ = (
        "_labels",
        "_tries",
        "attributes",
        "fingerprint",
        "name",
        "reads",
        "series",
        "summary",
        "system",
        "text",
    )

    def __init__(self, statement: Statement, database: databases.Database, batch: bool) -> None:
        prefix = "BATCH " if batch else ""
        operation = (prefix + (statement.operation or "")).strip() or None
        self.summary = (prefix + statement.summary).strip()
        self.name = self.summary or database.namespace or database.system
        attributes = {
            "db.system.name": database.system,
            "db.namespace": database.namespace,
            "db.operation.name": operation,
            "db.collection.name": statement.collection,
            "db.query.summary": self.summary,
            "db.query.text": statement.text,
            "server.address": database.address,
            "server.port": database.port,
        }
        self.attributes = {name: value for name, value in attributes.items() if value}
        self._labels = (database.system, operation, statement.collection, database.namespace)
        self.text = statement.text
        self.system = database.system
        self.reads = operation == "SELECT"
        identity = f"{database.system}\0{prefix}{statement.text}".encode(errors="surrogatepass")
        self.fingerprint = hashlib.blake2b(identity, digest_size=8).hexdigest()
        self._tries = 0
        self.series: dict[str | None, Series] = {}

    def open(self, route: str | None) -> Series:
        """The cells for executions that succeed while `route` is served."""
        fingerprint, summary = self._place(route)
        cells = registry()
        series = Series(
            self.failure(route, None),
            cells.histogram(catalog.DB_QUERY_DURATION).bind(fingerprint, summary, route),
            cells.counter(catalog.DB_QUERY_RETURNED_ROWS).bind(fingerprint, summary, route),
            cells.histogram(catalog.DB_QUERY_FETCH_DURATION).bind(summary, route),
        )
        if fingerprint != OTHER:
            self._note()
        if (fingerprint != OTHER or len(_admitted) >= MOST_FINGERPRINTS) and len(self.series) < MOST_ROUTES:
            self.series[route] = series
        return series

    def failure(self, route: str | None, failure: str | None) -> HistogramCell:
        """The cell for those that end with the error type `failure`; None: that succeed."""
        return (
            registry()
            .histogram(catalog.DB_CLIENT_OPERATION_DURATION)
            .bind(*self._labels, route, failure, self.summary or None)
        )

    def _place(self, route: str | None) -> tuple[str, str]:
        """The labels under which this is counted: the statement's own or those of all others."""
        with _lock:
            self._tries += 1
            if self.fingerprint not in _admitted:
                scarce = len(_admitted) >= PLENTY
                if len(_admitted) >= MOST_FINGERPRINTS or (scarce and self._tries < COMES_BACK):
                    return OTHER, OTHER
                _admitted.add(self.fingerprint)
            if (self.fingerprint, route) not in _series:
                if len(_series) >= MOST_SERIES:
                    return OTHER, OTHER
                _series.add((self.fingerprint, route))
        return self.fingerprint, self.name

    def _note(self) -> None:
        """Put down the text, and where in the code the route that is new asks from."""
        before: dict[str, Any] = notes.get("query", self.fingerprint) or {}
        found: list[str] = before.get("locations", [])
        place = places.here()
        if before and (place is None or place in found or len(found) >= MOST_LOCATIONS):
            return
        locations = [*found, *([place] if place is not None else [])]
        notes.put(
            "query",
            self.fingerprint,
            {"text": self.text, "summary": self.name, "system": self.system, "locations": locations},
        )


def forget() -> None:
    """Give every place away again: for tests, where one process plays many."""
    with _lock:
        _admitted.clear()
        _series.clear()
