"""What the index advisor's advice is worth: the example's ten queries, measured before and after, on both databases.

200,000 users and 1,000,000 shifts without an index. The advisor looks at `examples/restaurant/workload.sql`; what
it advises is made; the same statements, with the same values, are timed before and after, and once more with the
seven indexes that the restaurant product had. Totals are weighted by the workload's calls. Statements are timed
round by round over all of them, and of each the least counts. SQLite lives in a file of the temporary folder;
PostgreSQL is started from Debian's packages on a free port, or named by DATABASE_URL (a database that is empty,
with hypopg).

``python -m benchmarks.advisor [--quick] [--only sqlite|postgresql]``: --quick takes a tenth of the data.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from benchmarks import harness
from benchmarks.harness import Figure
from examples.restaurant import bulk
from restaurant_otel.sql.advisor import Advice, Index, Key, apply, pipeline
from restaurant_otel.sql.advisor.selection import Bill, select
from restaurant_otel.sql.advisor.workload import source

EXAMPLE = Path(bulk.__file__).parent
ROUNDS = 5
INSERTS = {"schedules": 500, "users": 100}
"""Rows that the workload adds."""
THEIRS = [
    Index(table, tuple(map(Key, columns)))
    for table, *columns in (
        ("users", "email"),
        ("users", "role"),
        ("users", "branch_id"),
        ("users", "created_at"),
        ("schedules", "user_id"),
        ("schedules", "date"),
        ("schedules", "date", "user_id"),
    )
]


class Looked:
    """An advice, with what it was chosen from."""

    def __init__(self, url: sa.URL) -> None:
        self.best = self.writes = 0.0
        self.size = 0
        self.statements: list[tuple[float, list[str]]] = []
        real = select

        def look(tried: Any, bill: Bill, size: Any, *more: Any) -> list[Index]:
            chosen = real(tried, bill, size, *more)
            bill.until = None  # the advisor's own time limit is not for what follows
            subsets = itertools.chain.from_iterable(
                itertools.combinations(tried, count) for count in range(5)
            )
            self.best = min(map(bill.total, subsets))
            self.size = sum(size(index) or 0 for index in THEIRS)
            self.writes = sum(bill.of_writes(index) for index in THEIRS)
            self.statements = [(read.calls, read.variants) for read in bill.reads]
            return chosen

        pipeline.select = look  # type: ignore[attr-defined]
        try:
            against = (EXAMPLE / "indexes.sql").read_text()
            self.advice: Advice = pipeline.run(url, source(EXAMPLE / "workload.sql"), against, True)
        finally:
            pipeline.select = real  # type: ignore[attr-defined]


def timed(engine: sa.Engine, statements: list[tuple[float, list[str]]]) -> float:
    """Seconds of the whole workload: the least of each statement's rounds, on average over its values, by its calls."""
    least = [float("inf")] * len(statements)
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        for _ in range(ROUNDS):
            for place, (_, variants) in enumerate(statements):
                begin = time.perf_counter()
                for variant in variants:
                    cursor.execute(variant)
                    cursor.fetchall()
                least[place] = min(least[place], (time.perf_counter() - begin) / len(variants))
    return sum(calls * seconds for (calls, _), seconds in zip(statements, least, strict=True))


def written(engine: sa.Engine) -> float:
    """Microseconds to add one row, on average over the workload's: rows like those there are, and rolled back."""
    total = 0.0
    with engine.connect() as connection:
        clock = processor_clock(connection)
        for table, calls in INSERTS.items():
            names = [column["name"] for column in sa.inspect(connection).get_columns(table)]
            others = ", ".join(name for name in names if name != "id")
            copy = (
                f"INSERT INTO {table} (id, {others}) "
                f"SELECT id + {10**7}, {others} FROM {table} WHERE id % 97 = 0"
            )
            taken = []
            for _ in range(2 * ROUNDS):
                begin = clock()
                rows = connection.exec_driver_sql(copy, execution_options={"no_parameters": True}).rowcount
                taken.append((clock() - begin) / rows * 1e6)
                connection.rollback()
            total += calls * min(taken)
    if engine.dialect.name == "postgresql":  # what was rolled back is no part of the size
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"VACUUM {', '.join(INSERTS)}")
    return total / sum(INSERTS.values())


def processor_clock(connection: sa.Connection) -> Callable[[], float]:
    """Seconds that the database has worked for this connection, so that a busy machine does not count.

    SQLite works in this thread, PostgreSQL in a process; where that is not at hand, it is the time of the wall.
    """
    if connection.dialect.name == "sqlite":
        return time.thread_time
    asked = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    try:
        process = psutil.Process(asked)
        if "postgres" in process.name():
            return lambda: sum(process.cpu_times()[:2])
    except psutil.Error:
        pass
    return time.perf_counter


