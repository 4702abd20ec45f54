"""The cache.

A lookup is counted once: as a hit, a stale value served, or a miss, under the tier that answered (for a miss: the
tier asked last). The group is the literal beginning of a key template, never a key.
"""

from __future__ import annotations

from typing import Final

from restaurant_otel.catalog.metric import QUERY_SECONDS, SECONDS, Across, Kind, Metric

_NAME: Final = "restaurant.cache.name"
_LOOKUP: Final = (_NAME, "restaurant.cache.tier", "restaurant.cache.group")
_GROUP: Final = (_NAME, "restaurant.cache.group")

CACHE_HITS: Final = Metric(
    "restaurant.cache.hits", "{lookup}", Kind.COUNTER, "Lookups answered with a fresh value.", _LOOKUP
)
CACHE_MISSES: Final = Metric(
    "restaurant.cache.misses",
    "{lookup}",
    Kind.COUNTER,
    "Lookups that found no value, an expired one, or one that could not be read.",
    _LOOKUP,
)
CACHE_STALE: Final = Metric(
    "restaurant.cache.stale",
    "{lookup}",
    Kind.COUNTER,
    "Lookups answered with a stale value, while it was refreshed or because that failed or took too long.",
    _LOOKUP,
)
CACHE_UNREADABLE: Final = Metric(
    "restaurant.cache.unreadable",
    "{value}",
    Kind.COUNTER,
    "Values passed over as misses: foreign, corrupt, wrongly signed, or of another type or version.",
    _GROUP,
)
CACHE_SETS: Final = Metric("restaurant.cache.sets", "{value}", Kind.COUNTER, "Values stored.", _GROUP)
CACHE_DELETES: Final = Metric(
    "restaurant.cache.deletes",
    "{operation}",
    Kind.COUNTER,
    "Keys deleted; a tag, a pattern or a clear counts once.",
    _GROUP,
)
CACHE_COALESCED: Final = Metric(
    "restaurant.cache.coalesced",
    "{lookup}",
    Kind.COUNTER,
    "Lookups that waited for a value already being made, in this process or in another.",
    _GROUP,
)
CACHE_EVICTIONS: Final = Metric(
    "restaurant.cache.evictions", "{value}", Kind.COUNTER, "Values that left memory to make room.", (_NAME,)
)
CACHE_ERRORS: Final = Metric(
    "restaurant.cache.errors",
    "{error}",
    Kind.COUNTER,
    "Calls to Redis that failed, and values that could not be stored.",
    (_NAME, "error.type"),
)
CACHE_LOAD_DURATION: Final = Metric(
    "restaurant.cache.load.duration",
    "s",
    Kind.HISTOGRAM,
    "Time that making a missing or stale value took.",
    (_NAME, "restaurant.cache.group", "error.type"),
    SECONDS,
)
CACHE_OPERATION_DURATION: Final = Metric(
    "restaurant.cache.operation.duration",
    "s",
    Kind.HISTOGRAM,
    "Time of one round trip to Redis, by what it was for.",
    (_NAME, "restaurant.cache.operation"),
    (0.0001, 0.00025, 0.0005, *QUERY_SECONDS[:6]),
)
CACHE_ITEMS: Final = Metric("restaurant.cache.items", "{value}", Kind.GAUGE, "Values in memory.", (_NAME,))
CACHE_BYTES: Final = Metric(
    "restaurant.cache.size",
    "By",
    Kind.GAUGE,
    "Encoded size of the values in memory, keys and overhead included.",
    (_NAME,),
)
CACHE_BREAKER: Final = Metric(
    "restaurant.cache.breaker.state",
    "{state}",
    Kind.GAUGE,
    "Whether Redis is used: 0 yes (closed), 1 being probed (half-open), 2 no, memory instead (open).",
    (_NAME,),
    across=Across.MAX,
)
CACHE_JOURNAL: Final = Metric(
    "restaurant.cache.journal.length",
    "{invalidation}",
    Kind.GAUGE,
    "Invalidations to be replayed when Redis is back.",
    (_NAME,),
)
CACHE_REDIS_MEMORY: Final = Metric(
    "restaurant.cache.redis.memory.used",
    "By",
    Kind.GAUGE,
    "Memory that Redis uses, as it says; a cluster's primaries together.",
    (_NAME,),
    across=Across.MAX,
)
CACHE_REDIS_MEMORY_LIMIT: Final = Metric(
    "restaurant.cache.redis.memory.limit",
    "By",
    Kind.GAUGE,
    "The maxmemory of Redis; absent where it has none.",
    (_NAME,),
    across=Across.MAX,
)
CACHE_REDIS_EVICTED: Final = Metric(
    "restaurant.cache.redis.evicted",
    "{key}",
    Kind.GAUGE,
    "Keys that Redis has evicted since it started, as it says.",
    (_NAME,),
    across=Across.MAX,
)
CACHE_REDIS_LATENCY: Final = Metric(
    "restaurant.cache.redis.latency",
    "s",
    Kind.GAUGE,
    "Round trip of the latest PING.",
    (_NAME,),
    across=Across.MAX,
)
