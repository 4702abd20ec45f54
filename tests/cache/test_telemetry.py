"""What the cache counts is what happened, under names that stay few."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry import trace

from restaurant_otel import catalog
from restaurant_otel.cache import Cache, CacheManager
from restaurant_otel.metrics import HistogramPoint, registry
from tests.cache.redises import RedisServer
from tests.support.spans import Spans
from tests.support.wait import eventually

Make = Callable[..., Any]


def number(metric: Any, *values: str) -> float:
    """The metric's points whose first attribute values are `values`, added up."""
    found = 0.0
    for family in registry().collect():
        if family.metric.name == metric.name:
            for point in family.points:
                if point.values[: len(values)] == values:
                    found += point.count if isinstance(point, HistogramPoint) else point.value
    return found


def test_the_registry_and_the_stats_say_the_same(
    make: Make, shared_redis: RedisServer, namespace: str
) -> None:
    cache = make(shared_redis.url)

    @cache.cached("menu:{branch}", tags=("t",))
    def menu(branch: int) -> int:
        return branch

    menu(1)
    menu(1)
    menu(2)
    menu.invalidate(1)
    cache.get("other")
    stats, workers = cache.stats(), cache.stats(all_workers=True)
    for each in (stats, workers):
        assert (each.hits, each.misses, each.sets, each.deletes) == (1, 3, 2, 1)
        assert each.hit_ratio == 0.25
        assert (each.groups["menu"].hits, each.groups["menu"].misses) == (1, 2)
        assert each.groups["default"].misses == 1
        assert each.remote_hits == 1
    assert number(catalog.CACHE_HITS, namespace, "remote", "menu") == 1
    assert number(catalog.CACHE_MISSES, namespace, "remote", "menu") == 2
    assert number(catalog.CACHE_LOAD_DURATION, namespace, "menu") == 2
    assert number(catalog.CACHE_OPERATION_DURATION, namespace, "get") >= 4


def test_no_key_becomes_a_label_and_groups_are_bounded(namespace: str) -> None:
    cache = Cache("memory://", namespace=namespace)
    for index in range(500):
        cache.get(f"secret:{index}", group=f"g{index}")
    labels = {
        str(value)
        for family in registry().collect()
        if family.metric.name.startswith("restaurant.cache.")
        for point in family.points
        if point.values[0] == namespace
        for value in point.values
    }
    assert not any("secret" in label for label in labels)
    assert len(labels) < 210
    assert cache.stats().misses == 500
    assert cache.stats().groups["other"].misses > 200


def test_an_outage_shows_in_errors_breaker_and_journal(
    make: Make, own_redis: RedisServer, namespace: str
) -> None:
    cache = make(own_redis.url)
    cache.set("k", 1)
    own_redis.kill()
    cache.get("k")
    cache.delete("k")
    assert cache.stats().breaker in ("open", "half_open")
    assert cache.stats().journal == 1
    assert cache.stats().errors == 1
    assert number(catalog.CACHE_ERRORS, namespace) == 1
    assert number(catalog.CACHE_BREAKER, namespace) > 0
    eventually(lambda: number(catalog.CACHE_JOURNAL, namespace) == 1)
    own_redis.start()
    eventually(lambda: number(catalog.CACHE_BREAKER, namespace) == 0)


def test_redis_tells_of_itself(make: Make, shared_redis: RedisServer, namespace: str) -> None:
    cache = make(shared_redis.url)
    cache.get("k")
    eventually(lambda: number(catalog.CACHE_REDIS_MEMORY, namespace) > 100_000)
    eventually(lambda: 0 < number(catalog.CACHE_REDIS_LATENCY, namespace) < 5)
    assert number(catalog.CACHE_REDIS_EVICTED, namespace) == 0


def test_loads_and_outages_are_events_of_the_requests_span(
    own_redis: RedisServer, namespace: str, spans: Spans
) -> None:
    tracer = spans.provider.get_tracer("test")
    with Cache(own_redis.url, namespace=namespace) as cache:
        with tracer.start_as_current_span("request") as span:
            cache.get_or_set("k", lambda: 1, group="menu")
            cache.get("k", group="menu")
            own_redis.kill()
            cache.get("k")
        assert trace.get_current_span() is not span
    events = [(event.name, dict(event.attributes or {})) for event in spans.named("request")[0].events]
    assert [name for name, _ in events] == ["cache.load", "cache.error"]
    assert events[0][1]["restaurant.cache.group"] == "menu"
    assert events[1][1]["error.type"] == "ConnectionError"


def test_the_old_cache_manager_still_answers_to_its_names(own_redis: RedisServer) -> None:
    with CacheManager("127.0.0.1", own_redis.port, 0, None) as manager:
        assert manager.set("user:1", {"name": "Kim"}, expire=60)
        assert manager.get("user:1") == {"name": "Kim"}

        @manager.cache_result(expire=60, key_prefix="staff")
        def staff(branch: int) -> list[int]:
            return [branch]

        assert staff(1) == staff(1) == [1]
        manager.clear_pattern("user:*")
        assert manager.get("user:1") is None
        stats = manager.get_stats()
        assert (stats["hits"], stats["misses"]) == (2, 2)
        assert stats["hit_ratio"] == 0.5
        assert stats["groups"]["staff"]["hits"] == 1
