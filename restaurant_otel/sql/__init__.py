"""Every query told: a span and a duration for each statement that SQLAlchemy executes, sync or async.

    observation.py   a query from beginning to end, between listeners on SQLAlchemy's Engine class
    engines.py       what is known of an engine and its statements; how a query's span begins
    queries.py       how a query's span ends; how failures are told
    fetching.py      the fetching of rows, timed and counted
    stock.py         spans begun by contrib's tracer instead, for those who ask for it
    series.py        what is remembered of a statement: its cells, its place in the book
    spans.py         how a query's span begins
    repeats.py       N+1, and other repetitions within a request
    slow.py          slow queries and their plans
    pools.py         connection pools
    book.py          all of it for readers: the query book
    notes.py         the words that go with the numbers, for all workers
    keeper.py        the thread that does what no request waits for
    places.py        where in the app's code a query comes from
    databases.py     which database that is
    statements.py    what a statement does, to which tables, and its text without values
    lexing.py        SQL text cut into tokens

`install` is called once by whoever wires the app; everything else follows by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from opentelemetry.trace import Tracer
from wrapt import register_post_import_hook

from restaurant_otel import forks
from restaurant_otel.errors import survived
from restaurant_otel.sql.options import Options

if TYPE_CHECKING:
    from restaurant_otel.sql.observation import Observation

__all__ = ["Options", "before_scrape", "change", "install", "options", "uninstall"]

_lock = forks.Lock()
_wanted: list[tuple[Callable[[], Tracer | None] | None, bool, Options]] = []
_observation: Observation | None = None


def install(
    *,
    tracer: Callable[[], Tracer | None],
    enabled_spans: bool = True,
    stock_spans: bool = False,
    options: Options | None = None,
) -> None:
    """Tell of every query of every engine of this process, present and future.

    `tracer` is called at the first query; while it raises or returns None, queries are counted without a
    span. With `enabled_spans` False they are only counted; with `stock_spans` True spans begin as contrib's
    instrumentation makes them, literals included. Calling it again changes nothing until `uninstall`.
    Without SQLAlchemy it does nothing. Any thread.
    """
    with _lock:
        if _wanted:
            return
        _wanted.append((tracer if enabled_spans else None, stock_spans, options or Options()))
    if sys.modules.get("sqlalchemy") is not None:
        _start()
    else:
        # An app that does not use SQLAlchemy shall not pay for its import because it happens to be installed.
        register_post_import_hook(_start, "sqlalchemy")


def _start(_: object = None) -> None:
    global _observation
    try:
        from restaurant_otel.sql.observation import Observation

        with _lock:
            if _observation is None and _wanted:
                _observation = Observation(*_wanted[0])
                _observation.start()
    except Exception as error:  # noqa: BLE001 - never into the app, which is importing SQLAlchemy
        survived("sql", error)


def uninstall() -> None:
    """Take every listener away. Does nothing where nothing is installed. Any thread."""
    global _observation
    with _lock:
        observation, _observation = _observation, None
        _wanted.clear()
        if observation is not None:
            observation.stop()


def options() -> Options | None:
    """What queries are judged by; None where they are not observed. Any thread."""
    with _lock:
        return _wanted[0][2] if _wanted else None


def change(*, slow_seconds: float | None = None, repeats: int | None = None) -> None:
    """Judge queries by these from now on, those of engines that are yet to be made as well; None leaves one as it is.

    It lasts until `uninstall`, and does nothing where nothing is installed. Any thread.
    """
    with _lock:
        if not _wanted:
            return
        find_tracer, stock_spans, before = _wanted[0]
        after = replace(
            before,
            slow_seconds=before.slow_seconds if slow_seconds is None else slow_seconds,
            repeats=before.repeats if repeats is None else repeats,
        )
        _wanted[0] = find_tracer, stock_spans, after
        if _observation is not None:
            _observation.judge_by(after)


def before_scrape() -> None:
    """Bring the counts of connections up to date. Any thread."""
    observation = _observation
    if observation is not None:
        observation.pools.observe()
