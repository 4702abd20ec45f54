"""The core of it, by what SQLAlchemy 1.4 has already: `test_versions.py` runs this under each version."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import orm

from restaurant_otel import sql
from restaurant_otel.sql import engines, fetching
from restaurant_otel.sql.book import QueryEntry, query_book, repeated_queries, slow_queries
from restaurant_otel.sql.keeper import Keeper
from tests.sql.conftest import (
    PASSWORD,
    Database,
    Request,
    Told,
    cancel_query,
    fresh_tables,
    fresh_words,
    stream_rows,
    users,
)
from tests.support.readings import read_registry
from tests.support.spans import Spans
from tests.support.wait import eventually

VERSION = tuple(int(part) for part in sa.__version__.split(".")[:2])
SECRET = "s3cr3tvalue"

Base: Any = orm.declarative_base()


class Author(Base):
    __tablename__ = "authors"
    id = sa.Column(sa.Integer, primary_key=True)
    books = orm.relationship("Book", order_by="Book.id")


class Book(Base):
    __tablename__ = "books"
    id = sa.Column(sa.Integer, primary_key=True)
    author_id = sa.Column(sa.ForeignKey("authors.id"))


@pytest.fixture(autouse=True)
def fresh(told: Told) -> None:
    fresh_words()


@pytest.fixture(params=["pysqlite", "aiosqlite", "asyncpg", *(["psycopg"] if VERSION >= (2, 0) else [])])
def database(request: pytest.FixtureRequest, tmp_path: Path, told: Told) -> Database:
    """By the drivers that this version knows."""
    if "sqlite" in request.param:
        database = Database(f"sqlite+{request.param}:///{tmp_path}/guests.db")
    else:
        database = Database(request.getfixturevalue("postgres").url(request.param))
    database.run(fresh_tables)
    told.clear()
    return database


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.engine.Engine]:
    made = sa.create_engine(
        f"sqlite:///{tmp_path}/shop.db", pool_size=2, max_overflow=1, poolclass=sa.pool.QueuePool
    )
    Base.metadata.create_all(made)
    with orm.Session(made) as session:
        session.add_all([Author(books=[Book(), Book()]) for _ in range(20)])
        session.commit()
    yield made
    made.dispose()


def entry(text: str) -> QueryEntry:
    (found,) = [each for each in query_book() if text in str(each.text)]
    return found


def insert_and_ask(connection) -> list:
    connection.execute(users.insert(), {"name": SECRET})
    connection.execute(users.insert(), [{"name": "Ada"}, {"name": "Bob"}, {"name": "Eve"}])
    connection.execute(
        sa.text(f"SELECT name FROM users WHERE name = '{SECRET}' AND id > :low"), {"low": 0}
    ).fetchall()
    connection.exec_driver_sql("/* hello */ WITH x AS (SELECT id FROM users) SELECT id FROM x").fetchall()
    return connection.execute(sa.select(users).where(users.c.name.in_([SECRET, "Ada"]))).fetchall()


def test_this_is_the_version_that_was_asked_for():
    wanted = os.environ.get("TESTS_SQLALCHEMY")
    assert VERSION >= (2, 1) if wanted is None else ".".join(map(str, VERSION)) == wanted


def test_nothing_that_we_lean_on_is_missing():
    assert fetching.USUAL is not None, "fetching would not be timed"
    engine = sa.create_engine("sqlite://")
    ours = engines.ObservedEngine(engine.dialect, lambda: None, False, sql.Options(), Keeper(lambda: None))
    assert list(ours.listeners) == list(engine.dialect.dispatch.do_execute), "we would never be alone"


def test_spans_and_counts(database: Database, told: Told):
    with Request("/all"):
        assert len(database.run(insert_and_ask)) == 2
    assert told.names == [
        "INSERT users",
        "BATCH INSERT users",
        "SELECT users",
        "SELECT users",
        "SELECT users",
    ]
    assert told.count(http_route="/all") == told.count() == 5
    assert told.spans[1].attributes["db.operation.batch.size"] == 3
    assert all(span.kind is SpanKind.CLIENT and span.attributes["db.namespace"] for span in told.spans)
    for hidden in (SECRET, PASSWORD):
        assert hidden not in told.everything()


def test_rows_and_fetching(database: Database, told: Told):
    with Request("/rows"):
        database.run(insert_and_ask)
    assert told.total("restaurant_db_query_returned_rows_total", http_route="/rows") == 1 + 4 + 2
    assert told.total("restaurant_db_query_fetch_duration_seconds_count", http_route="/rows") == 3


def test_a_failed_query(database: Database, told: Told):
    def insert_twice(connection):
        connection.execute(users.insert(), {"id": 90210, "name": SECRET})
        connection.execute(users.insert(), {"id": 90210, "name": SECRET})

    with pytest.raises(sa.exc.IntegrityError):
        database.run(insert_twice)
    bad = told.spans[-1]
    assert bad.status.status_code is StatusCode.ERROR
    assert bad.attributes["error.type"] in {"IntegrityError", "UniqueViolationError", "UniqueViolation"}
    assert bad.attributes["db.response.status_code"] in {"SQLITE_CONSTRAINT_PRIMARYKEY", "23505"}
    assert SECRET not in told.everything()
    assert "90210" not in told.everything()
    assert told.count(error_type=bad.attributes["error.type"]) == 1


@pytest.mark.parametrize("database", ["aiosqlite", "asyncpg"], indirect=True)
def test_an_async_stream_is_one_query(database: Database, told: Told):
    database.run(insert_and_ask)
    told.clear()
    assert asyncio.run(stream_rows(database, sa.select(users))) == 4
    assert (told.names, told.count()) == (["SELECT users"], 1)


@pytest.mark.parametrize("database", ["asyncpg"], indirect=True)
def test_a_cancelled_task_ends_its_query(database: Database, told: Told, counting_starts: list[str]):
    asyncio.run(cancel_query(database, "SELECT pg_sleep(60)", lambda: counting_starts))
    (span,) = told.spans
    assert span.attributes["error.type"] == "CancelledError"


def lazily(engine: sa.engine.Engine, *options: Any) -> int:
    with orm.Session(engine) as session:
        authors = session.execute(sa.select(Author).options(*options)).scalars().all()
        return sum(len(author.books) for author in authors)


def test_n_plus_one_is_named_and_what_works_in_batches_is_not(engine: sa.engine.Engine, told: Told):
    with Request("/lazy"):
        assert lazily(engine) == 40
    with Request("/selectin"):
        assert lazily(engine, orm.selectinload(Author.books)) == 40
    (each,) = [each for each in repeated_queries() if each.route in {"/lazy", "/selectin"}]
    assert (each.route, each.relationship, each.queries) == ("/lazy", "Author.books", 20)


def test_the_orm(engine: sa.engine.Engine, told: Told):
    told.clear()
    with orm.Session(engine) as session:
        with session.begin_nested():
            session.add(Author(id=99))
        assert session.query(Author).filter_by(id=99).one() is session.get(Author, 99)
    assert [name.partition(" ")[0] for name in told.names] == ["SAVEPOINT", "INSERT", "RELEASE", "SELECT"]


def test_pools(engine: sa.engine.Engine, told: Told):
    def used() -> float:
        sql.before_scrape()
        return read_registry().total(
            "db_client_connection_count",
            db_client_connection_pool_name="sqlite/shop.db",
            db_client_connection_state="used",
        )

    told.clear()
    with engine.connect() as connection:
        assert used() == 1
        connection.detach()
        assert used() == 0
    assert used() == 0
    assert (
        told.total(
            "db_client_connection_wait_time_seconds_count", db_client_connection_pool_name="sqlite/shop.db"
        )
        == 1
    )


def test_slow_queries_and_their_plans(database: Database, told: Told, spans: Spans):
    sql.uninstall()
    sql.install(tracer=lambda: spans.provider.get_tracer("tests"), options=sql.Options(slow_seconds=0.0))
    with Request("/slow"):
        database.run(lambda c: c.execute(sa.select(users).where(users.c.name == SECRET)).fetchall())
    (each,) = eventually(lambda: [each for each in slow_queries() if each.route == "/slow" and each.plan])
    assert ("SCAN" if database.system == "sqlite" else "Seq Scan on users") in str(each.plan)
    assert SECRET not in str(each)


def test_comments(database: Database, told: Told, spans: Spans):
    sql.uninstall()
    sql.install(
        tracer=lambda: spans.provider.get_tracer("tests"), options=sql.Options(comments=frozenset({"route"}))
    )
    seen: list[str] = []

    def listener(cursor, statement, *rest):
        seen.append(statement)

    sa.event.listen(sa.engine.Engine, "do_execute", listener)
    try:
        with Request("/guests"):
            assert len(database.run(insert_and_ask)) == 2
    finally:
        sa.event.remove(sa.engine.Engine, "do_execute", listener)
    mine = [text.replace("%%", "%") for text in seen if "users" in text]
    assert len(mine) == 4  # besides a batch, and what a dialect asks the server first
    assert all(text.endswith("/*route='%2Fguests'*/") for text in mine)


def test_a_flood_of_literals_stays_in_bounds(engine: sa.engine.Engine, told: Told, monkeypatch):
    monkeypatch.setattr(engines, "MOST_REMEMBERED", 20)
    with engine.connect() as connection:
        for n in range(300):
            connection.exec_driver_sql(f"SELECT {n} AS flood").fetchall()
    observed = sql._observation._engines[id(engine.dialect)]
    assert len(observed.recent) + len(observed._older) <= 20
    assert entry("SELECT ? AS flood").calls == 300


@pytest.mark.skipif(VERSION >= (2, 0), reason="gone since 2.0")
def test_what_only_1_4_has(engine: Any, told: Told):
    told.clear()
    assert engine.execute("SELECT 1").scalar() == 1
    with engine.connect() as connection:
        connection.execute("INSERT INTO authors (id) VALUES (?)", [(100,), (101,)])
        assert (
            len(connection.execute(sa.select([sa.column("id")]).select_from(sa.table("authors"))).fetchall())
            == 22
        )
    with sa.create_engine(engine.url, future=True).connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM authors")).scalar() == 22
    assert told.names == ["SELECT", "BATCH INSERT authors", "SELECT authors", "SELECT authors"]
    assert told.count() == 4
