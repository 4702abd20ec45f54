"""Pools say themselves how many connections they have; waiting, making and using them is timed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from restaurant_otel import sql
from tests.sql.conftest import PASSWORD, Database, Postgres, Told, fresh_tables
from tests.support.readings import read_registry
from tests.support.spans import Spans
from tests.support.wait import eventually

NAME = "sqlite/pool.db"


@pytest.fixture
def engine(told: Told, tmp_path) -> Iterator[sa.Engine]:
    made = sa.create_engine(f"sqlite:///{tmp_path}/pool.db", pool_size=2, max_overflow=1, pool_timeout=0.05)
    yield made
    made.dispose()


def count(name: str = NAME) -> dict[str, float]:
    """Connections by state, as a scrape would tell them."""
    sql.before_scrape()
    series = read_registry().series("db_client_connection_count", db_client_connection_pool_name=name)
    return {dict(labels)["db_client_connection_state"]: value for labels, value in series.items()}


def gauge(metric: str, name: str = NAME) -> float:
    sql.before_scrape()
    return read_registry().total(metric, db_client_connection_pool_name=name)


def test_connections_in_use_and_idle_are_the_pool_s_own_numbers(engine: sa.Engine):
    with engine.connect(), engine.connect():
        assert count() == {"used": 2, "idle": 0}
    assert count() == {"used": 0, "idle": 2}
    assert (gauge("db_client_connection_max"), gauge("db_client_connection_idle_max")) == (3, 2)


def test_a_detached_connection_is_no_longer_in_use(engine: sa.Engine):
    connection = engine.connect()
    assert count()["used"] == 1
    connection.detach()
    assert count()["used"] == 0
    connection.close()
    assert count()["used"] == 0


def test_an_invalidated_connection_does_not_stay_in_use(engine: sa.Engine):
    with engine.connect() as connection:
        connection.invalidate()
        assert count() == {"used": 0, "idle": 1} or count() == {"used": 1, "idle": 0}
    assert count()["used"] == 0


def test_connections_borrowed_before_we_came_do_not_make_it_negative(engine: sa.Engine, spans: Spans):
    sql.uninstall()
    early = engine.connect()
    sql.install(tracer=lambda: spans.provider.get_tracer("tests"))
    late = engine.connect()
    assert count() == {"used": 2, "idle": 0}
    early.close()
    assert count() == {"used": 1, "idle": 1}
    late.close()
    assert count() == {"used": 0, "idle": 2}


def test_a_disposed_engine_s_new_pool_is_the_same_name(engine: sa.Engine):
    with engine.connect():
        pass
    engine.dispose()
    with engine.connect():
        assert count()["used"] == 1


def test_two_engines_of_one_database_add_up(engine: sa.Engine):
    other = sa.create_engine(engine.url)
    with engine.connect(), other.connect():
        assert count()["used"] == 2
    other.dispose()


def test_waiting_making_and_using_are_timed(engine: sa.Engine, told: Told):
    for _ in range(3):
        with engine.connect():
            pass
    assert (
        told.total("db_client_connection_wait_time_seconds_count", db_client_connection_pool_name=NAME) == 3
    )
    assert told.total("db_client_connection_use_time_seconds_count", db_client_connection_pool_name=NAME) == 3
    assert (
        told.total("db_client_connection_create_time_seconds_count", db_client_connection_pool_name=NAME) == 1
    )


def test_a_time_out_is_counted_and_who_waits_is_seen(engine: sa.Engine, told: Told):
    held = [engine.connect() for _ in range(3)]
    with pytest.raises(sa.exc.TimeoutError):
        engine.connect()
    assert told.total("db_client_connection_timeouts_total", db_client_connection_pool_name=NAME) == 1
    engine.pool._timeout = 30
    waiter = threading.Thread(target=lambda: engine.connect().close())
    waiter.start()
    eventually(lambda: gauge("db_client_connection_pending_requests") == 1)
    for connection in held:
        connection.close()
    waiter.join()
    assert gauge("db_client_connection_pending_requests") == 0


def test_every_driver_s_pool_is_told_without_user_or_password(database: Database, told: Told):
    database.run(fresh_tables)
    names = told.gained().labels(
        "db_client_connection_wait_time_seconds_count", "db_client_connection_pool_name"
    )
    expected = (
        "sqlite/guests.db" if database.system == "sqlite" else f"127.0.0.1:{database.url.port}/postgres"
    )
    assert names == {expected}
    assert not any(PASSWORD in name for name in names)


def test_an_async_caller_that_is_cancelled_waits_no_longer(told: Told, postgres: Postgres):
    from sqlalchemy.ext.asyncio import create_async_engine

    name = f"127.0.0.1:{postgres.port}/postgres"

    async def main() -> None:
        engine = create_async_engine(postgres.url("asyncpg"), pool_size=1, max_overflow=0)
        async with engine.connect():
            task = asyncio.create_task(engine.connect().__aenter__())
            waits = lambda: gauge("db_client_connection_pending_requests", name) == 1  # noqa: E731
            await asyncio.to_thread(eventually, waits)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert gauge("db_client_connection_pending_requests", name) == 0
        await engine.dispose()

    asyncio.run(main())


def test_uninstalling_gives_the_engine_back_its_method(told: Told, engine: sa.Engine):
    assert Engine.raw_connection.__module__.startswith("restaurant_otel")
    sql.uninstall()
    assert Engine.raw_connection.__module__ == "sqlalchemy.engine.base"
    with engine.connect():
        pass
