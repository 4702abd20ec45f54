"""Which of the candidates to make: greedily by what they save, net of what writes to them cost.

Knows nothing of databases: what a set of indexes makes of a statement's cost, it asks a `WhatIf`. Prior art: the
greedy search of AutoAdmin (Chaudhuri and Narasayya, VLDB 1997). Greedy can paint itself into a corner, so at the
end members are dropped and exchanged as long as that pays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from restaurant_otel.sql.advisor.model import Index, Read, Write

LEAST_SHARE: Final = 0.01
"""An index that saves less of what the workload still costs is not advised,"""
LEAST_OF_ALL: Final = 0.0005
"""nor one that saves less of what it cost at first."""
LEAST_CUT: Final = 1 / 3
"""An index that makes no statement cheaper by this part is not advised: costs are not as exact as that."""
NEARLY: Final = 0.005
"""Two sets of indexes that differ by less of what the workload still costs are alike: the smaller one is taken."""
MOST_INDEXES: Final = 20


class WhatIf(Protocol):
    """What a database would do if it had certain indexes."""

    method: str
    unit: str

    def cost(self, read: Read, indexes: frozenset[Index]) -> float:
        """What one execution of `read` costs, in `unit`, on average over its variants."""

    def plan(self, read: Read, indexes: frozenset[Index]) -> tuple[str, ...]:
        """How the database would go about it, without values."""

    def size(self, index: Index) -> int | None:
        """Bytes on disk, if that can be told."""

    def write_cost(self, index: Index) -> float:
        """What one written row costs more, in `unit`."""


class Bill:
    """The workload's cost under any set of indexes, each part of it asked for once."""

    def __init__(self, reads: Sequence[Read], writes: Iterable[Write], what_if: WhatIf) -> None:
        self.reads = reads
        self._what_if = what_if
        self._writes = list(writes)
        self._known: dict[tuple[int, frozenset[Index]], float] = {}
        self._write_costs: dict[Index, float] = {}

    def of(self, read: Read, indexes: Iterable[Index]) -> float:
        """The cost of one execution."""
        relevant = frozenset(index for index in indexes if index.table in read.tables)
        known = self._known.get((read.number, relevant))
        if known is None:
            known = self._known[read.number, relevant] = self._what_if.cost(read, relevant)
        return known

    def of_writes(self, index: Index) -> float:
        """What all writes of the workload cost more with `index`."""
        known = self._write_costs.get(index)
        if known is None:
            calls = sum(write.calls for write in self._writes if write.touches(index))
            known = self._write_costs[index] = calls * self._what_if.write_cost(index) if calls else 0.0
        return known

    def total(self, indexes: Iterable[Index]) -> float:
        """The cost of the whole workload, reads and what the indexes add to writes."""
        chosen = list(indexes)
        reads = sum(read.calls * self.of(read, chosen) for read in self.reads)
        return reads + sum(self.of_writes(index) for index in chosen)


def select(candidates: Sequence[Index], bill: Bill, size: Callable[[Index], int | None]) -> list[Index]:
    """The indexes to make, the best first."""
    chosen: list[Index] = []
    while len(chosen) < MOST_INDEXES:
        now = bill.total(chosen)
        least = _least(bill, now)
        gains = [
            (now - bill.total([*chosen, index]), index)
            for index in candidates
            if index not in chosen and _cuts(index, chosen, bill)
        ]
        best = max((gain for gain, _ in gains), default=0.0)
        if best <= 0 or best < least:
            break
        alike = [index for gain, index in gains if gain >= max(least, best - NEARLY * now)]
        chosen.append(min(alike, key=lambda index: (len(index.keys), size(index) or 0, index.name)))
        chosen = _pruned(chosen, bill)
    return _slimmed(_exchanged(chosen, candidates, bill), bill)


def _cuts(index: Index, others: Sequence[Index], bill: Bill) -> bool:
    """Whether `index` makes some statement much cheaper than `others` alone do."""
    return any(
        bill.of(read, [*others, index]) <= (1 - LEAST_CUT) * bill.of(read, others)
        for read in bill.reads
        if index.table in read.tables
    )


def _least(bill: Bill, now: float) -> float:
    """What one more index has to save when the workload costs `now`."""
    return max(LEAST_SHARE * now, LEAST_OF_ALL * bill.total(()))


def _pruned(chosen: list[Index], bill: Bill) -> list[Index]:
    """Without those that the others have made superfluous, such as prefixes of later ones."""
    for index in list(chosen):
        others = [one for one in chosen if one != index]
        if bill.total(others) - bill.total(chosen) < _least(bill, bill.total(chosen)):
            chosen = others
    return chosen


def _exchanged(chosen: list[Index], candidates: Sequence[Index], bill: Bill) -> list[Index]:
    for _ in range(MOST_INDEXES):
        now = bill.total(chosen)
        swaps = [
            [other if one == index else one for one in chosen]
            for index in chosen
            for other in candidates
            if other not in chosen
            and other.table == index.table
            and _cuts(other, [one for one in chosen if one != index], bill)
        ]
        better = min(swaps, key=bill.total, default=chosen)
        if now - bill.total(better) < _least(bill, now):
            return chosen
        chosen = _pruned(better, bill)
    return chosen


def _slimmed(chosen: list[Index], bill: Bill) -> list[Index]:
    """With every index cut to the shortest beginning that does nearly as well beside the others."""
    for place, index in enumerate(chosen):
        now = bill.total(chosen)
        for length in range(1, len(index.keys)):
            shorter = replace(index, keys=index.keys[:length])
            cut = [*chosen[:place], shorter, *chosen[place + 1 :]]
            if shorter not in chosen and bill.total(cut) - now < NEARLY * now:
                chosen = cut
                break
    return chosen
