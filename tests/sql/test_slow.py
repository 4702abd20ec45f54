"""Slow queries are kept with the database's plan, which is asked for once, elsewhere, and shows no value."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from restaurant_otel import sql
from restaurant_otel.sql import lexing, slow
from restaurant_otel.sql.book import SlowQuery, slow_queries
from tests.sql.conftest import Database, Request, Told, explained, users
from tests.sql.test_queries import insert_batch, insert_one
from tests.support.spans import Spans
from tests.support.wait import eventually

SECRET = "s3cr3tvalue"


pytestmark = pytest.mark.usefixtures("everything_is_slow")


def kept(summary: str) -> SlowQuery:
    """The slow query of this summary, explained."""
    return explained(lambda each: each.summary == summary)


def by_name(connection):
    return connection.execute(sa.select(users).where(users.c.name == SECRET, users.c.id > 90210)).all()


def test_a_slow_query_is_kept_with_plan_route_and_trace(database: Database, told: Told, added: Callable):
    database.run(insert_batch)
    told.clear()
    with Request("/slow"):
        database.run(by_name)
    each = kept("SELECT users")
    (span,) = told.spans
    assert each.route == "/slow"
    assert each.trace_id == f"{span.context.trace_id:032x}"
    assert each.seconds > 0
    assert each.no_plan is None
    assert ("SEARCH users" if database.system == "sqlite" else "on users") in str(each.plan)
    assert told.total("restaurant_db_slow_queries_total", http_route="/slow") == 1
    for hidden in (SECRET, "90210"):
        assert hidden not in str(each)


def test_a_plan_of_literals_shows_none(database: Database, told: Told):
    database.run(
        lambda c: c.execute(
            sa.text(f"SELECT name FROM users WHERE name = '{SECRET}' AND id IN (90210, 90211)")
        ).all()
    )
    each = kept("SELECT users")
    assert each.plan
    assert SECRET not in str(each)
    assert "9021" not in str(each)


def test_asking_for_plans_is_not_told_and_happens_once(database: Database, told: Told):
    database.run(by_name)
    kept("SELECT users")
    told.clear()
    for _ in range(5):
        database.run(by_name)
    assert told.names == ["SELECT users"] * 5
    assert not any("EXPLAIN" in str(span.attributes) for span in told.spans)


def test_what_is_not_a_select_is_kept_without_plan(database: Database, told: Told):
    database.run(insert_one)
    each = kept("INSERT users")
    assert (each.plan, each.no_plan) == (None, "not asked for")


def test_plans_can_be_switched_off(database: Database, told: Told, spans: Spans):
    sql.uninstall()
    sql.install(
        tracer=lambda: spans.provider.get_tracer("tests"),
        options=sql.Options(slow_seconds=0.0, plans=False),
    )
    database.run(by_name)
    assert kept("SELECT users").plan is None


def test_what_is_fast_is_not_kept(database: Database, told: Told, spans: Spans):
    sql.uninstall()
    sql.install(tracer=lambda: spans.provider.get_tracer("tests"), options=sql.Options(slow_seconds=3_600.0))
    database.run(lambda connection: connection.execute(sa.text("SELECT 1 AS quick")).all())
    assert not [each for each in slow_queries() if "quick" in each.text]
    assert told.total("restaurant_db_slow_queries_total", db_query_summary="SELECT") == 0


def test_the_request_does_not_wait_for_the_plan(told: Told, tmp_path, monkeypatch):
    here = threading.get_ident()
    asked: list[int] = []
    monkeypatch.setattr(slow, "explain", lambda question: asked.append(threading.get_ident()) or "a plan")
    engine = sa.create_engine(f"sqlite:///{tmp_path}/guests.db")
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1 AS elsewhere")).all()
    kept("SELECT")
    assert asked
    assert here not in asked
    engine.dispose()


def test_a_database_in_memory_has_no_second_connection(told: Told):
    with sa.create_engine("sqlite://").connect() as connection:
        connection.execute(sa.text("SELECT 1")).all()
    assert kept("SELECT").plan is None


@pytest.mark.parametrize("database", ["psycopg"], indirect=True)
def test_a_plan_that_cannot_be_had_says_why_without_the_message(database: Database, told: Told):
    def work(connection):
        connection.execute(sa.text(f"CREATE TEMPORARY TABLE mine AS SELECT '{SECRET}' AS name"))
        connection.execute(sa.text("SELECT * FROM mine")).all()

    database.run(work)
    each = kept("SELECT mine")
    assert (each.plan, each.no_plan) == (None, "ProgrammingError")


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("SELECT 1", True),
        ("  /* a comment */ SELECT ';' ", True),
        ("WITH x AS (SELECT 1) SELECT * FROM x;", True),
        ("SELECT 1; DELETE FROM users", False),
        ("SELECT 1;;", False),
        ("DELETE FROM users", False),
        ("EXPLAIN SELECT 1", False),
        ("", False),
    ],
)
def test_only_one_select_is_explained(text: str, fine: bool):
    assert slow._is_one_select(text, lexing.quoting("postgresql")) is fine


def test_other_databases_are_not_asked(told: Told):
    class Exotic:
        name = "exotic"

    class Engine:
        dialect = Exotic()

    assert slow.explain(slow.Question("SELECT 1", (), Engine())) is None  # type: ignore[arg-type]


def test_asking_leaves_no_connection_behind(database: Database, told: Told):
    if database.system != "postgresql":
        pytest.skip("SQLite has no list of its connections")
    database.run(by_name)
    kept("SELECT users")
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'postgres' AND pid <> pg_backend_pid()"
    eventually(lambda: database.run(lambda c: c.exec_driver_sql(count).scalar()) == 0)


def test_a_slow_query_in_a_running_loop_is_explained_by_a_loop_of_its_own(told: Told, tmp_path):
    from sqlalchemy.ext.asyncio import create_async_engine

    async def main() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/guests.db")
        async with engine.connect() as connection:
            await connection.execute(sa.text("SELECT 1 AS in_a_loop"))
            await asyncio.to_thread(kept, "SELECT")
        await engine.dispose()

    asyncio.run(main())
    assert "SCAN" in str(kept("SELECT").plan)
