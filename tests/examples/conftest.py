"""The example app on its own server and its own data, for all tests of a module."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.restaurant.database import make_engine
from examples.restaurant.seed import seed
from tests.sql.conftest import postgres
from tests.support import servers

__all__ = ["postgres", "restaurant"]


def fill(env: dict[str, str]) -> None:
    """Fill the database that `env` names."""

    async def work() -> None:
        engine = make_engine(env)
        try:
            await seed(engine)
        finally:
            await engine.dispose()

    asyncio.run(work())


@pytest.fixture(scope="module")
def workers_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the app keeps its figures and its query book: other processes may read them there."""
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def restaurant(tmp_path_factory: pytest.TempPathFactory, workers_dir: Path) -> Iterator[servers.Server]:
    """The app under uvicorn, with seeded data."""
    folder = tmp_path_factory.mktemp("restaurant")
    env = {
        "DATABASE_URL": f"sqlite:///{folder / 'restaurant.sqlite3'}",
        "RESTAURANT_OTEL_WORKERS_DIR": str(workers_dir),
    }
    fill(env)
    with servers.start("uvicorn", "examples.restaurant.app:app", log=folder / "app.log", env=env) as server:
        yield server
