"""The users and schedules of a chain at real size: 200,000 users and 1,000,000 shifts, loaded in well under a minute.

``python -m examples.restaurant.bulk [--users N] [--indexes none|app]`` fills the database of `DATABASE_URL`, which
must have no such tables yet. The same every time. By PostgreSQL's COPY (psycopg) or SQLite's executemany, and not
by the ORM: that would take minutes. With ``--indexes none`` the tables have their primary keys only, for the index
advisor to look at (`workload.sql` is what is asked of them, `indexes.sql` what the restaurant product itself came
to have). `extend` makes a database that `seed` has filled as large; ``make demo SIZE=real`` does that.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from examples.restaurant.database import database_url
from examples.restaurant.models import Branch, Schedule, User
from examples.restaurant.seed import CITIES, FIRST_NAMES, LAST_NAMES, SHIFTS

USERS = 200_000
SHIFTS_A_USER = 5
USERS_A_BRANCH = 100
DAYS = 365
FIRST_DAY = dt.date(2025, 1, 1)
OPENED = dt.datetime.combine(dt.date(2020, 1, 1), dt.time(9))

Rows = Iterator[tuple[Any, ...]]


def branches(users: int) -> Rows:
    """One branch for each `USERS_A_BRANCH` users."""
    for number in range(1, max(1, users // USERS_A_BRANCH) + 1):
        yield number, f"Trattoria {number}", CITIES[number % len(CITIES)]


def people(users: int, seed: int = 4) -> Rows:
    """`users` users; most are waiters, and each has been there for some of the last six years."""
    chance, last = random.Random(seed), max(1, users // USERS_A_BRANCH)
    for number in range(1, users + 1):
        first, family = chance.choice(FIRST_NAMES), chance.choice(LAST_NAMES)
        role = chance.choices(("waiter", "cook", "manager", "admin"), (55, 35, 8, 2))[0]
        joined = OPENED + dt.timedelta(minutes=chance.randrange(6 * 365 * 24 * 60))
        email = f"{first}.{family}.{number}@trattoria.example".lower()
        yield number, email, f"{first} {family}", role, chance.randint(1, last), joined


def shifts(users: int, seed: int = 5) -> Rows:
    """`SHIFTS_A_USER` shifts for each user, spread over a year, in the order in which they were planned."""
    chance = random.Random(seed)
    for number in range(1, users * SHIFTS_A_USER + 1):
        starts, ends = chance.choice(SHIFTS)
        yield number, chance.randint(1, users), FIRST_DAY + dt.timedelta(chance.randrange(DAYS)), starts, ends


def tables() -> list[sa.Table]:
    """The three tables, in an order that foreign keys allow."""
    found: list[sa.Table] = [model.__table__ for model in (Branch, User, Schedule)]  # type: ignore[misc]
    return found


def load(engine: sa.Engine, users: int = USERS, *, indexes: bool = True) -> int:
    """Make the tables of an empty database and fill them; how many rows. `engine` is a sync one (psycopg or sqlite3).

    Without `indexes` they get neither those of the models nor the unique one on `users.email`.
    """
    written = 0
    made = tables() if indexes else _bare()
    with engine.begin() as connection:
        made[0].metadata.create_all(connection, made)
        fill = _copy if connection.dialect.name == "postgresql" else _insert
        for table, rows in zip(made, (branches(users), people(users), shifts(users)), strict=True):
            written += fill(connection.connection.driver_connection, table, rows)
        if connection.dialect.name == "postgresql":
            _advance(connection, made)
    _analyse(engine)
    return written


def _advance(connection: sa.Connection, made: Sequence[sa.Table]) -> None:
    """PostgreSQL hands out ids from sequences, which rows inserted with their ids did not move."""
    for table in made:
        sequence = f"pg_get_serial_sequence('{table.name}', 'id')"
        connection.exec_driver_sql(f"SELECT setval({sequence}, (SELECT max(id) FROM {table.name}))")


def _analyse(engine: sa.Engine) -> None:
    names = ", ".join(table.name for table in tables())
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        postgresql = engine.dialect.name == "postgresql"
        connection.exec_driver_sql(f"VACUUM ANALYZE {names}" if postgresql else "ANALYZE")


def extend(
    engine: sa.Engine,
    users: int = USERS,
    *,
    indexes: bool = True,
    ended: Callable[[], bool] = lambda: False,
) -> int:
    """Add to what `seed` has written until there are `users` users, and their shifts; how many rows.

    Without `indexes` users and schedules keep only those that uphold a rule, their primary keys and the unique email:
    the app is to answer the same, if later. Stops early once it has `ended`.
    """
    written = 0
    with engine.begin() as connection:
        metadata = sa.MetaData()
        metadata.reflect(connection, only=[table.name for table in tables()])
        for table in (Branch.__table__, User.__table__, Schedule.__table__):
            for index in metadata.tables[table.name].indexes:
                if not index.unique:  # made anew below: quicker than one row at a time
                    index.drop(connection)
        fill = _copy if connection.dialect.name == "postgresql" else _insert
        for table, rows in zip(tables(), (branches(users), people(users), shifts(users)), strict=True):
            last = connection.execute(sa.select(sa.func.coalesce(sa.func.max(table.c.id), 0))).scalar_one()
            more = (row for row in rows if row[0] > last)
            more = itertools.takewhile(lambda _: not ended(), more)
            written += fill(connection.connection.driver_connection, table, more)
            if indexes:
                for index in metadata.tables[table.name].indexes:
                    if not index.unique:
                        index.create(connection)
        if connection.dialect.name == "postgresql":
            _advance(connection, tables())
    _analyse(engine)
    return written


def _bare() -> list[sa.Table]:
    """The tables with their columns, primary keys and nothing else."""
    metadata = sa.MetaData()
    return [
        sa.Table(
            table.name,
            metadata,
            *(
                sa.Column(one.name, one.type, primary_key=one.primary_key, nullable=False)
                for one in table.columns
            ),
        )
        for table in tables()
    ]


def _copy(connection: Any, table: sa.Table, rows: Rows) -> int:
    names = ", ".join(column.name for column in table.columns)
    count = 0
    with connection.cursor() as cursor, cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
        for count, row in enumerate(rows, 1):  # noqa: B007 - the last is how many
            copy.write_row(row)
    return count


def _insert(connection: sqlite3.Connection, table: sa.Table, rows: Rows) -> int:
    names = ", ".join(column.name for column in table.columns)
    places = ", ".join("?" * len(table.columns))
    told = (tuple(_as_text(value) for value in row) for row in rows)
    done = connection.executemany(f"INSERT INTO {table.name} ({names}) VALUES ({places})", told)
    return done.rowcount


def _as_text(value: Any) -> Any:
    """Dates as SQLAlchemy's SQLite dialect writes them."""
    if isinstance(value, dt.datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.%f")
    return value.isoformat() if isinstance(value, dt.date) else value


def sync_engine(url: sa.URL, schema: str | None = None) -> sa.Engine:
    """An engine for `load` and `extend`, whatever driver `url` names; `schema` is PostgreSQL's."""
    if url.get_backend_name() == "postgresql":
        arguments = {"options": f"-csearch_path={schema}"} if schema else {}
        return sa.create_engine(url.set(drivername="postgresql+psycopg"), connect_args=arguments)
    engine = sa.create_engine(url.set(drivername="sqlite"))

    @sa.event.listens_for(engine, "connect")
    def hurry(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -262144")

    return engine


def _main() -> None:
    parser = argparse.ArgumentParser(description="Fill an empty database with a chain of real size.")
    parser.add_argument("--users", type=int, default=USERS, help="how many users (default 200,000)")
    parser.add_argument(
        "--indexes", choices=("none", "app"), default="app", help="with the app's indexes, or none"
    )
    arguments = parser.parse_args()
    engine = sync_engine(database_url())
    try:
        if sa.inspect(engine).get_table_names():
            parser.exit(1, "the database has tables already: left as it is\n")
        begin = time.monotonic()
        written = load(engine, arguments.users, indexes=arguments.indexes == "app")
    finally:
        engine.dispose()
    print(f"{written:,} rows in {time.monotonic() - begin:.1f} s")


if __name__ == "__main__":
    _main()
