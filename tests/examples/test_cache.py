"""The example's cache: shared by its workers, invalidated by what is written, and cleared through its admin API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.restaurant import seed
from restaurant_otel.auth import make_token
from tests.cache.redises import RedisServer
from tests.examples.conftest import fill
from tests.support import servers
from tests.support.servers import Server
from tests.support.wait import eventually

KEY = "a key that is used in this test and nowhere else"
ONCE = {"connection": "close"}
"""A connection of its own for each request, so that both workers get some."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers of the app, with a Redis and the admin API."""
    folder = tmp_path_factory.mktemp("shared")
    redis = RedisServer(folder)
    env = {
        "DATABASE_URL": f"sqlite:///{folder / 'restaurant.sqlite3'}",
        "REDIS_URL": redis.url,
        "RESTAURANT_OTEL_ADMIN": "/ops",
        "RESTAURANT_OTEL_ADMIN_KEY": KEY,
    }
    try:
        fill(env)
        log = Path(folder / "app.log")
        with servers.start("uvicorn", "examples.restaurant.app:app", log=log, env=env, workers=2) as server:
            yield server
    finally:
        redis.stop()


def lookups(server: Server, group: str) -> tuple[float, float]:
    """(hits, misses) of a group, by all workers."""
    scrape = server.scrape()
    hits, misses = (
        scrape.total(f"restaurant_cache_{what}_total", restaurant_cache_group=group)
        for what in ("hits", "misses")
    )
    return hits, misses


def ask(server: Server, method: str, path: str, scope: str = "") -> int:
    headers = dict(ONCE)
    if scope:
        token = make_token(KEY, "HS256", "ada", scope, 60, "restaurant-otel", None)
        headers["authorization"] = f"Bearer {token}"
    return server.request(method, path, headers=headers).status_code


@pytest.mark.parametrize(
    ("path", "group"),
    [("/", "home"), ("/menu?section=pizza", "menu"), ("/branches/3", "branch"), ("/users/3", "user")],
)
def test_what_is_asked_for_again_comes_from_the_cache(shared: Server, path: str, group: str) -> None:
    first = shared.get(path)
    assert first.status_code == 200
    hits, misses = lookups(shared, group)
    assert shared.get(path).text == first.text
    assert lookups(shared, group)[1] == misses
    assert sum(lookups(shared, group)) == hits + misses + 1


def test_a_new_price_is_shown_by_every_worker(shared: Server) -> None:
    def prices() -> set[int]:
        return {shared.get("/menu", headers=ONCE).json()[4]["price_cents"] for _ in range(8)}

    prices()
    for price in (777, 888):
        assert shared.request("PATCH", "/menu/5", json={"price_cents": price}).status_code == 200
        eventually(lambda price=price: prices() == {price}, within=30)  # type: ignore[misc]


def test_somebody_who_was_hired_is_counted_at_once(shared: Server) -> None:
    assert shared.get("/branches/1").json()["staff"]["cook"] > 0
    before = sum(shared.get("/branches/1").json()["staff"].values())
    hired = {"email": "cached@trattoria.example", "full_name": "New Hire", "role": "cook", "branch_id": 1}
    assert shared.request("POST", "/users", json=hired).status_code == 201
    eventually(lambda: sum(shared.get("/branches/1").json()["staff"].values()) == before + 1, within=30)


def test_what_there_is_not_is_not_kept(shared: Server) -> None:
    missing = seed.BRANCHES * seed.USERS_A_BRANCH + 1000
    assert [shared.get(f"/users/{missing}").status_code for _ in range(2)] == [404, 404]
    assert shared.request("GET", "/branches/999").status_code == 404


def test_the_admin_api_clears_it_for_those_who_may(shared: Server) -> None:
    clear = "/ops/cache/clear?name=restaurant"
    shared.get("/menu")
    _, misses = lookups(shared, "menu")
    assert ask(shared, "POST", clear) == 401
    assert ask(shared, "POST", clear, "performance:read") == 403
    shared.get("/menu")
    assert lookups(shared, "menu")[1] == misses
    assert ask(shared, "POST", clear, "performance:execute") == 200
    shared.get("/menu")
    assert lookups(shared, "menu")[1] == misses + 1


def test_without_a_key_there_is_no_admin_api(restaurant: Server) -> None:
    assert restaurant.get("/ops/health").status_code == 404
