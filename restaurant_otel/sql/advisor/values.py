"""Values for parameters: taken from the tables themselves, because a plan without values is a guess.

A generic plan takes an index on a column of four values for any of them; the real ``'waiter'`` reads the table. So
each statement is tried with several rows' values, which are as frequent in the trial as in the table. Where a
statement has a range, its ends are taken so that it selects what PostgreSQL assumes where it knows nothing: a third
of the rows with one end, a two-hundredth with both.

The values never leave this process: they are in `Read.variants` and in nothing that is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from restaurant_otel.sql.advisor.model import Table
from restaurant_otel.sql.advisor.reading import Slot, Template
from restaurant_otel.sql.advisor.schema import clause

SAMPLE: Final = 1_000
"""Rows of a table that are looked at."""
RARE: Final = 50
"""Rows that are looked at for a column that is hardly ever set."""
VARIANTS: Final = 5
"""Sets of values that a statement is tried with."""
LIST_LENGTH: Final = 3
"""Values in an ``IN`` of unknown length."""
ONE_END: Final = 1 / 3
BOTH_ENDS: Final = 0.005
LIMIT: Final = "50"


@dataclass(frozen=True, slots=True)
class Value:
    """One value of one row: what it is worth for comparison, and as a literal of SQL."""

    native: Any
    literal: str


class Sample:
    """Some rows of one table, evenly from all of it."""

    def __init__(self, rows: list[dict[str, Value | None]]) -> None:
        self._rows = rows
        self._sorted: dict[str, list[Value]] = {}
        self._full: dict[frozenset[str], list[dict[str, Value | None]]] = {}

    def distinct(self, column: str, rows: int) -> float:
        """How many distinct values the column has in a table of `rows` rows, estimated.

        By the estimator of Haas and Stokes (Duj1) that PostgreSQL's ANALYZE uses as well.
        """
        counts: dict[str, int] = {}
        for row in self._rows:
            value = row.get(column)
            if value is not None:
                counts[value.literal] = counts.get(value.literal, 0) + 1
        taken, seen = sum(counts.values()), len(counts)
        if not taken:
            return 0.0
        once = sum(1 for times in counts.values() if times == 1)
        whole = max(rows, taken)
        return min(whole, taken * seen / (taken - once + once * taken / whole))

    def row(self, place: float, columns: Iterable[str]) -> dict[str, Value] | None:
        """The row at `place` (0 to 1) among those that have a value in each of `columns`."""
        wanted = frozenset(columns)
        full = self._full.get(wanted)
        if full is None:
            full = [row for row in self._rows if all(row.get(column) is not None for column in wanted)]
            self._full[wanted] = full
        if not full:
            return None
        row = full[int(place * len(full)) % len(full)]
        return {column: value for column, value in row.items() if value is not None}

    def at(self, column: str, share: float) -> Value | None:
        """The value that `share` of the rows lie below."""
        ordered = self._sorted.get(column)
        if ordered is None:
            values = [value for row in self._rows if (value := row.get(column)) is not None]
            try:
                ordered = sorted(values, key=lambda value: value.native)
            except TypeError:
                ordered = sorted(values, key=lambda value: value.literal)
            self._sorted[column] = ordered
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def take_sample(connection: sa.Connection, table: Table, columns: Iterable[str]) -> Sample:
    """Rows of `table` with the given columns; empty where they cannot be read."""
    wanted = sorted(columns)
    if not wanted:
        return Sample([])
    source = clause(table)
    try:
        rows = connection.execute(_query(connection, table, source, wanted)).all()
    except SQLAlchemyError:
        connection.rollback()
        return Sample([])
    found = [_pairs(row, wanted) for row in rows[:: max(1, len(rows) // SAMPLE)]]
    return Sample(found + _rare(connection, table, source, wanted, found))


def _rare(
    connection: sa.Connection,
    table: Table,
    source: Any,
    wanted: Sequence[str],
    found: list[dict[str, Value | None]],
) -> list[dict[str, Value | None]]:
    """Rows for columns that are NULL in all of those `found`, without the other columns."""
    added = []
    for name in wanted:
        if found and all(row[name] is None for row in found):
            try:
                some = _query(connection, table, source, [name], rare=True)
                added += [_pairs(row, [name]) for row in connection.execute(some).all()]
            except SQLAlchemyError:  # it takes too long to find one
                connection.rollback()
    return added


def _pairs(row: Sequence[Any], wanted: Sequence[str]) -> dict[str, Value | None]:
    return {
        name: None if row[2 * place] is None else Value(row[2 * place], str(row[2 * place + 1]))
        for place, name in enumerate(wanted)
    }


def _query(
    connection: sa.Connection, table: Table, source: Any, wanted: Sequence[str], rare: bool = False
) -> sa.Select[Any]:
    """Each wanted column as it is and as a literal, of rows from all of the table where the database can do that.

    With `rare`, of the first rows in which the (only) column is not NULL.
    """
    dialect, some, literal = connection.dialect.name, source, _as_it_is
    if dialect == "postgresql":
        literal = _quoted_by_postgresql
        if table.rows > 30 * SAMPLE and not rare:
            # By pages, each read whole: thirty times the rows that are kept, so that a page's likeness averages out.
            share = 100 * 30 * SAMPLE / table.rows
            some = sa.tablesample(source, sa.func.system(share), seed=sa.literal(7))
    elif dialect == "sqlite":
        literal = sa.func.quote
    columns = [part for name in wanted for part in (some.c[name], literal(some.c[name]))]
    chosen = sa.select(*columns).prefix_with(sa.text("/* restaurant-otel advise */"))
    if rare:
        return chosen.where(source.c[wanted[0]].is_not(None)).limit(RARE)
    if dialect == "sqlite" and table.rows > 2 * SAMPLE:
        # A product modulo a prime: rows whose numbers repeat some pattern of the data are not favoured.
        chosen = chosen.where(sa.text(f"abs(rowid * 7919) % 1000003 % {table.rows // SAMPLE} = 0"))
    return chosen.limit(SAMPLE if literal is _as_it_is else 60 * SAMPLE)


def _as_it_is(column: Any) -> Any:
    return column


def _quoted_by_postgresql(column: Any) -> Any:
    return sa.func.quote_literal(sa.cast(column, sa.Text))


def variants(template: Template, samples: Mapping[str, Sample]) -> list[str]:
    """The statement with values in it, several times; empty where some value was not to be had."""
    if not template.slots:
        return [template.text]
    found: dict[str, None] = {}
    for number in range(VARIANTS):
        filled = _filled(template, samples, (number + 0.5) / VARIANTS)
        if filled is None:
            return []
        found[filled] = None
    return list(found)


def generic(template: Template) -> str:
    """The statement with numbered parameters, as PostgreSQL writes them."""
    text = template.text
    for position, slot in enumerate(template.slots, 1):
        text = text.replace(Template.mark(slot.number), f"${position}")
    return text


def _filled(template: Template, samples: Mapping[str, Sample], place: float) -> str | None:
    compared: dict[str, set[str]] = {}
    ends: dict[tuple[str, str], set[str]] = {}
    for slot in template.slots:
        if slot.table is not None and slot.column is not None:
            compared.setdefault(slot.table, set()).add(slot.column)
            if slot.use in {"low", "high"}:
                ends.setdefault((slot.table, slot.column), set()).add(slot.use)
    text = template.text
    for slot in template.slots:
        literal = _literal(slot, samples, place, compared, ends)
        if literal is None:
            return None
        text = text.replace(Template.mark(slot.number), literal)
    return text


def _literal(
    slot: Slot,
    samples: Mapping[str, Sample],
    place: float,
    compared: Mapping[str, set[str]],
    ends: Mapping[tuple[str, str], set[str]],
) -> str | None:
    if slot.use in {"limit", "offset"}:
        return LIMIT if slot.use == "limit" else "0"
    if slot.table is None or slot.column is None:
        return None
    sample, column = samples[slot.table], slot.column
    if slot.use in {"low", "high"}:
        value = sample.at(column, _share(slot.use, place, ends[slot.table, column]))
        return None if value is None else value.literal
    if slot.use == "many":
        values = [
            _of_row(sample, (place + nth / LIST_LENGTH) % 1, column, compared[slot.table])
            for nth in range(LIST_LENGTH)
        ]
        literals = dict.fromkeys(value.literal for value in values if value is not None)
        return ", ".join(literals) or None
    value = _of_row(sample, (place + slot.nth * 0.37) % 1, column, compared[slot.table])
    if value is None:
        return None
    if slot.use == "pattern":  # of which nothing is known but the column: somewhere in the middle
        middle = str(value.native)[1:4].replace("'", "").replace("\\", "")
        return f"'%{middle}%'"
    return value.literal


def _of_row(sample: Sample, place: float, column: str, together: set[str]) -> Value | None:
    row = sample.row(place, together) or sample.row(place, (column,))
    return None if row is None else row[column]


def _share(use: str, place: float, ends: set[str]) -> float:
    if len(ends) == 2:
        low = place * (1 - BOTH_ENDS)
        return low if use == "low" else low + BOTH_ENDS
    return 1 - ONE_END if use == "low" else ONE_END
