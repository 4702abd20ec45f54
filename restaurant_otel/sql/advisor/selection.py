"""Which of the candidates to make: greedily by what they save, net of what writes to them cost.

Knows nothing of databases: what a set of indexes makes of a statement's cost, it asks a `WhatIf`. Prior art: the
greedy search of AutoAdmin (Chaudhuri and Narasayya, VLDB 1997). Greedy can paint itself into a corner, so at the
end members are dropped and exchanged as long as that pays.

Asking is what takes the time, so a `Bill` asks as little as it can. An index on columns that a statement's conditions
do not name is nothing to that statement. And a plan stays what it is when indexes come or go that it does not use: of
an answer for the set S that uses U, every set between U and S has the same. So each statement is first asked about
all candidates at once; for most, that settles nearly every set (Papadomanolakis et al., "Efficient use of the query
optimizer for automated physical design", VLDB 2007, has the idea).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, Protocol

from restaurant_otel.sql.advisor.model import Answer, Index, Read, Write
from restaurant_otel.sql.advisor.progress import Progress

LEAST_SHARE: Final = 0.01
"""An index that saves less of what the workload still costs is not advised,"""
LEAST_OF_ALL: Final = 0.0005
"""nor one that saves less of what it cost at first."""
LEAST_CUT: Final = 1 / 3
"""An index that makes no statement cheaper by this part is not advised: costs are not as exact as that."""
NEARLY: Final = 0.005
"""Two sets of indexes that differ by less of what the workload still costs are alike: the smaller one is taken."""
SLIGHTLY: Final = 0.02
"""Further columns of an index that save less of it, and make no statement cheaper by `LEAST_CUT`, are left off."""
MOST_INDEXES: Final = 20
SEARCHED: Final = 0.95
"""The share of the advisor's whole work that is done when this is."""


class WhatIf(Protocol):
    """What a database would do if it had certain indexes."""

    method: str
    unit: str

    def ask(self, read: Read, indexes: frozenset[Index]) -> Answer:
        """What one execution of `read` costs, in `unit`, on average over its variants."""

    def plan(self, read: Read, indexes: frozenset[Index]) -> tuple[str, ...]:
        """How the database would go about it, without values."""

    def size(self, index: Index) -> int | None:
        """Bytes on disk, if that can be told."""

    def write_cost(self, index: Index) -> float:
        """What one written row costs more, in `unit`."""


class TimeUpError(Exception):
    """The search has used up its time."""


class Bill:
    """The workload's cost under any set of indexes, each part of it asked for once.

    While `until` (of the monotonic clock) is set and past, it answers what it knows, and raises TimeUpError for others.
    """

    def __init__(self, reads: Sequence[Read], writes: Iterable[Write], what_if: WhatIf) -> None:
        self.reads = reads
        self.until: float | None = None
        self._what_if = what_if
        self._writes = list(writes)
        self._known: dict[tuple[int, frozenset[Index]], float] = {}
        self._answers: dict[int, list[tuple[frozenset[Index], Answer]]] = {}
        self._write_costs: dict[Index, float] = {}
        self._readers: dict[Index, dict[int, Read]] = {}
        self._of_table: dict[str, list[Read]] = {}
        for read in reads:
            for table in read.tables:
                self._of_table.setdefault(table, []).append(read)

    def readers(self, index: Index) -> dict[int, Read]:
        """The statements that `index` could matter to, by their numbers."""
        known = self._readers.get(index)
        if known is None:
            those = self._of_table.get(index.table, ())
            known = self._readers[index] = {one.number: one for one in those if one.may_use(index)}
        return known

    def relevant(self, read: Read, indexes: Iterable[Index]) -> frozenset[Index]:
        """Those of `indexes` that could matter to `read`."""
        return frozenset(index for index in indexes if read.number in self.readers(index))

    def of(self, read: Read, indexes: Iterable[Index]) -> float:
        """The cost of one execution."""
        present = self.relevant(read, indexes)
        known = self._known.get((read.number, present))
        if known is None:
            known = self._known[read.number, present] = self._answer(read, present).cost
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

    def gain(self, index: Index, others: Sequence[Index]) -> float:
        """What `index` saves of the whole where there are `others` already; negative where it costs more."""
        beside = [*others, index]
        saved = sum(
            read.calls * (self.of(read, others) - self.of(read, beside))
            for read in self.readers(index).values()
        )
        return saved - self.of_writes(index)

    def cuts(self, index: Index, others: Sequence[Index]) -> bool:
        """Whether `index` makes some statement much cheaper than `others` alone do."""
        beside = [*others, index]
        return any(
            self.of(read, beside) <= (1 - LEAST_CUT) * self.of(read, others)
            for read in self.readers(index).values()
        )

    def _answer(self, read: Read, present: frozenset[Index]) -> Answer:
        answers = self._answers.setdefault(read.number, [])
        for asked, answer in answers:
            if answer.used <= present <= asked:
                return answer
        if self.until is not None and time.monotonic() > self.until:
            raise TimeUpError
        answers.append((present, self._what_if.ask(read, present)))
        return answers[-1][1]


