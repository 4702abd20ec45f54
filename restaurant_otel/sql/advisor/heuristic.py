"""An estimate for databases that cannot be asked: how many rows a statement reads, by what is known of its columns.

Nothing is proven by it, and the report says so. A table without a fitting index costs its rows; an index costs a
way down and four times the rows that its keys leave, because they are read here and there, and never more than the
table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from restaurant_otel.sql.advisor.model import Answer, Index, Read, Table, Wish

RANDOM: Final = 4.0
RANGE: Final = 1 / 3
SORT: Final = 0.2


class Heuristic:
    """A `WhatIf` that asks nobody."""

    method = "heuristic"
    unit = "rows"

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._tables = tables

    def ask(self, read: Read, indexes: frozenset[Index]) -> Answer:
        """Rows read, more or less."""
        whole = 0.0
        used: set[str | None] = set()
        for name in read.tables:
            wishes = [wish for wish in read.wishes if wish.table == name] or [Wish(name)]
            best = [self._best(wish, indexes) for wish in wishes]
            whole += max(cost for cost, _ in best)
            used.update(taken for _, taken in best)
        return Answer(whole, frozenset(index for index in indexes if index.name in used))

    def plan(self, read: Read, indexes: frozenset[Index]) -> tuple[str, ...]:
        """What the estimate supposes."""
        lines = []
        for name in read.tables:
            for wish in [wish for wish in read.wishes if wish.table == name] or [Wish(name)]:
                cost, used = self._best(wish, indexes)
                lines.append(
                    f"{'scan of ' + name if used is None else f'{used} of {name}'}  (rows={cost:.0f}, estimated)"
                )
        return tuple(lines)

    def size(self, index: Index) -> int:
        """Sixteen bytes an entry and eight a key."""
        return max(0, self._tables[index.table].rows) * (16 + 8 * len(index.keys))

    def write_cost(self, index: Index) -> float:
        """One entry, found and written."""
        return RANDOM + math.log2(2 + max(0, self._tables[index.table].rows)) / 10

    def _best(self, wish: Wish, indexes: frozenset[Index]) -> tuple[float, str | None]:
        table = self._tables[wish.table]
        rows = max(1, table.rows)
        matching = (
            rows * math.prod(self._part(table, column) for column in wish.equal) * RANGE ** len(wish.ranges)
        )
        best: tuple[float, str | None] = rows + (SORT * matching if wish.order else 0.0), None
        offered: list[tuple[str, Sequence[str]]] = [
            (index.name, index.columns) for index in indexes if index.table == wish.table
        ]
        offered += [
            (one.name, [column for column in one.columns if column is not None])
            for one in table.existing
            if one.is_plain
        ]
        for name, columns in offered:
            cost = self._through(wish, table, columns, matching)
            if cost is not None and cost < best[0]:
                best = cost, name
        return best

    def _through(self, wish: Wish, table: Table, columns: Sequence[str], matching: float) -> float | None:
        rows, part, used = max(1, table.rows), 1.0, 0
        for column in columns:
            if column in wish.equal or column in wish.joined:
                part, used = part * self._part(table, column), used + 1
            elif column in wish.ranges or column in wish.patterns:
                part, used = part * RANGE, used + 1
                break
            else:
                break
        order = [key.column for key in wish.order]
        sorted_already = bool(order) and list(columns[used : used + len(order)]) == order
        if not used and not sorted_already:
            return None
        sort = SORT * matching if wish.order and not sorted_already else 0.0
        return math.log2(rows + 1) + RANDOM * rows * part + sort

    def _part(self, table: Table, column: str) -> float:
        return 1 / max(1.0, table.distinct.get(column, 1.0))
