"""The cache against its peers: hits over Redis and from memory, an outage, a stampede, and what it guesses to keep.

Client and server share one core, so that a wall-clock figure holds the work of both and no waking up across cores,
which takes longer than the work. One value everywhere: a dictionary of about 500 bytes. Each peer is used with its
defaults (django-redis, dogpile.cache and cashews: pickle; aiocache: its JSON serialiser), ours with metrics on. Peers
that are not installed are left out, and so are their figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import json
import multiprocessing
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import redis
import redis.asyncio

from benchmarks import harness
from benchmarks.harness import Costs, Figure, Variant
from restaurant_otel import catalog
from restaurant_otel.cache import AsyncCache, Cache
from restaurant_otel.caching.memory import MemoryStore
from restaurant_otel.caching.telemetry import Counter

VALUE = {
    "id": 7,
    "name": "Stir-fried noodles with vegetables",
    "price": 12.5,
    "available": True,
    "branch": {"id": 3, "city": "Seoul", "open": [11, 22]},
    "tags": ["hot", "vegetarian", "new"],
    "note": None,
    "description": "x" * 240,
    "sold": {str(day): day * 3 for day in range(12)},
}
PORT = 17399
URL = f"redis://127.0.0.1:{PORT}/0"
NUMBER = 300


@contextlib.contextmanager
def server() -> Iterator[int]:
    """A redis-server of our own on this process's core; its process id."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            ["redis-server", "--port", str(PORT), "--save", "", "--appendonly", "no", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 10
            while True:
                with contextlib.suppress(redis.RedisError), redis.Redis(port=PORT) as client:
                    if client.ping():
                        break
                if time.monotonic() > deadline:
                    raise RuntimeError("redis-server does not answer")
                time.sleep(0.01)
            yield process.pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
            process.kill()
            process.wait()


def pin() -> None:
    """This process, and the server that it will start, to one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def measure(variants: Sequence[Variant], *, number: int, rounds: int) -> Costs:
    """As `harness.measure`, by the wall clock: the server's work is to be counted too."""
    shuffle = random.Random(1).shuffle
    samples: dict[str, list[float]] = {variant.name: [] for variant in variants}
    for variant in variants:
        variant.run(number)
    gc.collect()
    gc.freeze()
    try:
        for _ in range(rounds):
            order = list(variants)
            shuffle(order)
            for variant in order:
                gc.collect()
                began = time.perf_counter_ns()
                variant.run(number)
                samples[variant.name].append((time.perf_counter_ns() - began) / number / 1000)
    finally:
        gc.unfreeze()
    return Costs(samples)


def repeated(call: Callable[[], Any]) -> Callable[[int], None]:
    def run(number: int) -> None:
        for _ in range(number):
            call()

    return run


def installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


# --- hits over Redis ---------------------------------------------------------------------------------


def sync_variants(stack: contextlib.ExitStack) -> list[Variant]:
    client = stack.enter_context(redis.Redis(port=PORT))
    client.set("plain", json.dumps(VALUE))
    ours = stack.enter_context(Cache(URL, namespace="bench"))
    ours.set("k", VALUE)
    variants = [
        Variant("redis-py + json", repeated(lambda: json.loads(client.get("plain")))),  # type: ignore[arg-type]
        Variant("ours", repeated(lambda: ours.get("k"))),
    ]
    if installed("flask_caching"):
        from flask import Flask
        from flask_caching import Cache as FlaskCache

        app = Flask("bench")
        flask_cache = FlaskCache(app, config={"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": URL})
        stack.enter_context(app.app_context())
        flask_cache.set("flask", VALUE)
        variants.append(Variant("Flask-Caching", repeated(lambda: flask_cache.get("flask"))))
    if installed("dogpile"):
        from dogpile.cache import make_region

        region = make_region().configure("dogpile.cache.redis", arguments={"host": "127.0.0.1", "port": PORT})
        region.set("dogpile", VALUE)
        variants.append(Variant("dogpile.cache", repeated(lambda: region.get("dogpile"))))
    if installed("django_redis"):
        import django.conf

        django.conf.settings.configure(
            CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": URL}}
        )
        from django.core.cache import cache as django_cache

        django_cache.set("django", VALUE, 3600)
        variants.append(Variant("django-redis", repeated(lambda: django_cache.get("django"))))
    return variants


