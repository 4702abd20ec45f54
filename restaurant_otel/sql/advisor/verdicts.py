"""What the advisor thinks of indexes that somebody else proposed, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from restaurant_otel.sql.advisor.model import Index, Table, Verdict
from restaurant_otel.sql.advisor.selection import LEAST_SHARE, Bill


def judge(
    proposals: Sequence[Index], chosen: Sequence[Index], tables: Mapping[str, Table], bill: Bill
) -> list[Verdict]:
    """A verdict on each of `proposals`, given what was chosen instead."""
    return [Verdict(index, *_judged(index, proposals, chosen, tables, bill)) for index in proposals]


def _judged(
    index: Index,
    proposals: Sequence[Index],
    chosen: Sequence[Index],
    tables: Mapping[str, Table],
    bill: Bill,
) -> tuple[bool, str]:
    if index in chosen:
        return True, "advised as well"
    existing = next((one for one in tables[index.table].existing if one.covers(index)), None)
    if existing is not None:
        return False, f"{existing.name} serves it already"
    longer = next((one for one in proposals if one != index and index.is_prefix_of(one)), None)
    alone, further = _share(bill, [], index), _share(bill, chosen, index)
    figures = f"alone it {_told(alone)}, on top of what is advised it {_told(further)}"
    if longer is not None:
        return False, f"a prefix of {longer.label}, which does all that it can; {figures}"
    advised = next((one for one in chosen if index.is_prefix_of(one)), None)
    if advised is not None:
        return False, f"a prefix of the advised {advised.label}; {figures}"
    if alone < LEAST_SHARE:
        return False, f"no statement gains by it: {figures}"
    rivals = [one.label for one in chosen if one.table == index.table]
    if further < LEAST_SHARE and rivals:
        return False, f"{', '.join(rivals)} does better: {figures}"
    return False, figures


def _told(share: float) -> str:
    if abs(share) < 0.0005:
        return "saves nothing"
    return f"saves {share:.1%} of the workload" if share > 0 else f"makes the workload {-share:.1%} dearer"


def _share(bill: Bill, present: Sequence[Index], index: Index) -> float:
    whole = bill.total(())
    return (bill.total(present) - bill.total([*present, index])) / whole if whole else 0.0
