"""Indexes worth trying: for each table of each statement, from its equalities E, ranges R and order O.

Alone every column of E, R and the first of O; then E together (the column with most distinct values first, because
that one serves other statements too), E with one range after it, E with the order after it, and the same with a
join's column before or after. A range ends what an index can narrow down, so it always comes after the equalities.

What an existing index begins with is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from restaurant_otel.sql.advisor.model import Index, Key, Table, Wish

LEAST_ROWS: Final = 200
"""A smaller table is read as quickly as an index."""
MOST_COLUMNS: Final = 4
"""Columns of an index; more gain little and cost with every write."""
PATTERN_OPERATORS: Final = "text_pattern_ops"


def candidates(wishes: Iterable[Wish], tables: Mapping[str, Table], dialect: str) -> list[Index]:
    """The indexes to try, each once, in an order that does not depend on chance."""
    found: dict[Index, None] = {}
    taken = {existing.name for table in tables.values() for existing in table.existing}
    for wish in wishes:
        table = tables[wish.table]
        if 0 <= table.rows < LEAST_ROWS:
            continue
        for keys in _keys(wish, table, dialect):
            index = Index(wish.table, keys[:MOST_COLUMNS])
            if not any(existing.covers(index) for existing in table.existing):
                found[Index(index.table, index.keys, "_2") if index.name in taken else index] = None
    return list(found)


def _keys(wish: Wish, table: Table, dialect: str) -> Iterator[tuple[Key, ...]]:
    # By a column that is unique one row is found, and an index has that already; behind it nothing is left to narrow.
    unique = {
        one.columns[0] for one in table.existing if one.unique and one.is_plain and len(one.columns) == 1
    }
    if not unique.isdisjoint(wish.equal):
        return
    spread = {column: -table.distinct.get(column, 0.0) for column in (*wish.equal, *wish.joined)}
    equal = sorted(wish.equal, key=lambda column: (spread[column], column))
    joined = sorted(set(wish.joined) - unique, key=lambda column: (spread[column], column))
    ends: list[tuple[Key, ...]] = [(Key(column),) for column in wish.ranges]
    if (
        dialect == "postgresql"
    ):  # elsewhere LIKE cannot use an index, or not without a collation that we do not choose
        ends += [(Key(column, operators=PATTERN_OPERATORS),) for column in wish.patterns]
    if wish.order:
        ends += [wish.order, wish.order[:1]]
    yield from (((Key(column),)) for column in (*equal, *joined))
    yield from ends
    heads = [equal, *[[*equal, join] for join in joined], *[[join, *equal] for join in joined]]
    for head in heads:
        columns = tuple(Key(column) for column in dict.fromkeys(head))
        if not columns:
            continue
        yield columns
        for end in ends:
            # Behind constants an order's direction does not matter; a column is not repeated.
            rest = tuple(key for key in end if key.column not in head)
            if rest:
                yield (*columns, *rest)
