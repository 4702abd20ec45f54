"""Database: which statements and routes take the time, N+1, slow queries, the pool, and where the advice is."""

from __future__ import annotations

from typing import Final

from dashboards.src.grafana.board import Board, Section, labels_variable
from dashboards.src.grafana.panels import (
    NEUTRAL,
    NONE_IS_GOOD,
    ON,
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
    text_panel,
)
from dashboards.src.grafana.places import to
from dashboards.src.grafana.queries import DB, HTTP, busiest, mean, quantile, rate, ratio, series, total
from restaurant_otel import catalog
from restaurant_otel.rules.options import name_of

_ROUTE: Final = 'http_route=~"$route"'
_ALL: Final = total(DB, "", _ROUTE, end="_count")
_QUERY: Final = name_of(catalog.DB_QUERY_DURATION)
_N_PLUS_ONE: Final = name_of(catalog.DB_N_PLUS_ONE)
_SLOW: Final = name_of(catalog.DB_SLOW_QUERIES)
_POOL: Final = "db_client_connection_pool_name"
_EACH: Final = Steps("green", ((8, "orange"), (20, "red")))
"""Queries that one request makes: more than a page's worth of relationships is rarely meant."""

_FAILED: Final = Steps("green", ((0.01, "orange"), (0.05, "red")))

_STATS: Final = (
    stat_panel("Queries", _ALL, unit="ops", size=(4, 4), description=about("Statements a second.")),
    stat_panel(
        "Mean time",
        mean(DB, "", _ROUTE),
        unit="s",
        colours=steps_of("database"),
        size=(4, 4),
        description=about("Mean time of a statement.", component="database", runbooks=("slow-database",)),
    ),
    stat_panel(
        "Slowest 5 % above",
        quantile(0.95, DB, "", _ROUTE),
        unit="s",
        colours=steps_of("database"),
        size=(4, 4),
        description=about(
            "The time that a twentieth of the statements exceeds.",
            component="database",
            runbooks=("slow-database",),
        ),
    ),
    stat_panel(
        "Queries a request",
        f"{_ALL} / {total(HTTP, '', _ROUTE, end='_count')}",
        unit="none",
        decimals=1,
        colours=_EACH,
        size=(4, 4),
        description=about("Statements that one request makes on average.", runbooks=("n-plus-one",)),
    ),
    stat_panel(
        "Failed",
        ratio(total(DB, "", _ROUTE, 'error_type!=""', end="_count"), _ALL),
        unit="percentunit",
        decimals=2,
        colours=_FAILED,
        size=(4, 4),
        description=about("Share of statements that raised an error.", runbooks=("slow-database",)),
    ),
    stat_panel(
        "N+1 a minute",
        f"60 * sum({rate(_N_PLUS_ONE, _ROUTE)}) or vector(0)",
        unit="none",
        decimals=1,
        colours=NONE_IS_GOOD,
        size=(4, 4),
        description=about(
            "Requests a minute in which one statement was repeated for each row of another.",
            runbooks=("n-plus-one",),
        ),
    ),
)

_BY_STATEMENT: Final = total(_QUERY, "db_query_summary", _ROUTE, end="_count")
_STATEMENTS: Final = table_panel(
    "Statements",
    [Label("Statement", "db_query_summary", wrap=True)],
    [
        Column("Queries", _BY_STATEMENT, "ops", width=100),
        Column("Mean", mean(_QUERY, "db_query_summary", _ROUTE), "s", colours=steps_of("database"), width=95),
        Column(
            "95 % below",
            quantile(0.95, _QUERY, "db_query_summary", _ROUTE),
            "s",
            colours=steps_of("database"),
            width=100,
        ),
        Column(
            "Share of all time",
            f"{total(_QUERY, 'db_query_summary', _ROUTE, end='_sum')} /"
            f" scalar(sum({rate(_QUERY, _ROUTE, end='_sum')}))",
            "percentunit",
            bar=True,
            top=1,
            decimals=0,
            width=160,
        ),
    ],
    sort="Share of all time",
    size=(14, 11),
    description=about(
        "A row for each statement's summary: what it does, to which tables. The largest share of all"
        " time is where an index or"
        " a better plan pays most.",
        component="database",
        runbooks=("slow-database",),
    ),
)
_ROUTES: Final = table_panel(
    "Routes",
    [
        Label(
            "Route",
            "http_route",
            link=to("restaurant-api", "This route", route="${__value.raw:percentencode}"),
        )
    ],
    [
        Column(
            "Queries each",
            f"{total(DB, 'http_route', _ROUTE, end='_count')} / {total(HTTP, 'http_route', _ROUTE, end='_count')}",
            "none",
            colours=_EACH,
            decimals=1,
            width=110,
        ),
        Column(
            "Share of its time",
            f"clamp_max({total(DB, 'http_route', _ROUTE, end='_sum')} /"
            f" {total(HTTP, 'http_route', _ROUTE, end='_sum')}, 1)",
            "percentunit",
            bar=True,
            top=1,
            decimals=0,
            width=140,
        ),
    ],
    sort="Queries each",
    size=(10, 11),
    description=about(
        "How many statements one request to a route makes, and how much of its time they take.",
        runbooks=("n-plus-one",),
    ),
)
_REPEATED: Final = table_panel(
    "N+1",
    [
        Label(
            "Route",
            "http_route",
            link=to("restaurant-api", "This route", route="${__value.raw:percentencode}"),
            wrap=True,
        ),
        Label("What is repeated", "restaurant_db_relationship", width=165, wrap=True),
    ],
    [
        Column(
            "A minute",
            f"60 * sum by (http_route, restaurant_db_relationship) ({rate(_N_PLUS_ONE, _ROUTE)}) > 0",
            "none",
            colours=NONE_IS_GOOD,
            decimals=1,
            width=95,
        )
    ],
    sort="A minute",
    no_value="none found",
    size=(9, 8),
    description=about(
        "Requests in which one statement was repeated for each row of another: the relationship to load at once"
        " (selectinload, joinedload), or the statement to batch.",
        runbooks=("n-plus-one",),
    ),
)
_SLOW_TABLE: Final = table_panel(
    "Slow queries",
    [
        Label(
            "Route",
            "http_route",
            link=to("restaurant-api", "This route", route="${__value.raw:percentencode}"),
            wrap=True,
        ),
        Label("Statement", "db_query_summary", wrap=True),
    ],
    [
        Column(
            "A minute",
            f"60 * sum by (http_route, db_query_summary) ({rate(_SLOW, _ROUTE)}) > 0",
            "none",
            colours=NONE_IS_GOOD,
            decimals=1,
            width=95,
        )
    ],
    sort="A minute",
    no_value="none",
    size=(9, 8),
    description=about(
        "Statements that took longer than the setting for slow queries, which are logged with their plan.",
        runbooks=("slow-database",),
    ),
)