def async_variants(loop: asyncio.AbstractEventLoop) -> list[Variant]:
    def repeated_async(call: Callable[[], Any]) -> Callable[[int], None]:
        async def many(number: int) -> None:
            for _ in range(number):
                await call()

        return lambda number: loop.run_until_complete(many(number))

    client = redis.asyncio.Redis(port=PORT)
    ours = AsyncCache(URL, namespace="bench")

    async def plain() -> Any:
        return json.loads(await client.get("plain"))

    variants = [
        Variant("redis.asyncio + json", repeated_async(plain)),
        Variant("ours", repeated_async(lambda: ours.get("k"))),
    ]
    if installed("aiocache"):
        from aiocache import RedisCache
        from aiocache.serializers import JsonSerializer

        aio = RedisCache(endpoint="127.0.0.1", port=PORT, serializer=JsonSerializer())
        loop.run_until_complete(aio.set("aiocache", VALUE))
        variants.append(Variant("aiocache", repeated_async(lambda: aio.get("aiocache"))))
    if installed("cashews"):
        from cashews import cache as cashews

        cashews.setup(URL)
        loop.run_until_complete(cashews.set("cashews", VALUE, expire=3600))
        variants.append(Variant("cashews", repeated_async(lambda: cashews.get("cashews"))))
    loop.run_until_complete(ours.set("k", VALUE))
    return variants


def ratios(costs: Costs, ours: str, goals: dict[str, tuple[float, float]]) -> list[Figure]:
    return [
        Figure(f"{ours} / {peer}", costs.ratio("ours", peer), goal, aim)
        for peer, (goal, aim) in goals.items()
        if peer in costs.names
    ]


def over_redis(rounds: int) -> tuple[Costs, Costs, list[Figure]]:
    with contextlib.ExitStack() as stack:
        sync = measure(sync_variants(stack), number=NUMBER, rounds=rounds)
    loop = asyncio.new_event_loop()
    try:
        concurrent = measure(async_variants(loop), number=NUMBER, rounds=rounds)
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()
    figures = ratios(sync, "sync hit: ours", {"redis-py + json": (0.90, 0.60)})
    peers = [name for name in ("Flask-Caching", "dogpile.cache", "django-redis") if name in sync.names]
    if peers:
        fastest = min(peers, key=lambda name: sync.cost(name).median)
        figures.append(
            Figure(f"sync hit: ours / {fastest}, the fastest", sync.ratio("ours", fastest), 0.90, 0.60)
        )
    figures += ratios(
        concurrent,
        "async hit: ours",
        {"redis.asyncio + json": (0.90, 0.60), "aiocache": (0.70, 0.50), "cashews": (0.60, 0.45)},
    )
    return sync, concurrent, figures


# --- hits from memory --------------------------------------------------------------------------------


def from_memory(rounds: int) -> tuple[Costs, list[Figure]]:
    loop = asyncio.new_event_loop()
    sync, concurrent = (
        Cache(URL, namespace="bench", memory_tier=True),
        AsyncCache(URL, namespace="bench", memory_tier=True),
    )

    @sync.cached("menu:{branch}")
    def menu(branch: int) -> Any:
        return VALUE

    @concurrent.cached("menu:{branch}")
    async def async_menu(branch: int) -> Any:
        return VALUE

    async def many_gets(number: int) -> None:
        get = concurrent.get
        for _ in range(number):
            await get("k")

    async def many_calls(number: int) -> None:
        for _ in range(number):
            await async_menu(7)

    counter = Counter(catalog.CACHE_HITS, "bench", "memory", "counting")
    variants = [
        Variant("get", repeated(lambda: sync.get("k"))),
        Variant("get, async", lambda number: loop.run_until_complete(many_gets(number))),
        Variant("decorated", repeated(lambda: menu(7))),
        Variant("decorated, async", lambda number: loop.run_until_complete(many_calls(number))),
        Variant("counting", repeated(counter.add)),
        Variant("an empty call", repeated(lambda: None)),
    ]
    try:
        deadline = time.monotonic() + 10
        while True:  # until Redis tells both of changes, and all four read from memory
            sync.get("k"), menu(7)
            loop.run_until_complete(many_gets(1)), loop.run_until_complete(many_calls(1))
            hits = [cache.stats().memory_hits for cache in (sync, concurrent)]
            if min(hits) >= 4:
                break
            if time.monotonic() > deadline:
                raise RuntimeError("the memory tier is not used")
            time.sleep(0.05)
        before = sync.stats().memory_hits
        costs = measure(variants, number=20_000, rounds=rounds)
        if sync.stats().memory_hits - before < 2 * 20_000 * rounds:
            raise RuntimeError("not all hits were from memory")
    finally:
        sync.close()
        loop.run_until_complete(concurrent.close())
        loop.close()
    base = costs.cost("an empty call").median
    figures = [
        Figure(
            f"{what}, memory hit", costs.cost(name).median - (0 if "async" in name else base), goal, aim, "us"
        )
        for name, what, goal, aim in (
            ("get", "get", 1.0, 0.5),
            ("get, async", "async get", 2.0, 1.5),
            ("decorated", "decorator", 3.0, 2.0),
            ("decorated, async", "async decorator", 6.0, 4.0),
            ("counting", "counting", 0.5, None),
        )
    ]
    return costs, figures


