"""Cache: what it saves, which keys miss, Redis and the breaker, and clearing it in one click."""

from __future__ import annotations

from typing import Final

from dashboards.src.grafana.board import Board, Section, text_variable
from dashboards.src.grafana.panels import (
    BAD,
    FAIR,
    GOOD,
    NONE_IS_GOOD,
    ActionColumn,
    Column,
    Label,
    Query,
    Steps,
    about,
    bars_panel,
    graph_panel,
    stat_panel,
    steps,
    steps_of,
    table_panel,
)
from dashboards.src.grafana.queries import busiest, mean, quantile, rate, series, total
from restaurant_otel import catalog

_NAME: Final = "restaurant_cache_name"
_GROUP: Final = "restaurant_cache_group"
_TIER: Final = "restaurant_cache_tier"
_BREAKER: Final = {"0": ("Redis", GOOD), "1": ("probing", FAIR), "2": ("memory only", BAD)}
_FULL: Final = steps(0.8, 0.95)


def _answered(by: str) -> str:
    hits, stale = total(catalog.CACHE_HITS, by), total(catalog.CACHE_STALE, by)
    return f"({hits} + ({stale} or {hits} * 0))"


def _lookups(by: str) -> str:
    answered, misses = _answered(by), total(catalog.CACHE_MISSES, by)
    return f"({answered} + ({misses} or {answered} * 0) or {misses})"


def _hit_ratio(by: str) -> str:
    answered = f"({_answered(by)} or {total(catalog.CACHE_MISSES, by)} * 0)"
    return f"{answered} / {_lookups(by)}"


_STATS: Final = (
    stat_panel(
        "Hits",
        _hit_ratio(""),
        unit="percentunit",
        decimals=1,
        colours=steps_of("cache"),
        size=(4, 4),
        description=about(
            "Share of lookups that were answered, stale values included.",
            component="cache",
            runbooks=("cache-hits-low",),
        ),
    ),
    stat_panel("Lookups", _lookups(""), unit="ops", size=(4, 4), description=about("Lookups a second.")),
    stat_panel(
        "Serving from",
        f"max({series(catalog.CACHE_BREAKER)})",
        unit="none",
        trend=False,
        mappings=_BREAKER,
        colours=Steps(GOOD, ((1, FAIR), (2, BAD))),
        background=True,
        size=(4, 4),
        description=about(
            "Whether Redis is used, or memory instead while Redis is away (the breaker is open).",
            runbooks=("redis-away",),
        ),
    ),
    stat_panel(
        "Redis answers in",
        f"max({series(catalog.CACHE_REDIS_LATENCY)})",
        unit="s",
        colours=Steps(GOOD, ((0.01, FAIR), (0.1, BAD))),
        size=(4, 4),
        description=about("Round trip of the latest PING.", runbooks=("redis-away",)),
    ),
    stat_panel(
        "Errors",
        f"sum({rate(catalog.CACHE_ERRORS)}) or vector(0)",
        unit="cps",
        colours=NONE_IS_GOOD,
        size=(4, 4),
        description=about(
            "Calls to Redis that failed, and values that could not be stored, a second.",
            runbooks=("redis-away",),
        ),
    ),
    stat_panel(
        "Waiting for Redis",
        f"sum({series(catalog.CACHE_JOURNAL)})",
        unit="none",
        colours=NONE_IS_GOOD,
        size=(4, 4),
        description=about("Invalidations that will be made when Redis is back.", runbooks=("redis-away",)),
    ),
)

