"""Databases for the advisor: the restaurant's tables without an index, on PostgreSQL with hypopg and on SQLite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from examples.restaurant import bulk
from restaurant_otel.sql.advisor import Advice, Statement, advise

EXAMPLE = Path(bulk.__file__).parent
WORKLOAD = EXAMPLE / "workload.sql"
THEIRS = (EXAMPLE / "indexes.sql").read_text()
USERS = 20_000


def make_database(postgres: Any, name: str) -> sa.URL:
    """A fresh database of the server, with hypopg; skips where the server has no hypopg.

    That is not a failure even with REQUIRE_SERVERS: other systems than Debian may have no such package.
    """
    url = sa.make_url(postgres.url("psycopg"))
    server = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    server.dispose()
    engine = sa.create_engine(url.set(database=name), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT 1 FROM pg_available_extensions WHERE name = 'hypopg'"
        ).all()
        if not found:
            engine.dispose()
            pytest.skip("the server has no hypopg (Debian: postgresql-<version>-hypopg)")
        connection.exec_driver_sql("CREATE EXTENSION hypopg")
    engine.dispose()
    return url.set(database=name)


def drop_database(url: sa.URL) -> None:
    """Away with it, whoever is connected."""
    engine = sa.create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {url.database} WITH (FORCE)")
    engine.dispose()


@pytest.fixture(scope="session", params=["postgresql", "sqlite"])
def restaurant(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> sa.URL:
    """20,000 users and 100,000 shifts without an index. Tests leave it as it is."""
    if request.param == "postgresql":
        url = make_database(request.getfixturevalue("postgres"), "restaurant")
    else:
        url = sa.make_url(f"sqlite:///{tmp_path_factory.mktemp('restaurant')}/restaurant.sqlite3")
    engine = bulk.sync_engine(url)
    bulk.load(engine, USERS, indexes=False)
    engine.dispose()
    return url


class Bench:
    """A database to try hand-made cases on: `run` some SQL, then ask for `advice`."""

    def __init__(self, url: sa.URL) -> None:
        self.url = url
        self.system = url.get_backend_name()

    def run(self, *statements: str) -> None:
        engine = sa.create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
        engine.dispose()

    def rows(self, statement: str) -> list[Any]:
        engine = sa.create_engine(self.url)
        with engine.connect() as connection:
            options = {"no_parameters": True}
            found = list(connection.exec_driver_sql(statement, execution_options=options).all())
        engine.dispose()
        return found

    def fill(self, table: str = "guests", rows: int = 20_000) -> None:
        """``guests (id, email, city, vip, note, visits, seen)``: few cities, rare VIPs, notes that are mostly NULL."""
        numbers = (
            f"(SELECT g AS n FROM generate_series(1, {rows}) g)"
            if self.system == "postgresql"
            else f"(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {rows}) SELECT n FROM c)"
        )
        self.run(
            f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, email VARCHAR(80), city VARCHAR(40), vip INTEGER, "
            "note VARCHAR(40), visits INTEGER, seen VARCHAR(40))",
            f"INSERT INTO {table} SELECT n, 'guest' || n || '@x.example', 'city' || (n % 3), "
            f"CASE WHEN n % 1000 = 0 THEN 1 ELSE 0 END, CASE WHEN n % 500 = 0 THEN 'note' || n END, n * 7919 % 997, "
            f"'day' || (n * 104729 % 5003) FROM {numbers} numbers",
            f"ANALYZE {table}",
        )

    def advice(self, *statements: str | Statement, **options: Any) -> Advice:
        return advise(self.url, list(statements), **options)

    def advised(self, *statements: str | Statement, **options: Any) -> list[str]:
        """The labels of the indexes that are advised."""
        return [one.index.label for one in self.advice(*statements, **options).recommendations]


@pytest.fixture(params=["postgresql", "sqlite"])
def bench(request: pytest.FixtureRequest, tmp_path: Path, new_database: Callable[[], sa.URL]) -> Bench:
    if request.param == "postgresql":
        return Bench(new_database())
    return Bench(sa.make_url(f"sqlite:///{tmp_path}/bench.sqlite3"))


@pytest.fixture
def new_database(request: pytest.FixtureRequest) -> Iterator[Callable[[], sa.URL]]:
    """Makes databases of the PostgreSQL server, dropped again."""
    made: list[sa.URL] = []

    def make() -> sa.URL:
        made.append(make_database(request.getfixturevalue("postgres"), f"bench{len(made)}"))
        return made[-1]

    yield make
    for url in made:
        drop_database(url)
