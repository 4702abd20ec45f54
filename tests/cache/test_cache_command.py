"""`restaurant-otel cache`: what it deletes is deleted, and it says so, or says that Redis is away."""

from __future__ import annotations

import json

import pytest

from restaurant_otel import cli
from restaurant_otel.cache import Cache
from tests.cache.redises import RedisCluster, RedisServer


def main(arguments: list[str]) -> int:
    return cli.main(["cache", *arguments])


@pytest.fixture
def where(shared_redis: RedisServer, namespace: str) -> list[str]:
    return ["--url", shared_redis.url, "--namespace", namespace]


def test_clear_and_its_narrower_forms(
    shared_redis: RedisServer, namespace: str, where: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with Cache(shared_redis.url, namespace=namespace) as cache:
        cache.set_many({"menu:1": 1, "menu:2": 2, "user:1": 3, "user:2": 4}, tags=())
        cache.set("tagged", 5, tags=("t",))
        assert main(["clear", *where, "--key", "user:2"]) == 0
        assert main(["clear", *where, "--pattern", "menu:*"]) == 0
        assert main(["clear", *where, "--tag", "t"]) == 0
        assert cache.get_many(["menu:1", "menu:2", "user:1", "user:2", "tagged"]) == {"user:1": 3}
        assert main(["clear", *where, "--reclaim"]) == 0
        assert cache.get("user:1") is None
    with shared_redis.client() as client:
        assert client.keys(f"{namespace}:1:{{user*") == []
    assert capsys.readouterr().out.splitlines()[-1] == f"cleared {namespace}"


def test_stats_for_people_and_for_programs(
    shared_redis: RedisServer, namespace: str, where: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with Cache(shared_redis.url, namespace=namespace) as cache:
        cache.set_many({f"k:{n}": n for n in range(25)})
    assert main(["stats", *where, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["keys"] == 25
    assert found["primaries"] == 1
    assert found["memory_used"] > 100_000
    assert main(["stats", *where]) == 0
    assert "memory used" in capsys.readouterr().out


def test_stats_of_a_cluster(
    shared_cluster: RedisCluster, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Cache(shared_cluster.url, namespace=namespace) as cache:
        cache.set_many({f"k:{n}": n for n in range(25)})
    assert main(["stats", "--url", shared_cluster.url, "--namespace", namespace, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["keys"], found["primaries"]) == (25, 3)


@pytest.mark.parametrize("command", [["clear"], ["clear", "--reclaim"], ["clear", "--key", "k"], ["stats"]])
def test_a_redis_that_is_away_is_told_and_is_a_failure(
    own_redis: RedisServer, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    own_redis.kill()
    assert main([*command, "--url", own_redis.url]) == 1
    assert "away" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["clear", "--url", "http://x"],
        ["clear", "--key", "k", "--tag", "t"],
        ["stats", "--namespace", "a b"],
        ["other"],
    ],
)
def test_wrong_arguments_end_with_status_two(arguments: list[str]) -> None:
    assert main(arguments) == 2
