"""From a workload to advice: the parts put together.

`access` opens the database, read-only; `schema` tells what it has, and `workload` what is asked of it; `reading`
understands that; `values` finds values to try it with; `candidates` thinks of indexes; one of `postgresql`, `sqlite`,
`heuristic` says what each would change; `selection` takes the best; `findings` looks at what is there already; and
`progress` tells how far all that is.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from restaurant_otel.sql.advisor import heuristic, postgresql, sqlite
from restaurant_otel.sql.advisor.access import failure, read_only, sqlite_path, usable
from restaurant_otel.sql.advisor.candidates import candidates
from restaurant_otel.sql.advisor.findings import findings
from restaurant_otel.sql.advisor.model import (
    Advice,
    Index,
    Read,
    ReadAdvice,
    Recommendation,
    Skipped,
    Statement,
    Table,
    Write,
)
from restaurant_otel.sql.advisor.progress import Progress
from restaurant_otel.sql.advisor.reading import Shape, Understood, proposed, understand
from restaurant_otel.sql.advisor.schema import count_rows, read_schema
from restaurant_otel.sql.advisor.selection import MOST_INDEXES, SEARCHED, Bill, WhatIf, select
from restaurant_otel.sql.advisor.values import Sample, generic, take_sample, variants
from restaurant_otel.sql.advisor.verdicts import judge
from restaurant_otel.sql.advisor.workload import MOST_STATEMENTS

LEAST_WIN: Final = 0.1
"""A statement whose cost falls by a smaller part is not named as one that wins."""

MOST_CANDIDATES: Final = 400
"""Indexes that are tried; of more, those that promise most by the heuristic."""
MOST_SECONDS: Final = 300.0
"""How long indexes are tried, if nothing else is said; what was found by then counts."""

Workload = Callable[[sa.Connection], Sequence[Statement]]


def run(
    url: str | sa.URL | Any,
    workload: Workload,
    against: str | None,
    what_if: bool,
    seconds: float = MOST_SECONDS,
    progress: Progress | None = None,
) -> Advice:
    """Advice for the database at `url` under what `workload` tells, judging the CREATE INDEXes `against`."""
    address, until = usable(url), time.monotonic() + seconds
    progress = progress or Progress()
    progress.at(0.0, "reading the schema")
    with read_only(address) as connection:
        tables = read_schema(connection)
        progress.at(0.02, "reading the workload")
        asked = progress.over(_most(workload(connection)), "reading statements", 0.05)
        understood = understand(asked, tables, connection.dialect.name)
        samples = _know(connection, tables, understood, progress)
        reads, skipped = _reads(understood, samples, connection.dialect.name)
        notes: list[str] = []
        wishes = [wish for read in reads for wish in read.wishes]
        tried = _shortlist(candidates(wishes, tables, connection.dialect.name), reads, tables, notes)
        judged = (
            [Index(*one) for one in proposed(against, tables, connection.dialect.name)] if against else []
        )
        everything = list(dict.fromkeys([*(one for one in judged if not _is_there(one, tables)), *tried]))
        with _asked(connection, address, everything, tables, what_if, notes, until, progress) as oracle:
            if isinstance(oracle, sqlite.Trial):
                tried = _made(tried, oracle, notes)
            reads, refused = _answered(reads, oracle, progress)
            bill = Bill(reads, understood.writes, oracle)
            bill.until = until
            chosen = select(tried, bill, oracle.size, progress)
            if time.monotonic() > until:
                notes.append(f"The {seconds:g} seconds were up before all was tried: more might be gained.")
            if len(chosen) >= MOST_INDEXES:
                notes.append(f"These {MOST_INDEXES} come first; ask again when they are made.")
            bill.until = None
            progress.at(SEARCHED, "writing it up")
            notes += _remarks(tables, reads, understood.writes)
            advice = Advice(
                system=connection.dialect.name,
                database=_name(address),
                method=oracle.method,
                unit=oracle.unit,
                before=bill.total(()),
                after=bill.total(chosen),
                recommendations=[_recommendation(index, chosen, bill, oracle) for index in chosen],
                reads=[_read_advice(read, chosen, bill, oracle) for read in reads],
                findings=findings(tables.values()),
                skipped=[*understood.skipped, *skipped, *refused],
                notes=notes,
            )
            advice.verdicts = judge(judged, chosen, tables, bill)
    progress.at(1.0, "done")
    return advice


def _most(statements: Iterable[Statement]) -> list[Statement]:
    return sorted(statements, key=lambda one: -one.calls)[: 4 * MOST_STATEMENTS]


def _know(
    connection: sa.Connection, tables: dict[str, Table], understood: Understood, progress: Progress
) -> dict[str, Sample]:
    """Count rows where the database has not, and sample the columns that matter."""
    wanted: dict[str, set[str]] = {name: set() for shape in understood.shapes for name in shape.tables}
    for shape in understood.shapes:
        for wish in shape.wishes:
            order = [key.column for key in wish.order]
            wanted[wish.table].update([*wish.equal, *wish.joined, *wish.ranges, *wish.patterns, *order])
        for template in shape.templates:
            for slot in template.slots:
                if slot.table is not None and slot.column is not None:
                    wanted.setdefault(slot.table, set()).add(slot.column)
    for name, table in tables.items():
        if table.rows <= 0 and (name in wanted or table.foreign_keys):
            table.rows = count_rows(connection, table)
    samples = {}
    for name, columns in progress.over(list(wanted.items()), "sampling tables", 0.1):
        samples[name] = sample = take_sample(connection, tables[name], columns)
        tables[name].distinct = {column: sample.distinct(column, tables[name].rows) for column in columns}
    return samples


def _reads(
    understood: Understood, samples: dict[str, Sample], dialect: str
) -> tuple[list[Read], list[Skipped]]:
    reads, skipped = [], []
    for number, shape in enumerate(understood.shapes[:MOST_STATEMENTS], 1):
        read = Read(
            number,
            shape.shown,
            shape.calls,
            tuple(shape.routes),
            tuple(shape.tables),
            shape.wishes,
            frozenset(shape.looked_at),
        )
        _fill(read, shape, samples)
        if not read.variants and dialect == "postgresql":
            read.generic, read.parameters = generic(shape.templates[0]), len(shape.templates[0].slots)
        if read.variants or read.generic is not None or dialect != "sqlite":
            reads.append(read)
        else:
            skipped.append(Skipped(shape.shown, "no values were to be had for its parameters"))
    return reads, skipped


def _fill(read: Read, shape: Shape, samples: dict[str, Sample]) -> None:
    for template in shape.templates:
        filled = variants(template, samples)
        read.variants += [one for one in filled if one not in read.variants]


def _shortlist(
    found: list[Index], reads: list[Read], tables: dict[str, Table], notes: list[str]
) -> list[Index]:
    """The `MOST_CANDIDATES` that promise most, each by itself, in the order in which they were found."""
    if len(found) <= MOST_CANDIDATES:
        return found
    guess = Bill(reads, (), heuristic.Heuristic(tables))
    promise = {index: guess.gain(index, ()) for index in found}
    best = set(sorted(found, key=lambda index: -promise[index])[:MOST_CANDIDATES])
    notes.append(f"{len(found)} indexes could be tried; the {MOST_CANDIDATES} that promise most were.")
    return [index for index in found if index in best]


def _made(tried: list[Index], copy: sqlite.Trial, notes: list[str]) -> list[Index]:
    there = set(copy.candidates)
    if not there.issuperset(tried):
        notes.append("There was no room or time on the copy to try all indexes: more might be gained.")
    return [index for index in tried if index in there]


@contextmanager
def _asked(
    connection: sa.Connection,
    address: sa.URL,
    tried: Sequence[Index],
    tables: dict[str, Table],
    what_if: bool,
    notes: list[str],
    until: float,
    progress: Progress,
) -> Iterator[WhatIf]:
    """Whom to ask what an index would change; `notes` learns why it is the heuristic, if it is."""
    why: str | None = "as it was told to"
    system = connection.dialect.name
    if what_if and system == "postgresql":
        why = postgresql.why_not(connection)
        if why is None:
            yield postgresql.HypoPG(connection)
            return
    elif what_if and system == "sqlite":
        path = sqlite_path(address)
        why = sqlite.why_not(path)
        if why is None:
            progress.at(0.1, "copying the database")
            with sqlite.trial(
                path, progress.over(tried, "making indexes on the copy", 0.4), connection.dialect, until
            ) as copy:
                yield copy
            return
    elif what_if:
        why = f"{system} cannot be asked what an index would change"
    notes.append(f"Heuristic: nothing here is proven, because {why}.")
    yield heuristic.Heuristic(tables)


def _answered(reads: list[Read], oracle: WhatIf, progress: Progress) -> tuple[list[Read], list[Skipped]]:
    """The reads that the database has a plan for."""
    fine, refused = [], []
    for read in progress.over(reads, "asking for plans", 0.55):
        try:
            oracle.ask(read, frozenset())
        except (SQLAlchemyError, sqlite3.Error) as error:
            refused.append(Skipped(read.shown, f"the database has no plan for it: {failure(error)}"))
        else:
            fine.append(read)
    return fine, refused


def _remarks(tables: dict[str, Table], reads: list[Read], writes: list[Write]) -> Iterator[str]:
    used = sorted({name for read in reads for name in read.tables})
    fresh = [name for name in used if not tables[name].analysed and tables[name].rows]
    if fresh:
        yield f"Never analysed, so their plans are guesses (run ANALYZE): {', '.join(fresh)}."
    if guessed := [read.number for read in reads if read.generic is not None]:
        yield f"Planned without values, as a generic plan: statements {', '.join(map(str, guessed))}."
    if reads and not writes:
        yield "The workload has no writes: what an index costs them is not taken off its gain."


def _recommendation(index: Index, chosen: list[Index], bill: Bill, oracle: WhatIf) -> Recommendation:
    others = [one for one in chosen if one != index]
    gain = bill.gain(index, others)
    winners = [
        read
        for read in bill.readers(index).values()
        if bill.of(read, chosen) < (1 - LEAST_WIN) * bill.of(read, others)
    ]
    return Recommendation(
        index=index,
        gain=gain,
        share=gain / bill.total(()),
        size=oracle.size(index),
        write_cost=bill.of_writes(index),
        write_each=oracle.write_cost(index),
        reads=tuple(read.number for read in winners),
        routes=tuple(dict.fromkeys(route for read in winners for route in read.routes)),
    )


def _read_advice(read: Read, chosen: list[Index], bill: Bill, oracle: WhatIf) -> ReadAdvice:
    relevant = bill.relevant(read, chosen)
    return ReadAdvice(
        number=read.number,
        shown=read.shown,
        calls=read.calls,
        routes=read.routes,
        before=bill.of(read, ()),
        after=bill.of(read, chosen),
        plan_before=oracle.plan(read, frozenset()),
        plan_after=oracle.plan(read, relevant),
    )


def _is_there(index: Index, tables: dict[str, Table]) -> bool:
    return any(existing.covers(index) for existing in tables[index.table].existing)


def _name(address: sa.URL) -> str | None:
    """The database's name, without folders, host, user or password."""
    name = address.database
    return name.rpartition("/")[2].rpartition("\\")[2] if name else None
