"""The recording rules, by subject. Their names are what dashboards and alerts ask for.

A name says of what, what, and how: ``service_route:http_duration_seconds:p95_5m``. A *service* is what the labels of
`Options.by` tell apart (``job``, unless told otherwise). Series of the OpenTelemetry conventions before 1.23
(``http_server_duration_milliseconds``) are read where a service has none of the stable ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from restaurant_otel import catalog
from restaurant_otel.rules.expressions import (
    DB,
    POOL_COUNT,
    POOL_MAX,
    QUERY,
    failures,
    lookups,
    mean_seconds,
    quantile_seconds,
    requests,
    slow,
)
from restaurant_otel.rules.model import Group, Rule
from restaurant_otel.rules.options import Options, name_of, number
from restaurant_otel.rules.performance import performance, routes_of

SLO_WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


def groups(o: Options) -> list[Group]:
    """All recording rules."""
    return [
        Group("restaurant-otel-http", list(_http(o))),
        Group("restaurant-otel-slo", list(_slo(o))),
        Group("restaurant-otel-database", list(_database(o))),
        Group("restaurant-otel-cache", list(_cache(o))),
        Group("restaurant-otel-resources", list(_resources(o))),
        Group("restaurant-otel-score", list(performance(o))),
    ]


# --- HTTP: rate, errors, duration -------------------------------------------------------------------------


def _http(o: Options) -> Iterator[Rule]:
    for level, by in (("service", ()), ("service_route", ("http_route",)), ("instance", ("instance",))):
        yield Rule(f"{level}:http_requests:rate5m", requests(o, "5m", *by))
        yield Rule(f"{level}:http_failures:rate5m", failures(o, "5m", *by))
        yield Rule(
            f"{level}:http_failures:ratio5m",
            f"({level}:http_failures:rate5m / {level}:http_requests:rate5m) >= 0",
        )
        yield Rule(f"{level}:http_duration_seconds:mean5m", mean_seconds(o, "5m", *by))
        for percent in (50, 95, 99):
            yield Rule(
                f"{level}:http_duration_seconds:p{percent}_5m", quantile_seconds(o, percent / 100, "5m", *by)
            )
    active = name_of(catalog.HTTP_SERVER_ACTIVE_REQUESTS)
    yield Rule("service:http_active_requests:sum", f"sum by ({o.labels()}) ({o.series(active)})")


# --- service level objectives -----------------------------------------------------------------------------


def _slo(o: Options) -> Iterator[Rule]:
    """Shares of bad requests over each window, and what is left of the budget."""
    for window in SLO_WINDOWS:
        yield Rule(f"service:http_requests:slo_rate{window}", requests(o, window))
        for slo in o.objectives.slos:
            if slo.seconds is None:
                bad = failures(o, window)
            else:  # streams that the component leaves out are not late
                bad = slow(o, window, slo.seconds, *routes_of(o.objectives["api"]))
            yield Rule(f"service_slo:bad:rate{window}", bad, {"slo": slo.name})
            labels = o.labels()
            yield Rule(
                f"service_slo:errors:ratio{window}",
                f'(service_slo:bad:rate{window}{{slo="{slo.name}"}} / on ({labels}) group_left () '
                f"service:http_requests:slo_rate{window}) >= 0",
                {"slo": slo.name},
            )
    for slo in o.objectives.slos:
        yield Rule(
            "service_slo:target:ratio",
            f"0 * service:http_requests:slo_rate1h + {number(slo.target)}",
            {"slo": slo.name},
        )
    month = o.time("30d")
    bad = f"sum by ({o.labels('slo')}) (sum_over_time(service_slo:bad:rate5m[{month}]))"
    every = f"sum by ({o.labels()}) (sum_over_time(service:http_requests:slo_rate5m[{month}]))"
    share = f"({bad} / on ({o.labels()}) group_left () {every}) >= 0"
    yield Rule(
        "service_slo:budget_remaining:ratio30d",
        f"1 - ({share}) / on ({o.labels('slo')}) (1 - service_slo:target:ratio)",
    )


# --- the database -----------------------------------------------------------------------------------------


def _database(o: Options) -> Iterator[Rule]:
    for level, by in (
        ("service", ()),
        ("service_route", ("http_route",)),
        ("service_operation", ("db_operation_name", "db_collection_name")),
    ):
        labels = o.labels(*by)
        total = f"sum by ({labels}) ({o.rate(f'{DB}_sum', '5m')})"
        count = f"sum by ({labels}) ({o.rate(f'{DB}_count', '5m')})"
        yield Rule(f"{level}:db_operations:rate5m", count)
        yield Rule(f"{level}:db_seconds:rate5m", total)
        yield Rule(
            f"{level}:db_operation_seconds:mean5m",
            f"({level}:db_seconds:rate5m / {level}:db_operations:rate5m) >= 0",
        )
        bucket = f"sum by ({labels}, le) ({o.rate(f'{DB}_bucket', '5m')})"
        yield Rule(f"{level}:db_operation_seconds:p95_5m", f"histogram_quantile(0.95, {bucket}) >= 0")
    failed = o.rate(f"{DB}_count", "5m", 'error_type!=""')
    yield Rule(
        "service:db_failures:rate5m", f"sum by ({o.labels()}) ({failed}) or 0 * service:db_operations:rate5m"
    )
    yield Rule(
        "service_route:db_operations_per_request:ratio5m",
        "(service_route:db_operations:rate5m / service_route:http_requests:rate5m) >= 0",
    )
    statement = o.labels("db_query_summary")
    for end, name in (("count", "db_queries"), ("sum", "db_query_seconds")):
        yield Rule(
            f"service_statement:{name}:rate5m", f"sum by ({statement}) ({o.rate(f'{QUERY}_{end}', '5m')})"
        )
    yield Rule(
        "service_statement:db_query_seconds:mean5m",
        "(service_statement:db_query_seconds:rate5m / service_statement:db_queries:rate5m) >= 0",
    )
    pool = o.labels("db_client_connection_pool_name")
    here = o.labels("instance", "db_client_connection_pool_name")
    used = o.series(POOL_COUNT, 'db_client_connection_state="used"')
    most = o.series(POOL_MAX)
    yield Rule(  # of the fullest instance: one that is idle lends its connections to nobody
        "service_pool:db_connections:utilization",
        f"max by ({pool}) (sum by ({here}) ({used}) / sum by ({here}) ({most} > 0))",
    )


# --- the cache --------------------------------------------------------------------------------------------


def _cache(o: Options) -> Iterator[Rule]:
    for level, by in (
        ("service", ()),
        ("service_cache", ("restaurant_cache_name",)),
        ("service_cache_group", ("restaurant_cache_name", "restaurant_cache_group")),
        ("service_cache_tier", ("restaurant_cache_name", "restaurant_cache_tier")),
    ):
        yield Rule(f"{level}:cache_lookups:rate5m", lookups(o, "5m", *by))
        yield Rule(
            f"{level}:cache_hits:rate5m",
            f"{lookups(o, '5m', *by, answered=True)}\nor 0 * {level}:cache_lookups:rate5m",
        )
        yield Rule(
            f"{level}:cache_hits:ratio5m",
            f"({level}:cache_hits:rate5m / {level}:cache_lookups:rate5m) >= 0",
        )
    cache = o.labels("restaurant_cache_name")
    for metric, name in (
        (catalog.CACHE_EVICTIONS, "evictions"),
        (catalog.CACHE_ERRORS, "errors"),
    ):
        yield Rule(
            f"service_cache:cache_{name}:rate5m", f"sum by ({cache}) ({o.rate(name_of(metric), '5m')})"
        )
    yield Rule(
        "service_cache:redis_evicted:rate5m",
        f"max by ({cache}) (deriv({o.series(name_of(catalog.CACHE_REDIS_EVICTED))}[{o.time('5m')}])) >= 0",
    )


# --- resources --------------------------------------------------------------------------------------------


def _resources(o: Options) -> Iterator[Rule]:
    instance, worker = o.labels("instance"), o.labels("instance", "worker")
    cpu, memory = (
        o.series(name_of(catalog.CPU_UTILIZATION)),
        o.series(name_of(catalog.MEMORY_UTILIZATION)),
    )
    five = o.time("5m")
    yield Rule("instance:cpu_utilization:avg5m", f"max by ({instance}) (avg_over_time({cpu}[{five}]))")
    yield Rule("instance:memory_utilization:max", f"max by ({instance}) ({memory})")
    process = o.series(name_of(catalog.PROCESS_MEMORY_USAGE))
    yield Rule(
        "instance_worker:process_memory_bytes:min30m",
        f"max by ({worker}) (min_over_time({process}[{o.time('30m')}]))",
    )
    yield Rule(
        "instance:process_memory_limit_bytes:min",
        f"min by ({instance}) ({o.series(name_of(catalog.PROCESS_MEMORY_LIMIT))})",
    )
    open_files, most = (
        o.series(name)
        for name in (
            name_of(catalog.PROCESS_FILE_DESCRIPTORS),
            name_of(catalog.PROCESS_FILE_DESCRIPTOR_LIMIT),
        )
    )
    yield Rule(
        "instance_worker:file_descriptors:utilization",
        f"max by ({worker}) ({open_files}) / max by ({worker}) ({most} > 0)",
    )
    disk = o.labels("instance", "system_filesystem_mountpoint")
    filesystem = o.series(name_of(catalog.SYSTEM_FILESYSTEM_UTILIZATION))
    yield Rule("instance_disk:filesystem:utilization", f"max by ({disk}) ({filesystem})")
    for name, level in (
        (name_of(catalog.EVENT_LOOP_LAG), "event_loop_lag_seconds"),
        (name_of(catalog.HTTP_SERVER_QUEUE_DURATION), "http_queue_seconds"),
        (name_of(catalog.GC_PAUSE_DURATION), "gc_pause_seconds"),
    ):
        bucket = f"sum by ({instance}, le) ({o.rate(f'{name}_bucket', '5m')})"
        yield Rule(f"instance:{level}:p99_5m", f"histogram_quantile(0.99, {bucket}) >= 0")
    pool = o.labels("instance", "restaurant_thread_pool_name")
    busy = o.series(name_of(catalog.THREAD_POOL_UTILIZATION))
    yield Rule("instance_pool:thread_pool:utilization", f"max by ({pool}) ({busy})")
    starts = o.series(name_of(catalog.WORKER_STARTS))
    yield Rule(
        "instance:worker_starts:increase15m", f"sum by ({instance}) (increase({starts}[{o.time('15m')}]))"
    )