def select(
    candidates: Sequence[Index],
    bill: Bill,
    size: Callable[[Index], int | None],
    progress: Progress | None = None,
) -> list[Index]:
    """The indexes to make, the best first; the best set found so far where the bill's time is up before the end."""
    progress = progress or Progress()
    chosen: list[Index] = []
    try:
        for read in progress.over(bill.reads, "asking about all indexes at once", 0.6):
            bill.of(read, candidates)
        for chosen in _better_and_better(candidates, bill, size, progress):  # noqa: B007 - the last is the best
            pass
    except TimeUpError:
        pass
    return chosen


def _better_and_better(
    candidates: Sequence[Index], bill: Bill, size: Callable[[Index], int | None], progress: Progress
) -> Iterator[list[Index]]:
    grown: list[Index] = []
    for grown in _grown(candidates, bill, size, progress):
        yield grown
    best = grown
    for best in _exchanged(grown, candidates, bill, progress):
        yield best
    yield _slimmed(best, bill)


def _grown(
    candidates: Sequence[Index], bill: Bill, size: Callable[[Index], int | None], progress: Progress
) -> Iterator[list[Index]]:
    chosen: list[Index] = []
    gains: dict[Index, float] = {}
    while len(chosen) < MOST_INDEXES:
        now = bill.total(chosen)
        least = _least(bill, now)
        for index in progress.over(candidates, "weighing sets of indexes", progress.half_way(SEARCHED)):
            if index not in gains and index not in chosen:
                gains[index] = bill.gain(index, chosen) if bill.cuts(index, chosen) else 0.0
        best = max(gains.values(), default=0.0)
        if best <= 0 or best < least:
            return
        alike = [index for index, gain in gains.items() if gain >= max(least, best - NEARLY * now)]
        added = min(alike, key=lambda index: (len(index.keys), size(index) or 0, index.name))
        before, chosen = {*chosen, added}, _pruned([*chosen, added], bill)
        yield chosen
        # What they are worth has changed for those that matter to the same statements, and for nobody else.
        touched = {number for index in {added, *(before - {*chosen})} for number in bill.readers(index)}
        gains = {
            index: gain
            for index, gain in gains.items()
            if index not in chosen and touched.isdisjoint(bill.readers(index))
        }


def _least(bill: Bill, now: float) -> float:
    """What one more index has to save when the workload costs `now`."""
    return max(LEAST_SHARE * now, LEAST_OF_ALL * bill.total(()))


def _pruned(chosen: list[Index], bill: Bill) -> list[Index]:
    """Without those that the others have made superfluous, such as prefixes of later ones."""
    for index in list(chosen):
        others = [one for one in chosen if one != index]
        if bill.gain(index, others) < _least(bill, bill.total(chosen)):
            chosen = others
    return chosen


def _exchanged(
    chosen: list[Index], candidates: Sequence[Index], bill: Bill, progress: Progress
) -> Iterator[list[Index]]:
    for _ in range(MOST_INDEXES):
        best, better = _least(bill, bill.total(chosen)), None
        for place, index in enumerate(progress.over(chosen, "exchanging", progress.half_way(SEARCHED))):
            others = [*chosen[:place], *chosen[place + 1 :]]
            own = bill.gain(index, others)
            for other in candidates:
                if other.table != index.table or other in chosen or not bill.cuts(other, others):
                    continue
                if (gain := bill.gain(other, others) - own) >= best:
                    best, better = gain, [*chosen[:place], other, *chosen[place + 1 :]]
        if better is None:
            return
        chosen = _pruned(better, bill)
        yield chosen


def _slimmed(chosen: list[Index], bill: Bill) -> list[Index]:
    """With every index cut to the shortest beginning that does nearly as well beside the others."""
    for place, index in enumerate(chosen):
        now, others = bill.total(chosen), [*chosen[:place], *chosen[place + 1 :]]
        for length in range(1, len(index.keys)):
            shorter = replace(index, keys=index.keys[:length])
            if shorter in chosen:
                continue
            lost = bill.total([*others, shorter]) - now
            if lost < NEARLY * now or (lost < SLIGHTLY * now and not bill.cuts(index, [*others, shorter])):
                chosen = [*chosen[:place], shorter, *chosen[place + 1 :]]
                break
    return chosen
