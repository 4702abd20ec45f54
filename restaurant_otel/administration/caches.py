"""The app's caches: what they hold and how they do, and clearing them.

Clearing is a mark in Redis, whatever the number of keys, and reaches every process of the app; nothing outside of a
cache's own namespace and version can be named by it. A cache in memory alone is cleared in the worker that was asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from restaurant_otel import cache as caching
from restaurant_otel.administration.operations import Call, Given, Problem
from restaurant_otel.cache import AsyncCache, Counts
from restaurant_otel.caching.driver import run
from restaurant_otel.caching.inspect import Contents, contents
from restaurant_otel.caching.telemetry import of_all_workers

MOST_STARS: Final = 10
"""In a pattern: Redis before 7.0.9 tries all places of all parts between them (CVE-2022-36021)."""

MOST_COUNTED: Final = 200_000
"""Keys that a dry run looks at, at most."""


@dataclass(slots=True)
class Group:
    """One key group's lookups."""

    name: str
    hits: int
    misses: int
    stale: int
    sets: int
    deletes: int
    hit_ratio: float | None


@dataclass(slots=True)
class CacheFigures:
    """One cache, all workers together. `redis` is "closed" (in use), "half_open", "open" (away), or "none"."""

    name: str
    namespace: str
    version: str
    redis: str
    hits: int
    misses: int
    stale: int
    sets: int
    deletes: int
    evictions: int
    errors: int
    hit_ratio: float | None
    items_in_memory: int
    bytes_in_memory: int
    groups: list[Group] = field(default_factory=list)


@dataclass(slots=True)
class CacheList:
    """The caches that the worker which answers has."""

    caches: list[CacheFigures]


@dataclass(slots=True)
class Cleared:
    """What was cleared, or would be. `matching` is None where it was not counted: it costs a look at every key.

    `redis`: "told", and so all workers are; "away": it will be told when it is back; "none": only this worker's memory.
    """

    cache: str
    what: Literal["all", "pattern", "tag"]
    dry_run: bool
    matching: int | None
    redis: Literal["told", "away", "none"]


_NAME: Final = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.\-]+$", description="Which cache.")
_PATTERN: Final = Field(
    min_length=1,
    max_length=200,
    description="Only keys that match: `*`, `?`, `[ab]`. Of the cache's own keys alone.",
)
_TAG: Final = Field(min_length=1, max_length=200, description="Only values with this tag.")
_DRY: Final = Field(description="Change nothing; count what would go.")


class Clear(Given):
    """What to clear. With neither pattern nor tag: all."""

    name: Annotated[str | None, _NAME] = None
    pattern: Annotated[str | None, _PATTERN] = None
    tag: Annotated[str | None, _TAG] = None
    dry_run: Annotated[bool, _DRY] = False