# --- outage, stampede, guessing ----------------------------------------------------------------------


def outage(pid: int) -> list[Figure]:
    firsts, laters, backs = [], [], []
    for _ in range(3):
        with Cache(URL, namespace="bench") as cache:
            cache.set("k", VALUE)
            os.kill(pid, signal.SIGSTOP)
            began = time.perf_counter()
            cache.get("k")
            firsts.append(time.perf_counter() - began)
            for _ in range(1000):
                began = time.perf_counter()
                cache.get("k")
                laters.append(time.perf_counter() - began)
            time.sleep(1.5)  # so that the probes are at their rarest
            os.kill(pid, signal.SIGCONT)
            began = time.perf_counter()
            while cache.get("k") is None and time.perf_counter() - began < 30:
                time.sleep(0.005)
            backs.append(time.perf_counter() - began)
    return [
        Figure("Redis hung: first call", max(firsts) * 1000, 250, None, "ms"),
        Figure("Redis hung: later calls, median", statistics.median(laters) * 1e6, 10, None, "us"),
        Figure("back on Redis after it heals", max(backs), 2, None, "s"),
    ]


def _miss(log: str, start: Any) -> None:
    def factory() -> Any:
        with open(log, "a") as file:
            file.write("called\n")
        time.sleep(0.2)
        return VALUE

    start.wait()
    with Cache(URL, namespace="stampede", timeout=2.0) as cache, ThreadPoolExecutor(250) as pool:
        if any(value != VALUE for value in pool.map(lambda _: cache.get_or_set("k", factory), range(250))):
            raise RuntimeError("a wrong value")


def stampede() -> Figure:
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        log, start = Path(folder) / "calls", spawn.Event()
        processes = [spawn.Process(target=_miss, args=(str(log), start)) for _ in range(4)]
        for process in processes:
            process.start()
        start.set()
        for process in processes:
            process.join(60)
        if any(process.exitcode for process in processes):
            raise RuntimeError("a process failed")
        return Figure(
            "1,000 misses at once, 4 processes: calls", len(log.read_text().splitlines()), 1, None, ""
        )


def guessing() -> Figure:
    dice = random.Random(7)
    weights = [1 / rank**0.9 for rank in range(1, 20_001)]
    trace = [str(key) for key in dice.choices(range(20_000), weights, k=300_000)]
    store: MemoryStore[int] = MemoryStore(1000, 10**9)
    lru: OrderedDict[str, int] = OrderedDict()
    ours = theirs = 0
    for key in trace:
        if store.get(key, 0.0) is not None:
            ours += 1
        else:
            store.put(key, 1, 1, 1.0)
        if key in lru:
            theirs += 1
            lru.move_to_end(key)
        else:
            lru[key] = 1
            if len(lru) > 1000:
                lru.popitem(last=False)
    # The harness knows upper limits only: LRU's hit ratio is to lie at least 0.06 below ours.
    return Figure("Zipf 0.9: LRU's hit ratio minus ours", (theirs - ours) / len(trace), -0.06, None)


def main() -> int:
    arguments = harness.options(__doc__, rounds=40)
    pin()
    with server() as pid:
        sync, concurrent, figures = over_redis(arguments.rounds)
        memory, more = from_memory(arguments.rounds)
        figures += more
        figures += [*outage(pid), stampede(), guessing()]
    harness.show("A hit over Redis, threads", sync, ())
    harness.show("A hit over Redis, asyncio", concurrent, ())
    return harness.report("The cache", memory, figures, arguments)


if __name__ == "__main__":
    sys.exit(main())
