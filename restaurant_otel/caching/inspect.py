"""What Redis holds for one cache, read from Redis: for the command line and for administrators.

Counts keys by SCAN, so it takes time in proportion to all that Redis holds; never part of serving a request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from restaurant_otel.caching.core import Core
from restaurant_otel.caching.links import Link, raising


@dataclass(frozen=True, slots=True)
class Contents:
    """`keys` counts values, invalidated ones included until they expire; the rest is of all that Redis holds.

    `hit_ratio` is Redis's own, over all its users since it started; the app's is in its metrics. Bytes; None where
    Redis does not say.
    """

    keys: int
    primaries: int
    memory_used: int | None
    memory_limit: int | None
    evicted_keys: int | None
    hit_ratio: float | None


async def contents(core: Core) -> Contents | None:
    """What there is; None if there is no Redis, or it is away."""
    if core.link is None:
        return None
    found: Contents | None = await core.through("scan", _contents, core.link, core.keys.everything())
    return found


async def _contents(link: Link, glob: str) -> Contents:
    sections = [parsed(raising(reply)) for reply in await link.each_primary(("INFO",))]
    cursors, keys = None, 0
    while True:
        found, cursors = await link.scan(glob, cursors)
        keys += sum(key.endswith(b"}") for key in found)
        if cursors is None:
            break
    hits, misses = _total(sections, "keyspace_hits"), _total(sections, "keyspace_misses")
    return Contents(
        keys=keys,
        primaries=len(sections),
        memory_used=_total(sections, "used_memory"),
        memory_limit=_total(sections, "maxmemory") or None,
        evicted_keys=_total(sections, "evicted_keys"),
        hit_ratio=round(hits / (hits + misses), 4)
        if hits is not None and misses is not None and hits + misses
        else None,
    )


def parsed(reply: Any) -> dict[str, Any]:
    """INFO's reply; redis-py's cluster clients have taken it apart already."""
    if isinstance(reply, dict):
        return reply
    lines = reply.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _total(sections: list[dict[str, Any]], field: str) -> int | None:
    if not all(field in section for section in sections):
        return None
    return sum(int(section[field]) for section in sections)
