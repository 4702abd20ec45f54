"""Long work on the admin API holds up no request of the app: seen by the project's own lag of the event loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.admin import warehouse
from tests.admin.conftest import STAYS, by_worker
from tests.admin.lag import Judge
from tests.cache.redises import RedisServer
from tests.sql.conftest import postgres as postgres  # a fixture
from tests.support.servers import Server
from tests.support.wait import eventually

pytestmark = pytest.mark.serial

KEYS = 50_000
TRIES = 12


def fill(redis_server: RedisServer, namespace: str) -> None:
    """`KEYS` values as other processes of the app would have left them."""
    with redis_server.client() as redis:
        for start in range(0, KEYS, 5_000):
            numbers = range(start, start + 5_000)
            redis.mset({f"{namespace}:1:{{k:{number}}}": "1" for number in numbers})


@pytest.mark.parametrize("name", ["shop", "bar"])  # a Cache and an AsyncCache
def test_to_clear_fifty_thousand_keys_holds_up_no_request(
    served: Server, redis_server: RedisServer, everything: httpx.Client, name: str
) -> None:
    fill(redis_server, name)

    def cleared(**query: str) -> dict[str, Any]:
        answer = everything.delete("/cache", params={"name": name, "pattern": "k:*", **query})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def count() -> None:
        assert cleared(dry_run="true")["matching"] >= KEYS

    Judge(served).verdict(count, TRIES)
    Judge(served).verdict(lambda: cleared(), TRIES)
    Judge(served).verdict(lambda: everything.post("/cache/clear", json={"name": name}), TRIES)


@pytest.fixture(params=["sqlite", "postgresql"])
def workers(request: pytest.FixtureRequest, tmp_path: Path, serve: Callable[..., Server]) -> Server:
    """The large schema, served by two workers, of which one has asked all its statements."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/warehouse.sqlite3"
    else:
        url = request.getfixturevalue("postgres").url("psycopg")
    warehouse.fill(url)
    env = {"TEST_DATABASE_URL": url}
    server = serve("uvicorn", "tests.admin.warehouse:app", workers=2, env=env, args=STAYS, ready_within=90.0)
    assert server.get("/ask").status_code == 200
    return server


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "statements", [20, pytest.param(warehouse.STATEMENTS, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_to_advise_on_a_large_schema_holds_up_no_request_and_any_worker_tells_of_it(
    workers: Server, statements: int
) -> None:
    with ExitStack() as stack:
        asked = by_worker(workers, stack)
        first = next(iter(asked.values()))

        def ended(job: str) -> dict[str, Any] | None:
            now: dict[str, Any] = first.get(f"/jobs/{job}").json()
            return now if now["state"] != "running" else None

        done: list[dict[str, Any]] = []

        def advise() -> None:
            started = first.post("/advise", json={"limit": statements})
            assert started.status_code == 202, started.text
            job = started.json()["id"]
            done.append(eventually(lambda: ended(job), within=400, every=0.25))

        Judge(workers).verdict(advise, 4)
        job = done[-1]
        assert job["state"] == "done", job["error"]
        assert job["result"]["recommendations"]
        assert job["worker"] in asked
        for worker, one in asked.items():
            assert one.get(f"/jobs/{job['id']}").json() == job
            listed = one.get("/jobs").json()["items"]
            assert [each["result"] for each in listed if each["id"] == job["id"]] == [None]
            assert one.get("/resources").json()["worker"] == worker  # it was this one that has told
