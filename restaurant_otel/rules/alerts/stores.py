"""Alerts about what requests wait for: the database, its connections, the cache, Redis."""

from __future__ import annotations

from collections.abc import Iterator

from restaurant_otel import catalog
from restaurant_otel.rules.alerts.model import CRITICAL, INFO, PERCENT, VALUE, WARNING, Alert, where
from restaurant_otel.rules.expressions import N_PLUS_ONE, POOL_TIMEOUTS, grown
from restaurant_otel.rules.options import Options, name_of


def database(o: Options) -> Iterator[Alert]:
    """Of statements and connections."""
    labels = o.labels("http_route", "restaurant_db_relationship")
    times = f"increase({o.series(N_PLUS_ONE)}[{o.time('15m')}])"
    yield Alert(
        "NPlusOneQueries",
        INFO,
        "database",
        "n-plus-one",
        f"sum by ({labels}) ({times}) > 5",
        "5m",
        f"{{service}} loads {where('restaurant_db_relationship')} one by one",
        f"In {VALUE} requests of the last 15 minutes {where('http_route')} of {{service}} sent one query "
        f"for each of many {where('restaurant_db_relationship')}. One for all can do that.",
    )
    pool = where("db_client_connection_pool_name")
    yield Alert(
        "PoolNearlyExhausted",
        WARNING,
        "database",
        "pool-exhausted",
        "service_pool:db_connections:utilization >= 0.9",
        "5m",
        f"{{service}} uses nearly all connections of the pool {pool}",
        f"{PERCENT} of the connections of {pool} are in use on the fullest instance of {{service}}. When all are, "
        "its requests wait, and then fail.",
    )
    yield Alert(
        "PoolExhausted",
        CRITICAL,
        "database",
        "pool-exhausted",
        f"{grown(o, POOL_TIMEOUTS, '5m', 'db_client_connection_pool_name')} > 0",
        "0s",
        f"{{service}} waits in vain for connections of the pool {pool}",
        f"In the last 5 minutes {{service}} has given up {VALUE} times waiting for a connection of "
        f"{pool}. Those requests have failed.",
    )


def cache(o: Options) -> Iterator[Alert]:
    """Of caches and their Redis."""
    cache = where("restaurant_cache_name")
    by = o.labels("restaurant_cache_name")
    state = o.series(name_of(catalog.CACHE_BREAKER))
    breaker = f"max_over_time({state}[{o.time('1m')}])"  # it probes now and then, and is as open as before
    yield Alert(
        "RedisAway",
        WARNING,
        "cache",
        "redis-away",
        f"max by ({by}) ({breaker}) == 2",
        "1m",
        f"The cache {cache} of {{service}} does without Redis",
        f"Redis does not answer {{service}}: its breaker is open, and {cache} lives in each worker's memory. "
        "The app goes on, with more misses and more load on the database.",
    )
    sets = f"sum by ({by}) (rate({o.series(name_of(catalog.CACHE_SETS))}[{o.time('5m')}]))"
    yield Alert(
        "CacheEvictionsHigh",
        INFO,
        "cache",
        "cache-evictions",
        f"service_cache:cache_evictions:rate5m / {sets} > 0.5",
        "15m",
        f"The cache {cache} of {{service}} is too small",
        f"For {PERCENT} of the values that {{service}} puts into {cache}, another one must "
        "leave memory before it has expired.",
    )
    yield Alert(
        "RedisEvictions",
        WARNING,
        "cache",
        "cache-evictions",
        "service_cache:redis_evicted:rate5m > 0.1",
        "15m",
        "The Redis of {service} throws keys out",
        f"Redis evicts {VALUE} keys a second of {cache} in {{service}}: it has reached its maxmemory.",
    )
