"""The cache: `Cache` for threads, `AsyncCache` for event loops, `CacheManager` under the old names.

    cache = Cache("redis://localhost:6379/0", namespace="shop")

    @cache.cached("menu:{branch_id}", ttl=300, tags=("menu",))
    def menu(branch_id: int) -> list[Dish]: ...

A value comes from Redis, or from memory in front of it when asked for; is made once however many ask; and while Redis
is away memory serves, what was deleted stays deleted, and no call raises or waits. What exactly is promised is in
``docs/cache.md``. Every hit and miss is counted. The parts are in `restaurant_otel.caching`.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, ParamSpec, Self, TypedDict, TypeVar, Unpack

from restaurant_otel.caching.address import Address, direct_url, parse
from restaurant_otel.caching.codecs import Packer
from restaurant_otel.caching.core import Config, Core
from restaurant_otel.caching.decorator import AsyncCached, Cached, cached, cached_async
from restaurant_otel.caching.driver import Driver, Loops, Threads, run
from restaurant_otel.caching.entry import UNDECODED, Entry
from restaurant_otel.caching.keys import Keyspace, checked, checked_pattern, checked_tags
from restaurant_otel.caching.leases import Leases
from restaurant_otel.caching.links import Link, blocking_link, primaries
from restaurant_otel.caching.listener import Listener
from restaurant_otel.caching.loading import CacheTimeout, Loader, Policy
from restaurant_otel.caching.locks import AsyncLock, Lock, LockTimeout
from restaurant_otel.caching.loop_links import loop_link
from restaurant_otel.caching.maintenance import Maintenance
from restaurant_otel.caching.reading import Reader
from restaurant_otel.caching.telemetry import Counts, Group, Stats, of_all_workers, of_process
from restaurant_otel.caching.writing import Writer

__all__ = [
    "AsyncCache",
    "AsyncLock",
    "Cache",
    "CacheManager",
    "CacheTimeout",
    "Counts",
    "How",
    "Lock",
    "LockTimeout",
    "Stats",
]

P = ParamSpec("P")
R = TypeVar("R")

_caches: weakref.WeakSet[_Base] = weakref.WeakSet()


def _forget_all() -> None:
    for cache in list(_caches):
        cache._forget()


class How(TypedDict, total=False):
    """How a value is made and kept: the keyword arguments that `get_or_set` and `cached` share. Times are seconds.

    For `stale_while_revalidate` after its end the old value is served while one caller makes the new one in the
    background; for `stale_if_error` it is served if the factory raises. With an old value at hand nobody waits for the
    factory longer than `soft_timeout`; without one, `hard_timeout` raises CacheTimeout; in both cases the factory
    goes on and its value is stored. `early` is XFetch's beta: how eagerly a value is made anew before its end (0:
    never; 1 unless given). `wait` (10 unless given) bounds the waiting for another process. `tags` are the
    value's, for `delete_tag`.
    """

    tags: Iterable[str]
    stale_while_revalidate: float
    stale_if_error: float
    soft_timeout: float | None
    hard_timeout: float | None
    early: float
    wait: float


class _Base:
    """What both faces are made of, and what they do without waiting."""

    def __init__(
        self,
        url: str | None = None,
        *,
        host: str = "localhost",
        port: int = 6379,
        db: int = 0,
        username: str | None = None,
        password: str | None = None,
        namespace: str = "cache",
        version: str | int = 1,
        name: str | None = None,
        ttl: float = 3600.0,
        jitter: float = 0.1,
        memory_tier: bool = False,
        max_entries: int = 10_000,
        max_bytes: int = 64 * 1024 * 1024,
        isolate: bool = False,
        codec: str = "json",
        secret: str | bytes | None = None,
        compress_over: int = 8192,
        timeout: float = 0.2,
        journal_limit: int = 50_000,
    ) -> None:
        if ttl <= 0 or not 0 <= jitter < 1 or timeout <= 0 or journal_limit < 1:
            raise ValueError(
                "ttl, timeout and journal_limit are more than nothing; jitter is a share below 1"
            )
        address = parse(url if url is not None else direct_url(host, port, db, username, password))
        local = address.kind == "memory"
        self._keys = Keyspace(namespace, version)
        config = Config(
            name=name or namespace,
            ttl=ttl,
            jitter=jitter,
            two_tier=memory_tier and not local,
            shares=(memory_tier or local) and not isolate,
            timeout=timeout,
        )
        driver, link = self._means()
        self._core = Core(
            config,
            self._keys,
            Packer(codec, secret, compress_over),
            None if local else link(address, timeout),
            driver,
            limits=(max_entries, max_bytes, journal_limit),
        )
        self._reader = Reader(self._core)
        self._writer = Writer(self._core, self._reader)
        self._leases = Leases(self._core)
        self._loader = Loader(self._core, self._reader, self._writer, self._leases)
        self._parts = self._core, self._writer, self._loader
        self._maintenance: Maintenance | None = None
        self._listener: Listener | None = None
        if not local:
            self._maintain(address)
        self._group = self._core.telemetry.group(None)
        self._memory_get = self._core.memory.get
        if not _caches:
            _forget_in_children()
        _caches.add(self)

    def _maintain(self, address: Address) -> None:
        core = self._core
        make_link = partial(blocking_link, address, core.config.timeout)
        maintenance = self._maintenance = Maintenance(core, self._leases, make_link)
        core.on_trip = maintenance.tripped
        core.ensure_maintained = maintenance.ensure
        if core.config.two_tier:
            listener = self._listener = Listener(core, primaries(address, core.config.timeout))

            def ensure_both() -> None:
                maintenance.ensure()
                listener.ensure()

            core.ensure_maintained = ensure_both

    def _means(self) -> tuple[Driver, Callable[..., Link]]:
        raise NotImplementedError

    def _forget(self) -> None:
        """In a child process: locks, threads, connections and loads under way are the parent's."""
        self._core.forget()
        self._leases.forget()
        if self._maintenance is not None:
            self._maintenance.forget()
        if self._listener is not None:
            self._listener.forget()

    def _in(self, group: str | None) -> Group:
        return self._group if group is None else self._core.telemetry.group(group)

    def _quick(self, key: str, as_type: Any, group: str | None) -> Any:
        """A memory hit that needs nothing more done to it, or UNDECODED."""
        now = monotonic()
        entry = self._memory_get(key, now)
        if entry is None or now >= entry.calm_until or entry.shown_as is not as_type:
            return UNDECODED
        value = entry.value
        if value is not UNDECODED:
            hits = (self._group if group is None else self._core.telemetry.group(group)).memory_hits
            hits.count += 1
            hits.tell(1)
        return value

    def _entries(
        self, values: Mapping[str, Any], ttl: float | None, tags: Iterable[str], as_type: Any
    ) -> dict[str, Entry]:
        bears = checked_tags(tags)
        names = {checked(key): value for key, value in values.items()}
        return {name: self._writer.entry(name, value, ttl, as_type, bears) for name, value in names.items()}

    def _policy(self, ttl: float | None, as_type: Any, how: How) -> Policy:
        options: dict[str, Any] = {**how, "tags": checked_tags(how.get("tags", ()))}
        return Policy(ttl, declared=as_type, **options)

    def stats(self, *, all_workers: bool = False) -> Stats:
        """Hits, misses and the rest, of this process or of all workers of the app, by key group and in all."""
        core = self._core
        stats = of_all_workers(core.config.name) if all_workers else of_process(core.telemetry)
        if not all_workers:
            stats.items, stats.bytes = len(core.memory), core.memory.bytes
        stats.breaker = core.breaker.state.name.lower()
        stats.journal = len(core.journal)
        stats.reads_memory = core.reads_memory
        return stats


