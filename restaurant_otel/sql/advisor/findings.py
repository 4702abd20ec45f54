"""What is wrong with the indexes that are there: duplicates, prefixes, unused ones, foreign keys without one.

Only reported, never acted upon: an index may be unused here and needed on a replica, and statistics may have been
reset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from restaurant_otel.sql.advisor.model import Existing, Finding, Table

LEAST_ROWS: Final = 1_000
"""Foreign keys of smaller tables need no index."""
LEAST_UNUSED_BYTES: Final = 100 * 2**10


def findings(tables: Iterable[Table]) -> list[Finding]:
    """All that was found, table by table."""
    return [
        finding for table in tables for finding in (*_superfluous(table), *_unused(table), *_unindexed(table))
    ]


def _superfluous(table: Table) -> Iterator[Finding]:
    plain = [one for one in table.existing if one.is_plain]
    told: set[str] = set()
    for one in plain:
        for other in plain:
            if other is one or other.name in told or one.primary or one.constraint or one.included:
                continue
            same = _keys(one) == _keys(other)
            if same and (not one.unique or other.unique):
                told.add(one.name)
                yield Finding("duplicate", table.name, one.name, f"{other.name} has the same columns")
                break
            if not one.unique and _keys(other)[: len(one.columns)] == _keys(one) and not same:
                told.add(one.name)
                yield Finding(
                    "redundant",
                    table.name,
                    one.name,
                    f"its columns are the first of {other.name} ({_list(other)})",
                )
                break
    for one in table.existing:
        if not one.valid:
            yield Finding(
                "invalid",
                table.name,
                one.name,
                "left by a CREATE INDEX CONCURRENTLY that failed; it only costs",
            )


def _keys(one: Existing) -> list[tuple[str | None, bool]]:
    return list(zip(one.columns, one.descending, strict=True))


def _list(one: Existing) -> str:
    return ", ".join(str(column) for column in one.columns)


def _unused(table: Table) -> Iterator[Finding]:
    for one in table.existing:
        upholds = one.primary or one.unique or one.constraint
        if one.scans == 0 and one.valid and not upholds and (one.size or 0) >= LEAST_UNUSED_BYTES:
            size = f"{(one.size or 0) / 2**20:.1f} MB"
            why = f"never read since the statistics began ({size}); ask replicas before dropping it"
            yield Finding("unused", table.name, one.name, why)


def _unindexed(table: Table) -> Iterator[Finding]:
    for key in table.foreign_keys:
        wanted = set(key.columns)
        if 0 <= table.rows < LEAST_ROWS or any(
            one.is_plain and set(one.columns[: len(wanted)]) == wanted for one in table.existing
        ):
            continue
        why = f"points at {key.target}: deleting or re-keying a row there reads all of {table.name}"
        yield Finding("foreign key", table.name, ", ".join(key.columns), why)