def size(engine: sa.Engine) -> int:
    """Bytes of the database."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            asked = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relname IN ('users', 'schedules')"
            return int(connection.exec_driver_sql(asked).scalar_one())
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        free = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
        return int((pages - free) * connection.exec_driver_sql("PRAGMA page_size").scalar_one())


def figures(url: sa.URL, users: int) -> list[Figure]:
    """Load, advise, measure, make, measure; print it."""
    name = url.get_backend_name()
    engine = bulk.sync_engine(url)
    begin = time.perf_counter()
    rows = bulk.load(engine, users, indexes=False)
    loaded = time.perf_counter() - begin
    begin = time.perf_counter()
    looked = Looked(url)
    spent = time.perf_counter() - begin
    advice = looked.advice
    before, bare_size, bare_write = timed(engine, looked.statements), size(engine), written(engine)
    outcomes = {}
    for label, indexes in (
        ("advised", [one.index for one in advice.recommendations]),
        ("list of seven", THEIRS),
    ):
        made = apply(url, indexes)
        assert all(one.done for one in made), made
        engine.dispose()
        outcomes[label] = (
            timed(engine, looked.statements),
            size(engine) - bare_size,
            written(engine),
        )
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for one in made:
                connection.exec_driver_sql(one.undo)
    print(
        f"\n{name}: {rows:,} rows loaded in {loaded:.1f} s; advice (and all subsets of four) in {spent:.1f} s"
    )
    print(
        f"  by {advice.method}: {advice.before:.4g} -> {advice.after:.4g} {advice.unit}; best of four {looked.best:.4g}"
    )
    for one in advice.recommendations:
        print(f"    {one.index.label}")
    for verdict in advice.verdicts:
        if not verdict.agrees:
            print(f"    not {verdict.index.label}: {verdict.why}")
    print(f"  {'':14} {'workload s':>12} {'less':>7} {'MB':>7} {'us a row':>11}")
    print(f"  {'no index':14} {before:12.3f} {'':7} {'':7} {bare_write:11.2f}")
    for label, (after, more, cost) in outcomes.items():
        print(f"  {label:14} {after:12.3f} {1 - after / before:7.1%} {more / 2**20:7.1f} {cost:11.2f}")
    engine.dispose()
    (ours, our_size, _), (_, their_size, _) = outcomes["advised"], outcomes["list of seven"]
    ours_writes = sum(one.write_cost for one in advice.recommendations)
    return [
        Figure(f"{name}: measured total, after / before", ours / before, goal=0.40),
        Figure(f"{name}: what-if cost / best of all subsets of four", advice.after / looked.best, goal=1.05),
        Figure(f"{name}: size / the list of seven's", our_size / their_size, goal=1.0),
        Figure(f"{name}: writes' cost / the list of seven's", ours_writes / looked.writes, goal=1.0),
        Figure(f"{name}: loading", loaded, goal=60.0, unit="s"),
    ]


@contextmanager
def server() -> Iterator[sa.URL]:
    """A PostgreSQL of our own."""
    if named := os.environ.get("DATABASE_URL"):
        yield sa.make_url(named).set(drivername="postgresql+psycopg")
        return
    from tests.sql import conftest

    started = conftest.postgres.__wrapped__()  # the fixture's generator
    running = next(started)
    try:
        url = sa.make_url(running.url("psycopg"))
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS hypopg")
        engine.dispose()
        yield url
    finally:
        started.close()


def main() -> int:
    made = harness.parser(__doc__)
    made.add_argument("--only", choices=("sqlite", "postgresql"), help="one database only")
    arguments = harness.parse(made)
    users = bulk.USERS // 10 if arguments.quick else bulk.USERS
    found: list[Figure] = []
    if arguments.only != "postgresql":
        with tempfile.TemporaryDirectory(prefix="restaurant-advisor-") as folder:
            found += figures(sa.make_url(f"sqlite:///{folder}/restaurant.sqlite3"), users)
    if arguments.only != "sqlite":
        with server() as url:
            found += figures(url, users)
    print()
    for figure in found:
        verdict = "holds" if figure.holds else "MISSED"
        print(f"{figure.name:62} {figure.value:8.3f}  <= {figure.goal:g}  {verdict}")
    return 0 if all(figure.holds for figure in found) else 1


if __name__ == "__main__":
    sys.exit(main())