_GROUPS: Final = table_panel(
    "Groups of keys",
    [Label("Cache", _NAME, width=110), Label("Group", _GROUP)],
    [
        Column("Lookups", _lookups(f"{_NAME}, {_GROUP}"), "ops", width=100),
        Column(
            "Hits",
            _hit_ratio(f"{_NAME}, {_GROUP}"),
            "percentunit",
            colours=steps_of("cache"),
            bar=True,
            top=1,
            decimals=0,
            width=160,
        ),
        Column("Misses", total(catalog.CACHE_MISSES, f"{_NAME}, {_GROUP}"), "ops", width=110),
        Column(
            "Made in",
            f"{total(catalog.CACHE_LOAD_DURATION, f'{_NAME}, {_GROUP}', end='_sum')} /"
            f" {total(catalog.CACHE_LOAD_DURATION, f'{_NAME}, {_GROUP}', end='_count')}",
            "s",
            width=90,
        ),
    ],
    sort="Misses",
    size=(16, 8),
    description=about(
        "A group is the fixed beginning of a key's template. A group that misses much and is costly"
        " to make is where a longer"
        " expiry or an earlier refresh pays.",
        component="cache",
        runbooks=("cache-hits-low",),
    ),
)
_CLEAR: Final = table_panel(
    "Clear a cache",
    [Label("Cache", _NAME)],
    [
        Column(
            "Values",
            f'label_replace(sum by ({_NAME}) ({series(catalog.CACHE_ITEMS)}), "clear", "$1", "{_NAME}", "(.*)")',
            "short",
            decimals=0,
            width=80,
        )
    ],
    action=ActionColumn(
        "Clear",
        "clear",
        "Clear",
        "POST",
        "${admin_url}/cache/clear?name=${__data.fields.Cache}",
        "Clear the whole cache ${__data.fields.Cache}? Every value is made anew when it is next asked for.",
        asks={"token": "Token of the admin API (none behind a proxy that knows you)"},
        headers=(("Content-Type", "application/json"), ("Authorization", "Bearer $token")),
    ),
    sort="Values",
    size=(8, 8),
    description=about(
        "Values in memory, and a button that clears the cache in Redis and in every worker's memory."
        " The request goes from your"
        " browser to the admin API at the address in the field Admin API above, with the token"
        " that it asks you for: this"
        " dashboard holds none. At a terminal: `restaurant-otel cache clear`."
    ),
)
_TIERS: Final = (
    graph_panel(
        "Answered by",
        [
            Query(total(catalog.CACHE_HITS, _TIER), f"{{{{{_TIER}}}}}"),
            Query(f"sum({rate(catalog.CACHE_STALE)})", "stale"),
            Query(f"sum({rate(catalog.CACHE_MISSES)})", "missed"),
        ],
        unit="ops",
        stacked=True,
        size=(12, 8),
        series_colours={"missed": FAIR, "stale": "yellow", "memory": GOOD, "remote": "blue"},
        description=about(
            "Lookups a second, by the tier that answered: memory, Redis, a stale value, none.",
            component="cache",
            runbooks=("cache-hits-low",),
        ),
    ),
    graph_panel(
        "Hits by group",
        [Query(_hit_ratio(f"{_NAME}, {_GROUP}"), f"{{{{{_NAME}}}}} {{{{{_GROUP}}}}}")],
        unit="percentunit",
        most=1,
        colours=steps_of("cache"),
        size=(12, 8),
        description=about(
            "Share of lookups that were answered, by group of keys.",
            component="cache",
            runbooks=("cache-hits-low",),
        ),
    ),
    bars_panel(
        "Hits by tier",
        [
            Query(
                f"{total(catalog.CACHE_HITS, _TIER)} / ignoring ({_TIER}) group_left () {_lookups('')}",
                f"{{{{{_TIER}}}}}",
            )
        ],
        unit="percentunit",
        decimals=0,
        size=(8, 8),
        description=about("Share of all lookups that each tier answered with a fresh value."),
    ),
    graph_panel(
        "Making a value takes",
        [
            Query(
                busiest(
                    8,
                    mean(catalog.CACHE_LOAD_DURATION, _GROUP),
                    _GROUP,
                    catalog.CACHE_LOAD_DURATION,
                    end="_sum",
                ),
                f"{{{{{_GROUP}}}}}",
            )
        ],
        unit="s",
        size=(8, 8),
        description=about(
            "Mean time in which a missing or stale value is made: what a hit saves.",
            runbooks=("cache-hits-low",),
        ),
    ),
    graph_panel(
        "Evicted and waited",
        [
            Query(total(catalog.CACHE_EVICTIONS, ""), "evicted from memory"),
            Query(total(catalog.CACHE_COALESCED, ""), "waited for another's value"),
        ],
        unit="ops",
        size=(8, 8),
        description=about(
            "Values that left memory to make room, and lookups that waited for a value already being made.",
            runbooks=("cache-evictions",),
        ),
    ),
)
_REDIS: Final = (
    graph_panel(
        "Breaker",
        [Query(f"max by ({_NAME}) ({series(catalog.CACHE_BREAKER)})", f"{{{{{_NAME}}}}}")],
        unit="none",
        most=2,
        size=(8, 8),
        colours=Steps(GOOD, ((1, FAIR), (2, BAD))),
        description=about(
            "0: Redis is used. 1: it is being probed. 2: memory serves instead.", runbooks=("redis-away",)
        ),
    ),
    graph_panel(
        "Round trips to Redis",
        [
            Query(
                quantile(0.95, catalog.CACHE_OPERATION_DURATION, "restaurant_cache_operation"),
                "{{restaurant_cache_operation}}",
            )
        ],
        unit="s",
        size=(8, 8),
        description=about(
            "95 % of round trips take less than this, by what they are for.", runbooks=("redis-away",)
        ),
    ),
    graph_panel(
        "Errors",
        [Query(total(catalog.CACHE_ERRORS, "error_type"), "{{error_type}}")],
        unit="cps",
        size=(8, 8),
        description=about(
            "Failed calls to Redis, and values that could not be stored, by error.", runbooks=("redis-away",)
        ),
    ),
    bars_panel(
        "Redis memory",
        [
            Query(
                f"max by ({_NAME}) ({series(catalog.CACHE_REDIS_MEMORY)}) / max by ({_NAME})"
                f" ({series(catalog.CACHE_REDIS_MEMORY_LIMIT)})",
                f"{{{{{_NAME}}}}}",
            )
        ],
        unit="percentunit",
        decimals=0,
        colours=_FULL,
        size=(8, 6),
        long_names=True,
        description=about(
            "Memory that Redis uses, of its maxmemory. Beyond it Redis evicts or refuses.",
            runbooks=("cache-evictions",),
        ),
    ),
    graph_panel(
        "Redis memory over time",
        [
            Query(f"max by ({_NAME}) ({series(catalog.CACHE_REDIS_MEMORY)})", f"{{{{{_NAME}}}}} used"),
            Query(f"max by ({_NAME}) ({series(catalog.CACHE_REDIS_MEMORY_LIMIT)})", f"{{{{{_NAME}}}}} limit"),
        ],
        unit="bytes",
        size=(8, 6),
        description=about("As Redis says it.", runbooks=("cache-evictions",)),
    ),
    graph_panel(
        "In memory",
        [Query(f"sum by ({_NAME}) ({series(catalog.CACHE_BYTES)})", f"{{{{{_NAME}}}}}")],
        unit="bytes",
        size=(8, 6),
        description=about(
            "Encoded size of the values that all workers hold in their memory.", runbooks=("cache-evictions",)
        ),
    ),
)

BOARD: Final = Board(
    "restaurant-cache",
    "Restaurant: cache",
    "What the cache saves, which keys miss, Redis and the breaker, and clearing it.",
    (
        Section("", _STATS),
        Section("Groups", (_GROUPS, _CLEAR)),
        Section("Tiers", _TIERS),
        Section("Redis", _REDIS),
    ),
    variables=(
        text_variable(
            "admin_url",
            "Admin API",
            "/ops",
            description=(
                "Where the admin API is: a path under which Grafana's own address passes it"
                " on, or a full address."
            ),
        ),
    ),
)