_GRAPHS: Final = (
    graph_panel(
        "Time by table",
        [
            Query(
                busiest(
                    8,
                    total(DB, "db_operation_name, db_collection_name", _ROUTE, end="_sum"),
                    "db_operation_name, db_collection_name",
                    DB,
                    _ROUTE,
                    end="_sum",
                ),
                "{{db_operation_name}} {{db_collection_name}}",
            )
        ],
        unit="s",
        stacked=True,
        description=about("Seconds a second that statements take: 1 is one connection always busy."),
    ),
    graph_panel(
        "Time of statements",
        [
            Query(mean(DB, "", _ROUTE), "mean"),
            Query(quantile(0.95, DB, "", _ROUTE), "95 % below"),
            Query(quantile(0.99, DB, "", _ROUTE), "99 % below"),
        ],
        unit="s",
        colours=steps_of("database"),
        description=about("How long statements take.", component="database", runbooks=("slow-database",)),
    ),
)

_USED: Final = f'sum by ({_POOL}) (db_client_connection_count{{{ON}, db_client_connection_state="used"}})'
_FULL: Final = steps(0.7, 0.95)
_POOLS: Final = (
    bars_panel(
        "Pool in use",
        [Query(f"{_USED} / sum by ({_POOL}) (db_client_connection_max{{{ON}}} > 0)", f"{{{{{_POOL}}}}}")],
        unit="percentunit",
        decimals=0,
        colours=_FULL,
        size=(6, 8),
        long_names=True,
        description=about(
            "Connections in use, of those that there may be, in all workers.", runbooks=("pool-exhausted",)
        ),
    ),
    graph_panel(
        "Connections",
        [
            Query(
                f"sum by (db_client_connection_state) ({series('db_client_connection_count')})",
                "{{db_client_connection_state}}",
            ),
            Query(f"sum({series('db_client_connection_max')})", "limit"),
            Query(f"sum({series('db_client_connection_pending_requests')})", "waiting"),
        ],
        unit="none",
        size=(9, 8),
        series_colours={"limit": "red", "waiting": "orange", "used": NEUTRAL},
        description=about(
            "Connections of all pools and workers by state, their limit, and requests that wait for one.",
            runbooks=("pool-exhausted",),
        ),
    ),
    graph_panel(
        "Waiting for a connection",
        [
            Query(mean("db_client_connection_wait_time_seconds", ""), "waited, mean"),
            Query(quantile(0.95, "db_client_connection_wait_time_seconds", ""), "waited, 95 % below"),
            Query(mean("db_client_connection_use_time_seconds", ""), "held, mean"),
        ],
        unit="s",
        size=(9, 8),
        description=about(
            "How long requests wait for a connection, and how long they hold it.",
            runbooks=("pool-exhausted",),
        ),
    ),
)
_ADVICE: Final = text_panel(
    "Advice",
    "Which index would help, and what it would cost:\n\n`restaurant-otel advise --database-url URL`\n\n"
    "It reads the statements from the app, asks the database's own planner, and changes nothing."
    "\n\nWhat one request does is in its trace: choose a route on the API dashboard, then a dot.",
    description="Where the advice on indexes comes from.",
    size=(6, 8),
)

BOARD: Final = Board(
    "restaurant-database",
    "Restaurant: database",
    "Which statements and routes take the time, N+1, slow queries, the connection pool.",
    (
        Section("", _STATS),
        Section("Who takes the time", (_STATEMENTS, _ROUTES, *_GRAPHS)),
        Section("N+1, slow queries, advice", (_REPEATED, _SLOW_TABLE, _ADVICE)),
        Section("Connection pool", _POOLS),
    ),
    variables=(
        labels_variable(
            "route",
            "Route",
            f'label_values({DB}_count{{job=~"$job", instance=~"$instance"}}, http_route)',
            description="Routes whose statements are shown. All includes statements outside of requests.",
            every=".*",
        ),
    ),
)