class ProcessCache:
    """A cache of this process, `Cache` or `AsyncCache`, for threads."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        self.name: str = cache._core.config.name
        self.version = cache._keys.prefix.split(":")[1]
        self.namespace = cache._keys.prefix.split(":")[0]

    def state(self) -> str:
        """The breaker's, or "none" where there is no Redis."""
        return self._cache.stats().breaker if self._cache._core.link is not None else "none"

    def clear(self, what: Clear) -> None:
        """Do it."""
        cache = self._cache
        if what.pattern is not None:
            self._do(lambda: cache.delete_pattern(what.pattern))
        elif what.tag is not None:
            self._do(lambda: cache.delete_tag(what.tag))
        else:
            self._do(cache.clear)

    def count(self, what: Clear) -> int | None:
        """How many of Redis's keys it concerns; None for a tag, which is not kept with the keys, and without Redis."""
        core = self._cache._core
        if core.link is None or what.tag is not None:
            return None
        glob = core.keys.glob(what.pattern) if what.pattern is not None else core.keys.everything()
        counted: int | None = self._do(lambda: core.through("scan", _count, core.link, glob))
        return counted

    def contents(self) -> Contents | None:
        """What Redis holds."""
        found: Contents | None = self._do(lambda: contents(self._cache._core))
        return found

    def _do(self, act: Callable[[], Any]) -> Any:
        """Call `act` as the cache's kind wants it; what it awaits ends here."""
        if isinstance(self._cache, AsyncCache):
            return asyncio.run(self._on_a_loop(act))
        found = act()
        return run(found) if asyncio.iscoroutine(found) else found

    async def _on_a_loop(self, act: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await act()
        finally:
            if self._cache._core.link is not None:
                await self._cache._core.link.aclose()  # this loop's connection, and no other


async def _count(link: Any, glob: str) -> int:
    cursors, keys = None, 0
    while keys < MOST_COUNTED:
        found, cursors = await link.scan(glob, cursors)
        keys += sum(key.endswith(b"}") for key in found)
        if cursors is None:
            break
    return keys


def process_caches() -> list[ProcessCache]:
    """The caches of this process, one of each name."""
    found: dict[str, ProcessCache] = {}
    for cache in list(caching._caches):
        one = ProcessCache(cache)
        known = found.get(one.name)
        if known is None or (known.state() == "none" and one.state() != "none"):
            found[one.name] = one
    return [found[name] for name in sorted(found)]


def read_caches(_: Call) -> CacheList:
    """``GET /cache``."""
    return CacheList([_figures(cache) for cache in process_caches()])


def _figures(cache: ProcessCache) -> CacheFigures:
    stats = of_all_workers(cache.name)
    return CacheFigures(
        name=cache.name,
        namespace=cache.namespace,
        version=cache.version,
        redis=cache.state(),
        hits=stats.hits,
        misses=stats.misses,
        stale=stats.stale,
        sets=stats.sets,
        deletes=stats.deletes,
        evictions=stats.evictions,
        errors=stats.errors,
        hit_ratio=stats.hit_ratio,
        items_in_memory=stats.items,
        bytes_in_memory=stats.bytes,
        groups=[_group(name, counts) for name, counts in sorted(stats.groups.items())],
    )


def _group(name: str, counts: Counts) -> Group:
    return Group(
        name, counts.hits, counts.misses, counts.stale, counts.sets, counts.deletes, counts.hit_ratio
    )


def clear(call: Call) -> Cleared:
    """``DELETE /cache`` and ``POST /cache/clear``: what the body does not say, the query may."""
    given = _joined(call.query, call.body)
    if given.pattern is not None and given.tag is not None:
        raise Problem(HTTPStatus.BAD_REQUEST, "Give a pattern or a tag, not both.")
    if given.pattern is not None and given.pattern.count("*") > MOST_STARS:
        raise Problem(HTTPStatus.BAD_REQUEST, f"A pattern has up to {MOST_STARS} stars.")
    if given.pattern is not None and not given.pattern.isprintable():
        raise Problem(HTTPStatus.BAD_REQUEST, "A pattern has no control characters.")
    if given.tag is not None and not given.tag.isprintable():
        raise Problem(HTTPStatus.BAD_REQUEST, "A tag has no control characters.")
    cache = _named(given.name)
    what: Literal["all", "pattern", "tag"] = (
        "pattern" if given.pattern is not None else "tag" if given.tag is not None else "all"
    )
    matching = cache.count(given) if given.dry_run else None
    if not given.dry_run:
        try:
            cache.clear(given)
        except (ValueError, TypeError):
            raise Problem(HTTPStatus.BAD_REQUEST, "The cache does not take such a pattern or tag.") from None
    state = cache.state()
    redis: Literal["told", "away", "none"] = (
        "none" if state == "none" else "told" if state == "closed" else "away"
    )
    return Cleared(cache.name, what, given.dry_run, matching, redis)


def _joined(query: Clear, body: Clear | None) -> Clear:
    said = body.model_dump(exclude_unset=True) if body is not None else {}
    asked = query.model_dump(exclude_unset=True)
    if said.keys() & asked.keys():
        raise Problem(HTTPStatus.BAD_REQUEST, "A parameter is in the query and in the body.")
    return Clear(**asked, **said)


def _named(name: str | None) -> ProcessCache:
    """The cache; without a name the only one there is."""
    caches = process_caches()
    if name is None and len(caches) > 1:
        raise Problem(HTTPStatus.BAD_REQUEST, "There are several caches: give the name of one.")
    for cache in caches:
        if name is None or cache.name == name:
            return cache
    raise Problem(HTTPStatus.NOT_FOUND, "There is no such cache in this app.")
