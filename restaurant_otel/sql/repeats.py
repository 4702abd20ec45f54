"""N+1 and other repetitions: one statement that a request asks again and again.

Queries are counted by statement in the request's own dict. Only when the count reaches the threshold does anybody
look closer: SQLAlchemy's loader information then tells a lazily loaded relationship (`Model.attribute`) from a
loader that works in batches on purpose (selectin, subquery) and from a loop of the app's own.

Counted are SELECTs that follow each other within `PAUSE` seconds: a stream that polls every second repeats no
query in this sense. A batch (executemany) is one query, and fetching from a server-side cursor is none.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from opentelemetry.trace import Span, get_current_span

from restaurant_otel import catalog
from restaurant_otel.errors import survived
from restaurant_otel.metrics import registry
from restaurant_otel.metrics.cells import CounterCell
from restaurant_otel.sql import places
from restaurant_otel.sql.keeper import Keeper
from restaurant_otel.sql.notes import notes

PAUSE: Final = 1.0
MOST_COUNTED: Final = 1_000
"""Statements that are counted for a request."""
EVENT: Final = "restaurant.db.n_plus_one"


class Count:
    """How often a request has asked a statement; `cell` once it was too often."""

    __slots__ = ("batches", "cell", "last", "number")

    def __init__(self, last: float) -> None:
        self.number = 1
        self.last = last
        self.batches = False
        self.cell: CounterCell | None = None


def count(
    known: Any,
    request: Any,
    route: str | None,
    began: float,
    duration: float,
    context: Any,
    threshold: int,
    keeper: Keeper,
) -> None:
    """`request` has asked `known`, a SELECT, once more, at `began` (of `perf_counter`)."""
    try:
        counts = request.queries
    except AttributeError:
        counts = request.queries = {}
    count = counts.get(known)
    if count is None:
        if len(counts) < MOST_COUNTED:
            counts[known] = Count(began + duration)
        return
    if began - count.last > PAUSE:
        count.number = 0
    count.last = began + duration
    count.number += 1
    if count.cell is not None:
        count.cell.add(1)
    elif count.number >= threshold and not count.batches:
        found(count, known, request, route, context)
        keeper.wake()


def found(count: Count, known: Any, request: Any, route: str | None, context: Any) -> None:
    """`count` has reached the threshold: tell what is repeated, unless it is a loader's way of working."""
    relationship: str | None = None
    try:
        relationship, batches = loaded(context)
        if batches:
            count.batches = True
            return
    except Exception as error:  # noqa: BLE001 - a SQLAlchemy that keeps these things elsewhere: a repetition, unnamed
        survived("n plus one", error)
    name = relationship or known.name
    fix = (
        f"selectinload({relationship})"
        if relationship is not None
        else "ask once for all values: WHERE ... IN (...)"
    )
    registry().counter(catalog.DB_N_PLUS_ONE).bind(route, name).add(1)
    count.cell = registry().counter(catalog.DB_N_PLUS_ONE_QUERIES).bind(route, name)
    count.cell.add(count.number)
    key = hashlib.blake2b(f"{route} {name}".encode(), digest_size=8).hexdigest()
    if notes.get("repeat", key) is None:
        note = {"route": route, "relationship": name, "fix": fix, "fingerprint": known.fingerprint}
        notes.put("repeat", key, {**note, "location": places.here()})
    span: Span = getattr(request, "span", None) or get_current_span()
    attributes = {
        "restaurant.db.relationship": name,
        "restaurant.db.fix": fix,
        "restaurant.db.queries": count.number,
        "db.query.summary": known.summary,
    }
    span.add_event(EVENT, attributes)


def loaded(context: Any) -> tuple[str | None, bool]:
    """The relationship that a statement loads lazily, as ``Model.attribute``; and whether it loads a batch of them.

    From SQLAlchemy's internals, read only here; `tests/sql/test_repeats.py` tells should a version keep them
    elsewhere. Raises whatever that does.
    """
    options = context.execution_options.get("_sa_orm_load_options")
    if options is None:
        return None, False
    path = context.compiled.compile_state.current_path
    if not path:
        return None, False  # a query of the app's own
    if options._lazy_loaded_from is None:
        return None, True  # selectin, subquery and others that go on from a result
    parent = next(step for step in reversed(path.path) if hasattr(step, "key") and hasattr(step, "parent"))
    return f"{parent.parent.class_.__name__}.{parent.key}", False
