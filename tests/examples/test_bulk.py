"""The chain at real size, here a small one: what `seed` wrote stays, the rest is added, with its indexes or without."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.schema import CreateSchema, DropSchema

from examples.restaurant import bulk
from examples.restaurant.database import database_url, make_engine
from examples.restaurant.demo import Options, advised
from examples.restaurant.models import User
from examples.restaurant.parts import DemoError
from examples.restaurant.seed import seed
from restaurant_otel.sql.advisor import advise
from tests.sql.conftest import PASSWORD

USERS = 1_000


@pytest.fixture(params=["sqlite", "postgresql"])
def env(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A database of one's own; on PostgreSQL a schema, as in the demo."""
    if request.param == "sqlite":
        yield {"DATABASE_URL": f"sqlite:///{tmp_path}/chain.sqlite3"}
        return
    url = request.getfixturevalue("postgres").url("psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(CreateSchema("chain"))
        yield {"DATABASE_URL": url, "DATABASE_SCHEMA": "chain"}
        connection.execute(DropSchema("chain", cascade=True))
    engine.dispose()


@pytest.fixture
def engine(env: dict[str, str]) -> Iterator[sa.Engine]:
    """A seeded one."""

    async def begin() -> None:
        asynchronous = make_engine(env)
        await seed(asynchronous)
        await asynchronous.dispose()

    asyncio.run(begin())
    engine = bulk.sync_engine(database_url(env), env.get("DATABASE_SCHEMA"))
    yield engine
    engine.dispose()


def rows(engine: sa.Engine, statement: str) -> list[Any]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(statement)]


def index_names(engine: sa.Engine, *, unique: bool = False) -> set[str | None]:
    inspector = sa.inspect(engine)
    found = [one for table in ("users", "schedules") for one in inspector.get_indexes(table)]
    return {one["name"] for one in found if one["unique"] or not unique}


@pytest.mark.parametrize("indexes", [True, False])
def test_a_seeded_database_grows(engine: sa.Engine, indexes: bool) -> None:
    first, before = rows(engine, "SELECT * FROM users WHERE id <= 10 ORDER BY id"), index_names(engine)
    unique = index_names(engine, unique=True)
    assert set() < unique < before
    added = bulk.extend(engine, USERS, indexes=indexes)
    counts = [rows(engine, f"SELECT count(*), max(id) FROM {name}")[0] for name in ("users", "schedules")]
    assert counts == [(USERS, USERS), (USERS * bulk.SHIFTS_A_USER,) * 2]
    assert rows(engine, "SELECT * FROM users WHERE id <= 10 ORDER BY id") == first
    assert added > USERS * (bulk.SHIFTS_A_USER - 1)
    assert index_names(engine) == (before if indexes else unique)
    assert bulk.extend(engine, USERS, indexes=indexes) == 0, "it is as large as that"


@pytest.mark.parametrize("indexes", [True, False])
def test_after_growing_the_app_can_add_users_but_none_twice(engine: sa.Engine, indexes: bool) -> None:
    bulk.extend(engine, USERS, indexes=indexes)
    user = {
        "email": "new@trattoria.example", "full_name": "New", "role": "cook", "branch_id": 1,
        "created_at": bulk.OPENED,
    }  # fmt: skip
    with engine.begin() as connection:
        (number,) = connection.execute(sa.insert(User).values(user)).inserted_primary_key
        assert number == USERS + 1
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as connection:
        connection.execute(sa.insert(User).values(user))


def test_it_stops_when_it_is_told_to(engine: sa.Engine) -> None:
    left = iter(range(50))
    added = bulk.extend(engine, USERS, ended=lambda: next(left, None) is None)
    assert 0 < added <= 50
    assert index_names(engine), "with its indexes"


def test_the_demo_names_its_schema_to_the_advisor_and_no_password(
    env: dict[str, str], engine: sa.Engine
) -> None:
    bulk.extend(engine, USERS, indexes=False)
    word = advised(env)
    schema = env.get("DATABASE_SCHEMA")
    if schema is not None:
        assert PASSWORD not in word
        word = subprocess.run(
            ["sh", "-c", f"echo {word}"], env=env, check=True, capture_output=True, text=True
        ).stdout.strip()
    found = advise(word, ["SELECT id FROM schedules WHERE user_id = :user_id"], what_if=False)
    assert [one.index.label for one in found.recommendations] == ["schedules(user_id)"]


@pytest.mark.parametrize(
    "options", [{"SIZE": "huge"}, {"INDEXES": "none"}, {"SIZE": "real", "INDEXES": "some"}]
)
def test_what_makes_no_sense_is_named(options: dict[str, str]) -> None:
    with pytest.raises(DemoError, match="SIZE"):
        Options.from_environment(options)
