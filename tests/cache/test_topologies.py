"""A cluster that loses a primary, sentinels that fail over, Unix sockets, TLS left to redis-py."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cache.conftest import threads_first
from tests.cache.redises import RedisCluster, RedisServer, SentinelPair
from tests.support.wait import eventually

Make = Callable[..., Any]


def closed(cache: Any) -> bool:
    return bool(cache.stats().breaker == "closed")


def test_a_cluster_spreads_the_values_and_reclaims_them_all(make: Make, shared_cluster: RedisCluster) -> None:
    cache = make(shared_cluster.url)
    cache.set_many({f"k:{n}": n for n in range(300)})
    sizes = []
    for node in shared_cluster.nodes:
        with node.client() as client:
            sizes.append(client.dbsize())
    assert all(size > 30 for size in sizes)
    cache.clear(reclaim=True)
    for node in shared_cluster.nodes:
        with node.client() as client:
            assert client.keys(f"{cache._core.keys.prefix if hasattr(cache, '_core') else ''}{{k:*") == []


def test_values_are_found_while_their_slot_moves_and_after(
    make: Make, tmp_path: Path, namespace: str
) -> None:
    cluster = RedisCluster(tmp_path)
    try:
        cache = make(cluster.url)
        cache.set_many({"k": 1, "other": 2})
        key = f"{namespace}:1:{{k}}"
        clients = [node.client() for node in cluster.nodes]
        slot = clients[0].execute_command("CLUSTER KEYSLOT", key)
        source = next(client for client in clients if client.execute_command("CLUSTER COUNTKEYSINSLOT", slot))
        target = next(client for client in clients if client is not source)
        source_id, target_id = (each.execute_command("CLUSTER MYID").decode() for each in (source, target))
        target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source_id)
        source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target_id)
        assert cache.get("k") == 1  # not moved yet
        port = target.connection_pool.connection_kwargs["port"]
        source.execute_command("MIGRATE", "127.0.0.1", port, key, 0, 5000)
        assert cache.get("k") == 1  # moved, and the slot is on its way: ASK
        assert cache.set("k", 3)
        for client in clients:
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", target_id)
        assert cache.get("k") == 3  # MOVED
        assert cache.delete("k")
        assert cache.get_many(["k", "other"]) == {"other": 2}
        assert cache.stats().errors == 0
        for client in clients:
            client.close()
    finally:
        cluster.stop()


def test_a_cluster_with_a_hung_primary_is_an_outage_that_ends(make: Make, tmp_path: Path) -> None:
    cluster = RedisCluster(tmp_path)
    try:
        cache = make(cluster.url, timeout=0.2)
        names = [f"k:{n}" for n in range(20)]
        cache.set_many(dict.fromkeys(names, "old"))
        cluster.nodes[1].hang()
        began = time.perf_counter()
        cache.get_many(names)
        assert time.perf_counter() - began < 1.5  # measured: 0.2
        eventually(lambda: cache.get_many(names) is not None and not closed(cache))
        for name in names:
            cache.delete(name)
        assert cache.set("during", 1)
        assert cache.get("during") == 1
        cluster.nodes[1].go_on()
        eventually(lambda: closed(cache), within=30)
        assert cache.get_many([*names, "during"]) == {}
        assert cache.set("after", 1)
        assert cache.get("after") == 1
    finally:
        cluster.stop()


@pytest.mark.parametrize("fault", ["kill", pytest.param("hang", marks=pytest.mark.slow)])
@threads_first
def test_after_a_fail_over_the_new_master_is_used_and_nothing_deleted_is_back(
    make: Make, sentinels: SentinelPair, fault: str
) -> None:
    cache = make(sentinels.url, timeout=0.2)
    cache.set_many({"a": "old", "b": "old"})
    with sentinels.master.client() as client:
        assert client.wait(1, 5000) == 1
    getattr(sentinels.master, fault)()
    cache.get("a")
    assert not closed(cache)
    cache.delete("a")
    cache.set("b", "new")
    assert cache.get("b") == "new"
    eventually(lambda: closed(cache), within=40)
    assert cache.get_many(["a", "b"]) == {}
    assert cache.set("c", 1)
    with sentinels.replica.client() as client:
        assert client.info("replication")["role"] == "master"
        assert client.keys("*{c}")


def test_a_unix_socket(make: Make, own_redis: RedisServer, tmp_path: Path) -> None:
    socket = tmp_path / "redis.sock"
    server = RedisServer(tmp_path, "--unixsocket", str(socket))
    try:
        cache = make(f"unix://{socket}")
        cache.set("k", 1)
        assert cache.get("k") == 1
        assert cache.stats().remote_hits == 1
    finally:
        server.stop()
