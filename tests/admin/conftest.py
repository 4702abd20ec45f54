"""Redis, servers with the API, and clients that may do everything or something."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.admin.tokens import ALL, ROOT, token
from tests.cache.redises import RedisServer
from tests.support import http, servers
from tests.support.wait import eventually

KEPT = 120
"""Seconds for which clients keep their connections; `STAYS` makes uvicorn do so as well."""

STAYS = ("--timeout-keep-alive", str(KEPT))


@pytest.fixture(autouse=True)
def same_log_level() -> Iterator[None]:
    """The library's log level as it was: the API changes it for the process, in which other tests look at the log."""
    library = logging.getLogger("restaurant_otel")
    before = library.level
    yield
    library.setLevel(before)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def served(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """The app on uvicorn, for tests that only use it."""
    log = tmp_path_factory.mktemp("served") / "log"
    with ExitStack() as stack:
        yield stack.enter_context(
            servers.start("uvicorn", "tests.admin.app:app", log=log, env={"TEST_REDIS_URL": redis_server.url})
        )


def client(server: servers.Server, scope: str = ALL, **claims: object) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token(scope=scope, **claims)}"}
    kept = httpx.Limits(keepalive_expiry=KEPT)
    return http.client(server.url + ROOT, headers=headers, limits=kept)


def by_worker(server: servers.Server, stack: ExitStack, sub: str = "ada") -> dict[int, httpx.Client]:
    """A client by each of two workers' process ids, of a server that `STAYS`: kept connections stay with a worker."""
    found: dict[int, httpx.Client] = {}

    def all_of_them() -> bool:
        one = stack.enter_context(client(server, sub=sub))
        found.setdefault(one.get("/resources").json()["worker"], one)
        return len(found) == 2

    eventually(all_of_them, within=60)
    return found


@pytest.fixture
def everything(served: servers.Server) -> Iterator[httpx.Client]:
    with client(served) as one:
        yield one
