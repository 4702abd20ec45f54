"""What SQLite does with indexes: tried on a copy, because its planner knows no cost that could be asked for.

The copy holds all candidates; those that are not to be tried are taken out of its schema table and put back later,
which moves no page. So one copy tries any set of them. What is measured is the thread's CPU time, the least of
several runs, once for each plan of a statement: sets of indexes that lead to the same plan cost the same. The
copy's statistics are made from a sample, as ``PRAGMA optimize`` would. The copy's file has no name while it is used,
so that however the process ends, nothing is left of it.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from restaurant_otel.sql.advisor.access import STATEMENT_SECONDS, Patience
from restaurant_otel.sql.advisor.definition import create_index, quoted_table
from restaurant_otel.sql.advisor.model import Answer, Index, Read
from restaurant_otel.sql.lexing import LITERAL, quoting, tokens

MOST_BYTES: Final = 4 * 2**30
"""A larger database is not copied."""
ANALYSIS_ROWS: Final = 1_000
RUNS: Final = 3
MOST_RUNS: Final = 20
ENOUGH_SECONDS: Final = 0.003
"""A quick statement is run more often, until it has taken so long: what disturbs it is long beside it."""
WRITE_RUNS: Final = 7
LEAST_SECONDS: Final = 20e-6
"""What a statement is taken to cost at least: SQLAlchemy alone takes 15 us for one, so to save a few of ten is not
worth a column of an index."""
VARIANTS: Final = 3
"""Sets of values that a statement is tried with; each is measured, so fewer than elsewhere."""
NOISE: Final = 0.1
"""A plan that is quicker by less than this part is not taken to be quicker at all."""
MOST_GROWTH: Final = 3
"""The copy with its candidates is at most so many times larger than the database."""
CLOSE: Final = 0.3
"""A plan that is quicker, but takes more than this part, is measured a second time, and the worse of the two counts."""
_USED: Final = re.compile(r"USING (?:COVERING )?INDEX (.+?)(?: \(|$)")
_WRITTEN: Final = 500
_LEAST_WRITE_SECONDS: Final = 5e-7


def why_not(path: Path) -> str | None:
    """What keeps the database from being copied; None if nothing does."""
    size = path.stat().st_size
    if size > MOST_BYTES:
        return f"the database is too large to try indexes on a copy ({size / 2**30:.1f} GiB)"
    if shutil.disk_usage(tempfile.gettempdir()).free < 4 * size + 2**26:
        return "there is too little room in the temporary folder for a copy with indexes"
    return None


@contextmanager
def trial(path: Path, candidates: Iterable[Index], dialect: Any, until: float) -> Iterator[Trial]:
    """A copy of the database in the temporary folder, gone afterwards.

    With as many of `candidates` as there is room for, and as can be made until `until` (of the monotonic clock).
    """
    with (
        tempfile.TemporaryDirectory(prefix="restaurant-otel-advise-") as folder,
        closing(sqlite3.connect(Path(folder) / "copy.sqlite3", isolation_level=None)) as copy,
    ):
        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("BEGIN EXCLUSIVE")  # it is opened now, not when it is first read
        copy.execute("COMMIT")
        if os.name == "posix":
            shutil.rmtree(folder)
        _back_up(path, copy)
        yield Trial(copy, candidates, dialect, until)


def _back_up(path: Path, copy: sqlite3.Connection) -> None:
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as source:
        source.backup(copy)


class Trial:
    """A `WhatIf` on a copy that holds all `candidates`. Of one thread."""

    method = "trial on a copy"
    unit = "seconds"

    def __init__(
        self, copy: sqlite3.Connection, candidates: Iterable[Index], dialect: Any, until: float
    ) -> None:
        self._copy = copy
        self._dialect = dialect
        self._sizes: dict[Index, int] = {}
        self._times: dict[tuple[str, tuple[str, ...]], float] = {}
        self._plans: dict[tuple[str, frozenset[Index]], list[str]] = {}
        self._bare: dict[str, float] = {}
        self._writes: dict[Index, float] = {}
        self._rowids: dict[str, list[int]] = {}
        self._patience = Patience(copy)
        for pragma in (
            "journal_mode = OFF",
            "synchronous = OFF",
            "cache_size = -262144",
            "foreign_keys = OFF",
        ):
            copy.execute(f"PRAGMA {pragma}")
        self._rows: dict[Index, tuple[Any, ...]] = {}
        self._shown: frozenset[Index] = frozenset()
        with self._patience.watched():
            self._make(candidates, until)

    @property
    def candidates(self) -> list[Index]:
        """Those that there was room and time for."""
        return list(self._sizes)

    def ask(self, read: Read, indexes: frozenset[Index]) -> Answer:
        """Seconds, on average over the variants."""
        names = {index.name: index for index in indexes}
        used: set[Index] = set()
        variants = _some(read.variants)
        with self._patience.watched():
            seconds = sum(self._time(variant, indexes) for variant in variants) / len(variants)
            for variant in variants:
                for line in self._planned(variant, indexes):
                    used.update(names[name] for name in _USED.findall(line) if name in names)
        return Answer(seconds, frozenset(used))

    def plan(self, read: Read, indexes: frozenset[Index]) -> tuple[str, ...]:
        """EXPLAIN QUERY PLAN of the variant in the middle."""
        with self._patience.watched():
            return tuple(self._planned(read.variants[len(read.variants) // 2], indexes))

    def size(self, index: Index) -> int:
        """Bytes of the pages that the index took."""
        return self._sizes[index]

    def write_cost(self, index: Index) -> float:
        """Seconds for one row: of updates that move nothing, with the index less without it, and rolled back."""
        known = self._writes.get(index)
        if known is None:
            with self._patience.watched():
                known = self._writes[index] = max(_LEAST_WRITE_SECONDS, self._write_cost(index))
        return known

    # --- which indexes there are ---

    def _make(self, candidates: Iterable[Index], until: float) -> None:
        page = self._one("PRAGMA page_size")
        most = MOST_GROWTH * self._used_pages() + 2**26 // page
        for index in candidates:
            before = self._used_pages()
            if before > most or time.monotonic() > until:
                break
            self._patience.allow(20 * STATEMENT_SECONDS)
            self._copy.execute(create_index(index, self._dialect))
            self._sizes[index] = page * (self._used_pages() - before)
        self._shown = frozenset(self._sizes)
        names = {index.name: index for index in self._sizes}
        for row in self._copy.execute("SELECT * FROM sqlite_master WHERE type = 'index'").fetchall():
            if (made := names.get(row[1])) is not None:
                self._rows[made] = row
        self._patience.allow(20 * STATEMENT_SECONDS)
        self._copy.execute(f"PRAGMA analysis_limit = {ANALYSIS_ROWS}")
        self._copy.execute("ANALYZE")
        # A table's rows are noted with its indexes only, and forgotten where those are hidden.
        rows = "SELECT tbl, NULL, substr(stat, 1, instr(stat || ' ', ' ') - 1) FROM sqlite_stat1 GROUP BY tbl"
        self._copy.execute(f"INSERT INTO sqlite_stat1 {rows}")
        self._copy.execute("ANALYZE sqlite_schema")

    def _show(self, indexes: frozenset[Index]) -> None:
        """Have exactly these of the candidates in the schema."""
        wanted = frozenset(one for one in indexes if one in self._sizes)
        if wanted == self._shown:
            return
        hide, show, self._shown = self._shown - wanted, wanted - self._shown, wanted
        self._copy.execute("PRAGMA writable_schema = ON")
        for index in hide:
            self._copy.execute("DELETE FROM sqlite_master WHERE type = 'index' AND name = ?", (index.name,))
        for index in show:
            self._copy.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", self._rows[index])
        self._copy.execute("PRAGMA writable_schema = RESET")

    # --- measuring ---

    def _time(self, statement: str, indexes: frozenset[Index]) -> float:
        if (bare := self._bare.get(statement)) is None:
            self._show(frozenset())
            bare = self._bare[statement] = self._measured(statement, float("inf"))
            self._times[statement, tuple(self._planned(statement, frozenset()))] = bare
        key = statement, tuple(self._planned(statement, indexes))
        if key not in self._times:
            self._show(indexes)
            taken = self._measured(statement, 2 * bare)
            if CLOSE * bare < taken < bare:
                taken = max(taken, min(bare, bare * self._ratio(statement, indexes)))
            self._times[key] = taken
        taken = self._times[key]
        return bare if (1 - NOISE) * bare < taken < bare else taken

    def _ratio(self, statement: str, indexes: frozenset[Index]) -> float:
        """Measured again, one right after the other: it may have been the machine that made the first look slow."""
        self._show(frozenset())
        bare = self._measured(statement, float("inf"))
        self._show(indexes)
        return self._measured(statement, 2 * bare) / bare

    def _measured(self, statement: str, enough: float) -> float:
        """The least of several runs; of one, where that took more than `enough` to lose."""
        least, spent = float("inf"), 0.0
        for run in range(1, MOST_RUNS + 1):
            self._patience.allow(STATEMENT_SECONDS)
            begin = time.thread_time()
            for _ in self._copy.execute(statement):
                pass
            taken = time.thread_time() - begin
            least, spent = min(least, taken), spent + taken
            if spent > 1.0 or taken > enough or (run >= RUNS and spent > ENOUGH_SECONDS):
                break
        return max(LEAST_SECONDS, least)

    def _write_cost(self, index: Index) -> float:
        """0.0 where it cannot be measured: a trigger, a table without rowid or rows."""
        with_it, without = frozenset([index]), frozenset[Index]()
        least = {with_it: float("inf"), without: float("inf")}
        self._copy.execute("PRAGMA journal_mode = MEMORY")
        try:
            rows = self._some_rows(index.table)
            for _ in range(WRITE_RUNS):
                for present in least:  # by turns: what disturbs one disturbs the other
                    least[present] = min(least[present], self._update(index, rows, present))
        except sqlite3.Error as error:
            self._patience.tell(error)
            return 0.0
        # An update changes two entries, but of one page, and that is most of it: measured, an insert costs as much.
        return (least[with_it] - least[without]) / len(rows) if rows else 0.0

    def _some_rows(self, name: str) -> list[int]:
        """The rowids of some rows, from all of the table."""
        known = self._rowids.get(name)
        if known is None:
            self._patience.allow(STATEMENT_SECONDS)
            table = quoted_table(name, self._dialect)
            last = self._one(f"SELECT coalesce(max(rowid), 0) FROM {table}")  # noqa: S608 - a table's own name
            step = max(1, last // _WRITTEN)
            asked = f"SELECT rowid FROM {table} WHERE rowid >= ? LIMIT 1"  # noqa: S608
            found = (self._copy.execute(asked, (place,)).fetchone() for place in range(0, last, step))
            known = self._rowids[name] = list(dict.fromkeys(row[0] for row in found if row is not None))
        return known

    def _update(self, index: Index, rows: list[int], present: frozenset[Index]) -> float:
        """Seconds of processor time."""
        self._show(present)
        quote_name = self._dialect.identifier_preparer.quote
        settings = ", ".join(f"{quote_name(name)} = {quote_name(name)}" for name in index.columns)
        table, places = quoted_table(index.table, self._dialect), ", ".join(map(str, rows))
        self._patience.allow(STATEMENT_SECONDS)
        self._copy.execute("BEGIN")
        begin = time.thread_time()
        try:
            self._copy.execute(f"UPDATE {table} SET {settings} WHERE rowid IN ({places})")  # noqa: S608
            return time.thread_time() - begin
        finally:
            self._copy.execute("ROLLBACK")

    def _planned(self, statement: str, indexes: frozenset[Index]) -> list[str]:
        if (known := self._plans.get((statement, indexes))) is not None:
            return known
        self._show(indexes)
        self._patience.allow(STATEMENT_SECONDS)
        rows = self._copy.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
        depths = {0: -1}
        lines = self._plans[statement, indexes] = []
        for number, parent, _, detail in rows:
            depths[number] = depths.get(parent, -1) + 1
            lines.append("  " * depths[number] + hidden(str(detail)))
        return lines

    def _used_pages(self) -> int:
        """Without those that something which was dropped has left."""
        return self._one("PRAGMA page_count") - self._one("PRAGMA freelist_count")

    def _one(self, statement: str) -> int:
        return int(self._copy.execute(statement).fetchone()[0])


def _some(variants: Sequence[str]) -> Sequence[str]:
    """`VARIANTS` of them, from all of the list."""
    return variants[:: max(1, -(-len(variants) // VARIANTS))]


def hidden(detail: str) -> str:
    """A line of a plan without values, of which SQLite shows hardly any."""
    rules = quoting("sqlite")
    return "".join("?" if kind == LITERAL else token for kind, token in tokens(detail, rules))