def _forget_in_children() -> None:
    global _hooked
    if not _hooked and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget_all)
    _hooked = True


_hooked = False


class Cache(_Base):
    """A cache for threads.

    `url` is ``redis://``, ``rediss://``, ``unix://``, ``redis+cluster://``, ``redis+sentinel://`` or ``memory://`` (see
    `caching.address`); without it `host`, `port`, `db`, `username` and `password` say where Redis is. Nothing connects
    until the first call.

    `namespace` and `version` begin every key; another version sees none of this one's values. `name` is the cache's
    name in metrics, the namespace unless given. `ttl` (s) is the default time to live, shortened at random by up to
    the share `jitter`, so that what was stored together does not expire together.

    `memory_tier` keeps values in memory in front of Redis as well, told by Redis when they change; at most
    `max_entries` of `max_bytes` (their encoded size: as Python objects they take a few times as much). The same bounds
    hold for the fallback and for ``memory://``. Values from memory are shared between callers, who must not change
    them; `isolate` decodes a fresh one each time instead.

    `codec` is "json", "msgpack" or, with a `secret` to sign by, "pickle"; values over `compress_over` bytes are
    deflated. `timeout` (s) bounds one exchange with Redis. `journal_limit` bounds the invalidations remembered while
    Redis is away; beyond it the whole namespace is invalidated.

    No method raises because Redis is away. TypeError and ValueError tell of mistakes in the arguments. Any thread.
    """

    def _means(self) -> tuple[Driver, Callable[..., Link]]:
        return Threads(), blocking_link

    def get(self, key: str, default: Any = None, *, as_type: Any = None, group: str | None = None) -> Any:
        """The value of `key`, or `default`. `as_type` decodes it as a declared type; `group` is its name in metrics."""
        if self._core.reads_memory:
            value = self._quick(key, as_type, group)
            if value is not UNDECODED:
                return value
        return run(self._reader.get(key, default, as_type, self._in(group)))

    def get_many(
        self, keys: Iterable[str], *, as_type: Any = None, group: str | None = None
    ) -> dict[str, Any]:
        """The values of those of `keys` that have one, in one round trip."""
        return run(self._reader.get_many(keys, as_type, self._in(group)))

    def set(
        self,
        key: str,
        value: Any,
        ttl: float | None = None,
        *,
        tags: Iterable[str] = (),
        as_type: Any = None,
        group: str | None = None,
    ) -> bool:
        """Store `value` for `ttl` seconds; whether it is kept, in Redis or, while it is away, in memory.

        TypeError or ValueError if it cannot be written, which is told whether or not Redis is there.
        """
        return self.set_many({key: value}, ttl, tags=tags, as_type=as_type, group=group)

    def set_many(
        self,
        values: Mapping[str, Any],
        ttl: float | None = None,
        *,
        tags: Iterable[str] = (),
        as_type: Any = None,
        group: str | None = None,
    ) -> bool:
        """Store all `values`, in one round trip; see `set`."""
        return run(self._writer.set_many(self._entries(values, ttl, tags, as_type), self._in(group)))

    def get_or_set(
        self,
        key: str,
        factory: Callable[[], R],
        ttl: float | None = None,
        *,
        group: str | None = None,
        as_type: Any = None,
        **how: Unpack[How],
    ) -> R:
        """The value of `key`, made by `factory` if there is none: once, however many ask, in however many processes.

        See `How` for the rest. Raises what the factory raises, and CacheTimeout. A value that cannot be stored is
        returned all the same, and counted as an error.
        """
        if self._core.reads_memory:
            value = self._quick(key, as_type, group)
            if value is not UNDECODED:
                return value  # type: ignore[no-any-return]
        policy = self._policy(ttl, as_type, how)
        return run(self._loader.get_or_set(key, factory, policy, self._in(group)))  # type: ignore[no-any-return]

    def cached(
        self,
        template: str | None = None,
        ttl: float | None = None,
        *,
        group: str | None = None,
        ignore: Sequence[str] = (),
        **how: Unpack[How],
    ) -> Callable[[Callable[P, R]], Cached[P, R]]:
        """Decorate a function: its results are cached as by `get_or_set`.

        `template` makes the key from parameters (``"menu:{branch_id}"``, ``"menu:{user.id}"``), and so may tags;
        without it the function's own name and all its arguments do. Every parameter is in the template or in
        `ignore`. The return annotation, if it is more than plain JSON, is the type results are read as. The
        function gains ``key``, ``refresh`` and ``invalidate``, which take its arguments.
        """
        policy = self._policy(ttl, None, how)
        return lambda function: cached(function, self._parts, template, ignore, policy, group)

    def delete(self, key: str, *, group: str | None = None) -> bool:
        """Delete `key`; whether there was a value. A value of it that is just being made will not be stored."""
        return bool(run(self._writer.delete_many((key,), self._in(group))))

    def delete_many(self, keys: Iterable[str], *, group: str | None = None) -> int:
        """Delete all of `keys`, in one round trip; how many had a value."""
        return run(self._writer.delete_many(keys, self._in(group)))

    def delete_tag(self, tag: str, *, group: str | None = None) -> None:
        """Delete every value stored with `tag`, in O(1)."""
        run(self._writer.delete_marked("tag", checked_tags((tag,))[0], self._in(group)))

    def delete_pattern(self, pattern: str, *, group: str | None = None) -> None:
        """Delete every value whose key matches, as Redis matches: ``*``, ``?``, ``[ab]``.

        In O(1) for up to 32 patterns between two `clear`; further ones by SCAN and UNLINK.
        """
        run(self._writer.delete_marked("pattern", checked_pattern(pattern), self._in(group)))

    def clear(self, *, reclaim: bool = False) -> None:
        """Delete every value of this namespace and version, and of no other, in O(1).

        Redis's memory is freed as the values expire; with `reclaim` at once, by SCAN and UNLINK.
        """
        run(self._writer.delete_marked("all", "", self._group))
        if reclaim:
            run(self._writer.reclaim())

    def exists(self, key: str, *, group: str | None = None) -> bool:
        """Whether `key` has a value. Counts as neither hit nor miss."""
        return run(self._reader.exists(key, self._in(group)))

    def touch(self, key: str, ttl: float | None = None, *, group: str | None = None) -> bool:
        """Let the value of `key` live for `ttl` seconds from now; whether there was one."""
        return run(self._writer.touch(key, ttl, self._in(group)))

    def incr(self, key: str, amount: int = 1, *, ttl: float | None = None, group: str | None = None) -> int:
        """Add `amount` to the integer under `key`, and return the sum; ValueError if it holds no integer.

        A new one starts from 0 and lives `ttl`. Exact up to 2**53. While Redis is away each process counts for
        itself, and the count is deleted when it returns.
        """
        return run(self._writer.incr(key, amount, ttl, self._in(group)))

    def lock(self, name: str, *, wait: float = 10.0) -> Lock:
        """A lock for ``with``, held by one thread in all processes; waits up to `wait` seconds, then LockTimeout."""
        return Lock(self._core, self._leases, name, wait)

    def close(self) -> None:
        """Let go of threads and connections. The cache may be used again, and takes them up again."""
        if self._listener is not None:
            self._listener.close()
        if self._maintenance is not None:
            self._maintenance.close()
        if self._core.link is not None:
            run(self._core.link.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncCache(_Base):
    """A cache for event loops: the same as `Cache`, with coroutines; `cached` decorates coroutine functions.

    One connection a loop serves all its tasks. A caller that is cancelled disturbs nobody: neither the others on the
    connection nor those who wait for the value it was making.
    """

    def _means(self) -> tuple[Driver, Callable[..., Link]]:
        return Loops(), loop_link

    async def get(
        self, key: str, default: Any = None, *, as_type: Any = None, group: str | None = None
    ) -> Any:
        """As `Cache.get`."""
        if self._core.reads_memory:
            value = self._quick(key, as_type, group)
            if value is not UNDECODED:
                return value
        return await self._reader.get(key, default, as_type, self._in(group))

    async def get_many(
        self, keys: Iterable[str], *, as_type: Any = None, group: str | None = None
    ) -> dict[str, Any]:
        """As `Cache.get_many`."""
        return await self._reader.get_many(keys, as_type, self._in(group))

    async def set(
        self,
        key: str,
        value: Any,
        ttl: float | None = None,
        *,
        tags: Iterable[str] = (),
        as_type: Any = None,
        group: str | None = None,
    ) -> bool:
        """As `Cache.set`."""
        return await self.set_many({key: value}, ttl, tags=tags, as_type=as_type, group=group)

    async def set_many(
        self,
        values: Mapping[str, Any],
        ttl: float | None = None,
        *,
        tags: Iterable[str] = (),
        as_type: Any = None,
        group: str | None = None,
    ) -> bool:
        """As `Cache.set_many`."""
        return await self._writer.set_many(self._entries(values, ttl, tags, as_type), self._in(group))

    async def get_or_set(
        self,
        key: str,
        factory: Callable[[], Awaitable[R] | R],
        ttl: float | None = None,
        *,
        group: str | None = None,
        as_type: Any = None,
        **how: Unpack[How],
    ) -> R:
        """As `Cache.get_or_set`; `factory` may be a coroutine function, and runs in a task of its own."""
        if self._core.reads_memory:
            value = self._quick(key, as_type, group)
            if value is not UNDECODED:
                return value  # type: ignore[no-any-return]
        policy = self._policy(ttl, as_type, how)
        return await self._loader.get_or_set(key, factory, policy, self._in(group))  # type: ignore[no-any-return]

    def cached(
        self,
        template: str | None = None,
        ttl: float | None = None,
        *,
        group: str | None = None,
        ignore: Sequence[str] = (),
        **how: Unpack[How],
    ) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], AsyncCached[P, R]]:
        """As `Cache.cached`, for coroutine functions."""
        policy = self._policy(ttl, None, how)
        return lambda function: cached_async(function, self._parts, template, ignore, policy, group)

    async def delete(self, key: str, *, group: str | None = None) -> bool:
        """As `Cache.delete`."""
        return bool(await self._writer.delete_many((key,), self._in(group)))

    async def delete_many(self, keys: Iterable[str], *, group: str | None = None) -> int:
        """As `Cache.delete_many`."""
        return await self._writer.delete_many(keys, self._in(group))

    async def delete_tag(self, tag: str, *, group: str | None = None) -> None:
        """As `Cache.delete_tag`."""
        await self._writer.delete_marked("tag", checked_tags((tag,))[0], self._in(group))

    async def delete_pattern(self, pattern: str, *, group: str | None = None) -> None:
        """As `Cache.delete_pattern`."""
        await self._writer.delete_marked("pattern", checked_pattern(pattern), self._in(group))

    async def clear(self, *, reclaim: bool = False) -> None:
        """As `Cache.clear`."""
        await self._writer.delete_marked("all", "", self._group)
        if reclaim:
            await self._writer.reclaim()

    async def exists(self, key: str, *, group: str | None = None) -> bool:
        """As `Cache.exists`."""
        return await self._reader.exists(key, self._in(group))

    async def touch(self, key: str, ttl: float | None = None, *, group: str | None = None) -> bool:
        """As `Cache.touch`."""
        return await self._writer.touch(key, ttl, self._in(group))

    async def incr(
        self, key: str, amount: int = 1, *, ttl: float | None = None, group: str | None = None
    ) -> int:
        """As `Cache.incr`."""
        return await self._writer.incr(key, amount, ttl, self._in(group))

    def lock(self, name: str, *, wait: float = 10.0) -> AsyncLock:
        """As `Cache.lock`, for ``async with``."""
        return AsyncLock(self._core, self._leases, name, wait)

    async def close(self) -> None:
        """As `Cache.close`, for the running loop's connection."""
        for part in (self._listener, self._maintenance):
            if part is not None:
                await asyncio.to_thread(part.close)
        if self._core.link is not None:
            await self._core.link.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class CacheManager(Cache):
    """`Cache` for apps that had a cache manager of their own: its constructor and its method names.

    ``CacheManager(host, port, db, password)``, ``set(key, value, expire=...)``, ``clear_pattern``, ``get_stats`` and
    ``cache_result`` besides everything of `Cache`.
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = 6379,
        db: int = 0,
        password: str | None = None,
        default_expire: float = 3600.0,
        **options: Any,
    ) -> None:
        super().__init__(host=host, port=port, db=db, password=password, ttl=default_expire, **options)

    def set(
        self, key: str, value: Any, ttl: float | None = None, *, expire: float | None = None, **options: Any
    ) -> bool:
        """As `Cache.set`; `expire` is another name for `ttl`."""
        return super().set(key, value, expire if ttl is None else ttl, **options)

    def clear_pattern(self, pattern: str) -> None:
        """As `Cache.delete_pattern`."""
        self.delete_pattern(pattern)

    def get_stats(self) -> dict[str, Any]:
        """`Cache.stats` as a dictionary, with ``hit_ratio``."""
        stats = self.stats()
        return {**asdict(stats), "hit_ratio": stats.hit_ratio}

    def cache_result(
        self, expire: float | None = None, key_prefix: str | None = None
    ) -> Callable[[Callable[P, R]], Cached[P, R]]:
        """Decorate a function; its results are cached by all its arguments. As `Cache.cached` without a template."""
        return self.cached(None, expire, group=key_prefix)
