"""Connections: no reply ever reaches another caller, no connection outlives what went wrong on it, none is shared
with a child process."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import time

import pytest
import redis
import redis.asyncio

from restaurant_otel.cache import AsyncCache, Cache
from restaurant_otel.caching.address import parse
from restaurant_otel.caching.driver import run
from tests.cache.redises import Proxy, RedisServer
from tests.support.wait import eventually


def test_cancelled_callers_leave_no_reply_to_others(proxy: Proxy, namespace: str) -> None:
    async def scenario() -> None:
        async with AsyncCache(proxy.url, namespace=namespace, timeout=5.0) as cache:
            keys = [f"k:{n}" for n in range(50)]
            await cache.set_many({key: key for key in keys})
            dice = random.Random(1)
            wrong = []

            async def read(key: str) -> None:
                seen = await cache.get(key)
                if seen not in (key, None):
                    wrong.append((key, seen))

            for _ in range(40):
                proxy.delay = dice.choice((0.0, 0.002))
                tasks = [asyncio.create_task(read(dice.choice(keys))) for _ in range(20)]
                await asyncio.sleep(dice.uniform(0, 0.004))
                for task in tasks[::2]:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            proxy.delay = 0.0
            assert wrong == []
            assert [await cache.get(key) for key in keys] == keys
            assert cache.stats().errors == 0

    asyncio.run(scenario())


def test_a_caller_cancelled_while_writing_a_large_value_harms_nobody(proxy: Proxy, namespace: str) -> None:
    async def scenario() -> None:
        async with AsyncCache(proxy.url, namespace=namespace, timeout=5.0, codec="json") as cache:
            await cache.set("k", "small")
            proxy.hold()  # so that the write fills the kernel's buffers and waits
            large = asyncio.create_task(cache.set("large", os.urandom(20_000_000)))
            await asyncio.sleep(0.2)
            reader = asyncio.create_task(cache.get("k"))
            await asyncio.sleep(0.05)
            large.cancel()
            await asyncio.gather(large, return_exceptions=True)
            proxy.go_on()
            assert await reader in ("small", None)
            eventually(lambda: cache.stats().breaker == "closed", every=0.01)
            assert await cache.get("k") == "small"

    asyncio.run(scenario())


def test_an_interrupted_thread_leaves_no_reply_to_the_next(proxy: Proxy, namespace: str) -> None:
    """As with KeyboardInterrupt or a gevent time-out: an exception out of nowhere between command and reply."""
    with Cache(proxy.url, namespace=namespace, timeout=5.0) as cache:
        cache.set_many({"a": "a", "b": "b"})
        link = cache._core.link
        assert link is not None
        connection = link._idle[-1]  # type: ignore[attr-defined]
        read_response = connection.read_response

        def interrupted(*args: object, **kwargs: object) -> None:
            raise KeyboardInterrupt

        connection.read_response = interrupted
        with pytest.raises(KeyboardInterrupt):
            cache.get("a")
        connection.read_response = read_response
        assert [cache.get("b"), cache.get("a")] == ["b", "a"]
        assert cache.stats().errors == 0


def test_an_event_loop_held_up_by_the_app_is_no_outage(shared_redis: RedisServer, namespace: str) -> None:
    async def scenario() -> None:
        async with AsyncCache(shared_redis.url, namespace=namespace) as cache:
            await cache.set("k", 1)
            reading = asyncio.create_task(cache.get("k"))
            await asyncio.sleep(0)
            time.sleep(0.5)  # noqa: ASYNC251 - what the test is about
            assert await reading == 1
            assert cache.stats().errors == 0

    asyncio.run(scenario())


def test_twenty_thousand_tasks_at_once_are_no_outage(shared_redis: RedisServer, namespace: str) -> None:
    """The last of them waits for longer than the time-out; but replies keep coming."""

    async def scenario() -> None:
        async with AsyncCache(shared_redis.url, namespace=namespace) as cache:
            await cache.set("k", "value")
            assert set(await asyncio.gather(*(cache.get("k") for _ in range(20_000)))) == {"value"}
            assert cache.stats().errors == 0

    asyncio.run(scenario())


def test_one_async_cache_serves_one_loop_after_another_and_several_at_once(
    shared_redis: RedisServer, namespace: str
) -> None:
    cache = AsyncCache(shared_redis.url, namespace=namespace)

    async def use(number: int) -> None:
        for round_ in range(20):
            await cache.set(f"k:{number}", round_)
            assert await cache.get(f"k:{number}") == round_

    for number in range(3):
        asyncio.run(use(number))
    threads = [threading.Thread(target=asyncio.run, args=(use(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.stats().errors == 0
    asyncio.run(cache.close())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("memory_tier", [False, True])
def test_a_child_process_has_connections_of_its_own(
    shared_redis: RedisServer, namespace: str, memory_tier: bool
) -> None:
    with Cache(shared_redis.url, namespace=namespace, memory_tier=memory_tier, timeout=2.0) as cache:
        cache.set("k", "parent")
        cache.get("k")
        children = []
        for number in range(3):
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    for _ in range(200):
                        if cache.get("k") != "parent" or not cache.set(f"child:{number}", number):
                            os._exit(2)
                        if cache.get(f"child:{number}") != number:
                            os._exit(3)
                    if cache.get_or_set(f"made:{number}", lambda: 5) != 5 or cache.stats().errors:
                        os._exit(4)
                    status = 0
                finally:
                    os._exit(status)
            children.append(pid)
        for _ in range(200):
            assert cache.get("k") == "parent"
        for pid in children:
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert cache.get_many([f"child:{n}" for n in range(3)]) == {f"child:{n}": n for n in range(3)}


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_of_a_process_in_an_outage_finds_redis_again_by_itself(
    own_redis: RedisServer, namespace: str
) -> None:
    with Cache(own_redis.url, namespace=namespace) as cache:
        cache.set("k", 1)
        own_redis.hang()
        cache.delete("k")
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                cache.get("k")
                deadline = time.monotonic() + 20
                while cache.stats().breaker != "closed" and time.monotonic() < deadline:
                    time.sleep(0.01)
                    cache.get("k")
                status = 0 if cache.stats().breaker == "closed" and cache.get("k") is None else 2
            finally:
                os._exit(status)
        own_redis.go_on()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_nothing_is_left_when_a_cache_is_closed_or_dropped(shared_redis: RedisServer, namespace: str) -> None:
    def threads() -> int:
        return sum("restaurant-otel cache" in thread.name for thread in threading.enumerate())

    def settle(number: int, what: str) -> None:
        def settled() -> bool:
            gc.collect()
            return threads() == number

        eventually(settled, what=f"{what}: {[thread.name for thread in threading.enumerate()]}")

    settle(0, "threads of earlier tests end")
    for memory_tier in (False, True):
        cache = Cache(shared_redis.url, namespace=namespace, memory_tier=memory_tier)
        assert threads() == 0  # none before the first call
        cache.set("k", 1)
        assert threads() > 0
        cache.close()
        settle(0, "threads of a closed cache end")
        assert cache.get("k") == 1  # and it can be used again
        del cache
        settle(0, "threads of a dropped cache end")


def test_commands_that_block_the_server_are_never_sent(own_redis: RedisServer) -> None:
    with Cache(own_redis.url) as cache:
        cache.set_many({f"k:{n}": n for n in range(3000)})
        for number in range(40):
            cache.delete_pattern(f"k:{number}")
        cache.clear(reclaim=True)
    with own_redis.client() as client:
        commands = client.info("commandstats")
    assert "cmdstat_keys" not in commands
    assert commands["cmdstat_scan"]["calls"] < 100


@pytest.mark.parametrize(
    ("url", "kind", "hosts"),
    [
        ("redis+cluster://a:1,b:2", "cluster", (("a", 1), ("b", 2))),
        ("rediss+cluster://u:p%40@a", "cluster", (("a", 6379),)),
        ("redis+sentinel://:pw@a:1,[::1]:2/shop/3", "sentinel", (("a", 1), ("::1", 2))),
        ("memory://", "memory", ()),
        ("unix:///tmp/redis.sock", "direct", ()),
    ],
)
def test_addresses(url: str, kind: str, hosts: tuple[tuple[str, int], ...]) -> None:
    address = parse(url)
    assert (address.kind, address.hosts) == (kind, hosts)
    if kind == "sentinel":
        assert (address.service, address.db, address.password) == ("shop", 3, "pw")
    if url.startswith("rediss+"):
        assert (address.tls, address.username, address.password) == (True, "u", "p@")


@pytest.mark.parametrize(
    "url", ["http://x", "redis+sentinel://a:1", "redis+cluster://a:x", "nonsense", "redis+other://a"]
)
def test_addresses_that_are_none_are_refused_without_telling_the_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"redis|host") as error:
        parse(url.replace("://", "://user:secret@") if "+" in url else url)
    assert "secret" not in str(error.value)


def test_what_we_use_of_redis_py_is_there() -> None:
    """Public names all, but of a lower layer than most use: this tells when they change."""
    for pool in (redis.ConnectionPool(), redis.asyncio.ConnectionPool()):
        connection = pool.connection_class(**pool.connection_kwargs)
        for method in (
            "connect",
            "disconnect",
            "pack_command",
            "pack_commands",
            "send_packed_command",
            "read_response",
        ):
            assert callable(getattr(connection, method))
    assert callable(redis.Connection().can_read)


def test_a_coroutine_that_would_wait_is_refused_by_the_blocking_driver() -> None:
    async def waits() -> None:
        await asyncio.sleep(1)

    with pytest.raises(RuntimeError, match="event loop"):
        run(waits())
