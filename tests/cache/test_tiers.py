"""The memory tier: fast, bounded, and never older than what Redis holds by more than the way of a message."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from restaurant_otel.cache import Cache
from restaurant_otel.caching.entry import Entry
from tests.cache.conftest import threads_first, two_tiers
from tests.cache.redises import Proxy, RedisCluster, RedisServer
from tests.support.wait import eventually

Make = Callable[..., Any]
SOON = {"within": 5.0, "every": 0.005}


def in_memory(cache: Any, key: str) -> bool:
    """Whether `key` is read from memory."""
    before = cache.stats().memory_hits
    cache.get(key)
    return bool(cache.stats().memory_hits > before)


def test_what_is_read_twice_comes_from_memory(make: Make, shared_redis: RedisServer) -> None:
    cache = two_tiers(make, shared_redis.url)
    cache.set("k", {"a": 1})
    eventually(lambda: in_memory(cache, "k"), **SOON)
    assert cache.get("k") == {"a": 1}


def test_what_another_process_sets_or_deletes_is_seen(
    make: Make, shared_redis: RedisServer, namespace: str
) -> None:
    cache = two_tiers(make, shared_redis.url)
    with Cache(shared_redis.url, namespace=namespace) as other:
        for change in (
            lambda: other.set("k", "new"),
            lambda: other.delete("k"),
            lambda: other.delete_tag("t"),
            lambda: other.delete_pattern("k*"),
            lambda: other.clear(),
            lambda: other.incr("n"),
            lambda: other.get_or_set("k2", lambda: 1) and other.delete("k"),
        ):
            cache.set("k", "old", tags=("t",))
            cache.set("n", 1)
            eventually(lambda: in_memory(cache, "k") and in_memory(cache, "n"), **SOON)
            change()
            expected = (other.get("k"), other.get("n"))
            eventually(lambda expected=expected: (cache.get("k"), cache.get("n")) == expected, **SOON)


def test_what_a_stranger_deletes_or_lets_expire_is_seen(
    make: Make, shared_redis: RedisServer, namespace: str
) -> None:
    """Peers that publish their changes miss these; and one never hears of any under RESP3."""
    cache = two_tiers(make, shared_redis.url)
    with shared_redis.client() as client:
        cache.set("k", 1)
        eventually(lambda: in_memory(cache, "k"), **SOON)
        client.delete(f"{namespace}:1:{{k}}")
        eventually(lambda: cache.get("k") is None, **SOON)
        cache.set("k", 1)
        eventually(lambda: in_memory(cache, "k"), **SOON)
        client.pexpire(f"{namespace}:1:{{k}}", 30)
        eventually(lambda: cache.get("k") is None, **SOON)


def test_own_changes_are_read_at_once(make: Make, shared_redis: RedisServer) -> None:
    cache = two_tiers(make, shared_redis.url)
    for number in range(200):
        cache.set("k", number)
        assert cache.get("k") == number
        assert cache.get("k") == number
    cache.delete("k")
    assert cache.get("k") is None


def test_many_writers_and_readers_agree_in_the_end_and_no_value_goes_back(
    make: Make, shared_redis: RedisServer, namespace: str
) -> None:
    cache = two_tiers(make, shared_redis.url)
    writer = Cache(shared_redis.url, namespace=namespace)
    stop = threading.Event()
    wrong: list[tuple[int, int]] = []

    def read() -> None:
        last = -1
        while not stop.is_set():
            seen = cache.get("k", -1)
            if seen < last:
                wrong.append((last, seen))
            last = seen
            time.sleep(0.0001)

    threads = [threading.Thread(target=read) for _ in range(3)]
    writer.set("k", 0)
    for thread in threads:
        thread.start()
    dice = random.Random(3)
    for number in range(1, 400):
        writer.set("k", number)
        time.sleep(dice.uniform(0, 0.002))
    eventually(lambda: cache.get("k") == 399, **SOON)
    stop.set()
    for thread in threads:
        thread.join()
    writer.close()
    assert wrong == []


@pytest.mark.parametrize("last", ["older", "newer"])
def test_of_two_reads_at_once_memory_keeps_none_that_is_older_than_what_a_reader_saw(
    make: Make, shared_redis: RedisServer, last: str
) -> None:
    """Between the two values' ways into memory a change is told that only the reader of the newer must heed.

    That takes a few microseconds at the right place, so it is played with the parts that the race is between.
    """
    cache = two_tiers(make, shared_redis.url)
    core = cache._core if hasattr(cache, "_core") else cache._cache._core
    made = {
        which: Entry(
            0, 0, 0, b"", seq=0, created=time.time() + later, ttl=60, stale=0, load=0, tags=()
        ).place(time.monotonic(), time.time())
        for which, later in (("older", 0.0), ("newer", 0.001))
    }
    stamps = {"newer": core.stamp("k")}
    core.changed(("k",))
    stamps["older"] = core.stamp("k")
    first = "newer" if last == "older" else "older"
    for which in (first, last):
        core.fill("k", made[which], stamps[which])
    assert core.memory.get("k", time.monotonic()) is None
    core.fill("k", made["newer"], core.stamp("k"))
    assert core.memory.get("k", time.monotonic()) is made["newer"]


def test_while_nobody_tells_of_changes_memory_is_not_read(
    make: Make, shared_redis: RedisServer, namespace: str
) -> None:
    """The listening connection is cut, not the ones that carry data: the dangerous case."""
    cache = two_tiers(make, shared_redis.url)
    cache.set("k", "old")
    eventually(lambda: in_memory(cache, "k"), **SOON)
    with shared_redis.client() as client:
        for _ in range(3):
            listeners = [each["id"] for each in client.client_list() if each["sub"] == "1"]
            for number in listeners:
                client.client_kill_filter(_id=number)
            eventually(lambda: not cache.stats().reads_memory, **SOON)
            assert cache.get("k") == "old"
    with Cache(shared_redis.url, namespace=namespace) as other:
        other.set("k", "new")
    assert cache.get("k") == "new"
    eventually(lambda: in_memory(cache, "k"), within=15, every=0.01)


@threads_first
def test_a_listener_whose_network_hangs_is_given_up_on(make: Make, proxy: Proxy, namespace: str) -> None:
    cache = two_tiers(make, proxy.url)
    cache.set("k", 1)
    proxy.hold()
    eventually(lambda: cache.stats().breaker != "closed" or not cache.stats().reads_memory, within=10)
    time.sleep(1.5)
    proxy.go_on()
    eventually(lambda: cache.stats().breaker == "closed" and cache.stats().reads_memory, within=15)
    assert cache.get("k") == 1


def test_memory_stays_in_its_bounds(make: Make, shared_redis: RedisServer) -> None:
    cache = two_tiers(make, shared_redis.url, max_entries=50)
    cache.set_many({f"k:{n}": n for n in range(300)})
    for _ in range(2):
        for number in range(300):
            assert cache.get(f"k:{number}") == number
    stats = cache.stats()
    assert 0 < stats.items <= 50
    assert stats.evictions > 0


def test_ten_thousand_changes_cost_ten_thousand_times_one(
    make: Make, shared_redis: RedisServer, namespace: str
) -> None:
    """Dropping an entry does not look at the others: a peer's cost grew with the number of entries."""
    cache = two_tiers(make, shared_redis.url, max_entries=20_000)
    names = [f"k:{n}" for n in range(10_000)]
    cache.set_many(dict.fromkeys(names, 1))
    time.sleep(0.3)
    cache.get_many(names)
    assert cache.stats().items > 9000
    began = time.perf_counter()
    cache._core.changed(names) if hasattr(cache, "_core") else cache._cache._core.changed(names)
    assert time.perf_counter() - began < 1.0  # measured: 0.01
    assert cache.stats().items == 0


def test_values_from_memory_are_shared_unless_isolated(make: Make, shared_redis: RedisServer) -> None:
    for isolate in (False, True):
        cache = two_tiers(make, shared_redis.url, isolate=isolate)
        cache.set("k", {"rows": []})
        eventually(lambda cache=cache: in_memory(cache, "k"), **SOON)
        cache.get("k")["rows"].append(1)
        assert cache.get("k") == ({"rows": []} if isolate else {"rows": [1]})
        cache.delete("k")


def test_a_cluster_tells_from_every_primary(make: Make, shared_cluster: RedisCluster, namespace: str) -> None:
    cache = two_tiers(make, shared_cluster.url)
    names = [f"k:{n}" for n in range(30)]
    with Cache(shared_cluster.url, namespace=namespace) as other:
        other.set_many(dict.fromkeys(names, "old"))
        eventually(lambda: all(in_memory(cache, name) for name in names), **SOON)
        other.set_many(dict.fromkeys(names, "new"))
        eventually(lambda: set(cache.get_many(names).values()) == {"new"}, **SOON)
        eventually(lambda: all(in_memory(cache, name) for name in names), **SOON)
        other.clear()
        eventually(lambda: cache.get_many(names) == {}, **SOON)
