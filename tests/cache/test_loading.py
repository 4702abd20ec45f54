"""A value is made once however many ask, a stale one is served where that was agreed, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from restaurant_otel.cache import AsyncCache, Cache, CacheTimeout
from tests.cache.conftest import threads_first
from tests.cache.redises import RedisServer
from tests.support.wait import eventually

Make = Callable[..., Any]
_SPAWN = multiprocessing.get_context("spawn")


class Factory:
    """Counts its calls, and can be made to fail, to wait, or to return something else."""

    def __init__(self, value: Any = "value") -> None:
        self.calls = 0
        self.value = value
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()

    def __call__(self) -> Any:
        with self._lock:
            self.calls += 1
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        return self.value


@pytest.fixture(params=["memory", "redis"])
def cache(request: pytest.FixtureRequest, make: Make) -> Any:
    return make("memory://" if request.param == "memory" else request.getfixturevalue("shared_redis").url)


# --- never twice ---------------------------------------------------------------------------------------


def test_many_callers_of_one_process_share_one_call(cache: Any) -> None:
    factory = Factory()
    factory.gate.clear()
    with ThreadPoolExecutor(50) as pool:
        asked = [pool.submit(cache.get_or_set, "k", factory) for _ in range(50)]
        eventually(lambda: cache.stats().coalesced == 49, every=0.01)
        factory.gate.set()
        assert {each.result(30) for each in asked} == {"value"}
    assert factory.calls == 1


def test_an_error_reaches_every_caller_that_waited_and_the_next_one_tries_again(cache: Any) -> None:
    factory = Factory()
    factory.gate.clear()
    factory.error = LookupError("no")
    with ThreadPoolExecutor(10) as pool:
        asked = [pool.submit(cache.get_or_set, "k", factory) for _ in range(10)]
        eventually(lambda: cache.stats().coalesced == 9, every=0.01)
        factory.gate.set()
        assert all(isinstance(each.exception(30), LookupError) for each in asked)
    assert factory.calls == 1
    factory.error = None
    assert cache.get_or_set("k", factory) == "value"


def _ask(url: str, namespace: str, log: str, face: str, start: Any) -> None:
    def factory() -> int:
        with open(log, "a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.3)
        return 42

    start.wait()
    if face == "threads":
        with Cache(url, namespace=namespace, timeout=2.0) as cache, ThreadPoolExecutor(50) as pool:
            results = list(pool.map(lambda _: cache.get_or_set("k", factory), range(250)))
    else:

        async def slow() -> int:
            return await asyncio.to_thread(factory)

        async def many() -> list[int]:
            async with AsyncCache(url, namespace=namespace, timeout=2.0) as cache:
                return await asyncio.gather(*(cache.get_or_set("k", slow) for _ in range(250)))

        results = asyncio.run(many())
    assert results == [42] * 250


@threads_first
def test_a_thousand_misses_in_four_processes_are_one_call(
    shared_redis: RedisServer, namespace: str, tmp_path: Path, face: str
) -> None:
    log = tmp_path / "calls"
    start = _SPAWN.Event()
    arguments = (shared_redis.url, namespace, str(log), face, start)
    processes = [_SPAWN.Process(target=_ask, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(log.read_text().splitlines()) == 1


def _die_with_the_lease(url: str, namespace: str, ready: Any) -> None:
    def factory() -> None:
        ready.set()
        time.sleep(60)

    Cache(url, namespace=namespace).get_or_set("k", factory)


@threads_first
def test_a_holder_that_dies_is_replaced_within_seconds(
    make: Make, shared_redis: RedisServer, namespace: str
) -> None:
    ready = _SPAWN.Event()
    holder = _SPAWN.Process(target=_die_with_the_lease, args=(shared_redis.url, namespace, ready))
    holder.start()
    assert ready.wait(30)
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join(10)
    assert make(shared_redis.url).get_or_set("k", lambda: "mine", wait=30.0) == "mine"


@threads_first
def test_a_lease_lasts_as_long_as_its_holder_needs(
    make: Make, shared_redis: RedisServer, namespace: str
) -> None:
    """Longer than the lease itself: it is renewed."""
    first, second = make(shared_redis.url), make(shared_redis.url)
    slow, other = Factory("first"), Factory("second")
    slow.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        leading = pool.submit(first.get_or_set, "k", slow)
        eventually(lambda: slow.calls)
        waiting = pool.submit(second.get_or_set, "k", other, wait=60.0)
        time.sleep(4)
        slow.gate.set()
        assert leading.result(30) == waiting.result(30) == "first"
    assert other.calls == 0


def test_waiting_for_another_process_ends(make: Make, shared_redis: RedisServer) -> None:
    first, second = make(shared_redis.url), make(shared_redis.url)
    slow = Factory("first")
    slow.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        leading = pool.submit(first.get_or_set, "k", slow)
        eventually(lambda: slow.calls)
        assert second.get_or_set("k", lambda: "mine", wait=0.1) == "mine"  # for this caller only
        slow.gate.set()
        assert leading.result(30) == "first"
    assert second.get("k") == "first"


@pytest.mark.parametrize("change", ["delete", "set", "tag", "pattern", "clear"])
def test_a_value_made_from_what_was_true_before_is_not_stored(cache: Any, change: str) -> None:
    def factory() -> str:
        {
            "delete": lambda: cache.delete("k:1"),
            "set": lambda: cache.set("k:1", "newer"),
            "tag": lambda: cache.delete_tag("t"),
            "pattern": lambda: cache.delete_pattern("k:*"),
            "clear": cache.clear,
        }[change]()
        return "older"

    cache.set("k:2", 1)  # so that the marks are known
    assert cache.get_or_set("k:1", factory, tags=("t",)) == "older"
    assert cache.get("k:1") == ("newer" if change == "set" else None)


def test_a_factory_that_needs_its_own_key_does_not_wait_for_itself(cache: Any, face: str) -> None:
    if face == "loop":
        pytest.skip("the factory of the test would have to be a coroutine function")
    assert cache.get_or_set("k", lambda: cache.get_or_set("k", lambda: 1)) == 1


def test_waiters_start_over_when_their_leader_is_torn_away(namespace: str) -> None:
    cache = Cache("memory://", namespace=namespace)
    entered = threading.Event()

    def interrupted() -> None:
        entered.set()
        eventually(lambda: cache.stats().coalesced == 1, every=0.01)
        raise KeyboardInterrupt

    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(cache.get_or_set, "k", interrupted)
        assert entered.wait(10)
        waiter = pool.submit(cache.get_or_set, "k", lambda: "second")
        assert waiter.result(30) == "second"
        assert isinstance(leader.exception(30), KeyboardInterrupt)


def test_cancelling_the_one_who_makes_a_value_cancels_nobody_else(
    shared_redis: RedisServer, namespace: str
) -> None:
    async def scenario() -> None:
        async with AsyncCache(shared_redis.url, namespace=namespace) as cache:
            go_on = asyncio.Event()
            calls = 0

            async def factory() -> str:
                nonlocal calls
                calls += 1
                await go_on.wait()
                return "value"

            leader = asyncio.create_task(cache.get_or_set("k", factory))
            while not calls:  # noqa: ASYNC110 - the cache has no event to wait for
                await asyncio.sleep(0.005)
            waiters = [asyncio.create_task(cache.get_or_set("k", factory)) for _ in range(5)]
            while cache.stats().coalesced < 5:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            leader.cancel()
            waiters[0].cancel()
            await asyncio.gather(leader, waiters[0], return_exceptions=True)
            assert leader.cancelled()
            assert waiters[0].cancelled()
            go_on.set()
            assert await asyncio.gather(*waiters[1:]) == ["value"] * 4
            assert calls == 1
            assert await cache.get("k") == "value"

    asyncio.run(scenario())


# --- stale ---------------------------------------------------------------------------------------------


def stale(cache: Any, key: str = "k", value: Any = "old", **options: Any) -> None:
    """Leave a value that has just become stale."""
    cache.get_or_set(key, lambda: value, 0.05, early=0, **options)
    eventually(lambda: not cache.exists(key), every=0.01)


def test_a_stale_value_is_served_while_it_is_made_anew(cache: Any) -> None:
    stale(cache, stale_while_revalidate=60)
    factory = Factory("new")
    factory.gate.clear()
    for _ in range(5):
        assert cache.get_or_set("k", factory, 60, stale_while_revalidate=60) == "old"
    factory.gate.set()
    eventually(lambda: cache.get("k") == "new", every=0.01)
    assert factory.calls == 1
    assert cache.stats().stale == 5


def test_a_stale_value_beyond_its_time_is_not_served(cache: Any) -> None:
    stale(cache, stale_while_revalidate=0.05)
    time.sleep(0.1)
    assert cache.get_or_set("k", Factory("new"), 60, stale_while_revalidate=0.05) == "new"


def test_a_stale_value_is_served_if_making_it_anew_fails(cache: Any) -> None:
    stale(cache, stale_if_error=60)
    factory = Factory("new")
    factory.error = LookupError("the database is away")
    assert cache.get_or_set("k", factory, 60, stale_if_error=60) == "old"
    factory.error = None
    assert cache.get_or_set("k", factory, 60, stale_if_error=60) == "new"
    assert factory.calls == 2


def test_a_refresh_that_fails_in_the_background_leaves_the_stale_value(cache: Any) -> None:
    stale(cache, stale_while_revalidate=60)
    factory = Factory()
    factory.error = LookupError("no")
    assert cache.get_or_set("k", factory, stale_while_revalidate=60) == "old"
    eventually(lambda: factory.calls, every=0.01)
    assert cache.get_or_set("k", factory, stale_while_revalidate=60) == "old"


def test_after_the_soft_time_out_the_stale_value_is_served_and_the_factory_finishes(cache: Any) -> None:
    stale(cache, stale_if_error=60)
    factory = Factory("new")
    factory.gate.clear()
    assert cache.get_or_set("k", factory, 60, stale_if_error=60, soft_timeout=0.05) == "old"
    factory.gate.set()
    eventually(lambda: cache.get("k") == "new", every=0.01)
    assert factory.calls == 1


def test_after_the_hard_time_out_the_caller_is_told_and_the_factory_finishes(cache: Any) -> None:
    factory = Factory("new")
    factory.gate.clear()
    with pytest.raises(CacheTimeout, match="within"):
        cache.get_or_set("k", factory, 60, hard_timeout=0.05)
    factory.gate.set()
    eventually(lambda: cache.get("k") == "new", every=0.01)
    assert factory.calls == 1


def test_a_value_that_took_long_to_make_is_made_anew_before_its_end(cache: Any) -> None:
    """XFetch: with a load of 0.1 s and 0.2 s to live, nearly every draw of a few dozen comes out early."""
    calls: list[float] = []

    def factory() -> int:
        calls.append(time.monotonic())
        time.sleep(0.1)
        return len(calls)

    assert cache.get_or_set("k", factory, 0.5) == 1
    ends = time.monotonic() + 0.5
    seen = set()
    while len(calls) < 2:
        seen.add(cache.get_or_set("k", factory, 0.5))
        assert time.monotonic() < ends + 10
    assert 1 in seen
    assert calls[1] < ends + 0.05


def test_no_early_refresh_when_there_is_to_be_none(cache: Any) -> None:
    factory = Factory()
    cache.get_or_set("k", factory, 60, early=0)
    for _ in range(50):
        cache.get_or_set("k", factory, 60, early=0)
    assert factory.calls == 1


@pytest.mark.parametrize(
    "wrong", [{"stale_if_error": -1}, {"soft_timeout": 0}, {"hard_timeout": -1}, {"early": -1}, {"wait": -1}]
)
def test_a_policy_that_makes_no_sense_is_refused_at_once(cache: Any, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="policy"):
        cache.cached("k", **wrong)(lambda: 1)
