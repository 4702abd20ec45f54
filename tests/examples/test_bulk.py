"""The chain at real size, here a small one: what `seed` wrote stays, the rest is added, with its indexes or without."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from examples.restaurant import bulk
from examples.restaurant.database import make_engine
from examples.restaurant.demo import Options
from examples.restaurant.parts import DemoError
from examples.restaurant.seed import seed

USERS = 1_000


@pytest.mark.parametrize("indexes", [True, False])
def test_a_seeded_database_grows(tmp_path: Path, indexes: bool) -> None:
    env = {"DATABASE_URL": f"sqlite:///{tmp_path}/chain.sqlite3"}

    async def begin() -> None:
        engine = make_engine(env)
        await seed(engine)
        await engine.dispose()

    asyncio.run(begin())
    engine = bulk.sync_engine(sa.make_url(env["DATABASE_URL"]))
    with engine.connect() as connection:
        first = connection.exec_driver_sql("SELECT * FROM users WHERE id <= 10 ORDER BY id").all()
    before = {one["name"] for one in sa.inspect(engine).get_indexes("schedules")}
    added = bulk.extend(engine, USERS, indexes=indexes)
    with engine.connect() as connection:
        counts = [
            connection.exec_driver_sql(f"SELECT count(*), max(id) FROM {name}").one()
            for name in ("users", "schedules")
        ]
        assert connection.exec_driver_sql("SELECT * FROM users WHERE id <= 10 ORDER BY id").all() == first
    assert counts == [(USERS, USERS), (USERS * bulk.SHIFTS_A_USER,) * 2]
    assert added > USERS * (bulk.SHIFTS_A_USER - 1)
    assert {one["name"] for one in sa.inspect(engine).get_indexes("schedules")} == (
        before if indexes else set()
    )
    engine.dispose()


@pytest.mark.parametrize("env", [{"SIZE": "huge"}, {"INDEXES": "none"}, {"SIZE": "real", "INDEXES": "some"}])
def test_what_makes_no_sense_is_named(env: dict[str, str]) -> None:
    with pytest.raises(DemoError, match="SIZE"):
        Options.from_environment(env)
