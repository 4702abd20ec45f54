"""Databases: what queries cost, which repeat, which are slow, and how connections are shared."""

from __future__ import annotations

from typing import Final

from restaurant_otel.catalog.metric import QUERY_SECONDS, Kind, Metric

DB_CLIENT_OPERATION_DURATION: Final = Metric(
    "db.client.operation.duration",
    "s",
    Kind.HISTOGRAM,
    "Time a statement took to execute, without fetching its rows.",
    (
        "db.system.name",
        "db.operation.name",
        "db.collection.name",
        "db.namespace",
        "http.route",
        "error.type",
        "db.query.summary",
    ),
    QUERY_SECONDS,
)

DB_QUERY_DURATION: Final = Metric(
    "restaurant.db.query.duration",
    "s",
    Kind.HISTOGRAM,
    "The same by statement: the query book's numbers. A statement that got no place is `other`.",
    ("restaurant.db.query.fingerprint", "db.query.summary", "http.route"),
    QUERY_SECONDS,
)

DB_QUERY_RETURNED_ROWS: Final = Metric(
    "restaurant.db.query.returned_rows",
    "{row}",
    Kind.COUNTER,
    "Rows that statements returned, where that is known.",
    ("restaurant.db.query.fingerprint", "db.query.summary", "http.route"),
)

DB_QUERY_FETCH_DURATION: Final = Metric(
    "restaurant.db.query.fetch.duration",
    "s",
    Kind.HISTOGRAM,
    "Time spent fetching a result's rows after its statement was executed.",
    ("db.query.summary", "http.route"),
    QUERY_SECONDS,
)

DB_N_PLUS_ONE: Final = Metric(
    "restaurant.db.n_plus_one",
    "{request}",
    Kind.COUNTER,
    "Requests in which one statement was repeated too often, by the relationship it loads or what it does.",
    ("http.route", "restaurant.db.relationship"),
)

DB_N_PLUS_ONE_QUERIES: Final = Metric(
    "restaurant.db.n_plus_one.queries",
    "{query}",
    Kind.COUNTER,
    "Queries that such requests made for it.",
    ("http.route", "restaurant.db.relationship"),
)

DB_SLOW_QUERIES: Final = Metric(
    "restaurant.db.slow_queries",
    "{query}",
    Kind.COUNTER,
    "Queries that took longer than their objective.",
    ("http.route", "db.query.summary"),
)

_POOL: Final = "db.client.connection.pool.name"
_WAIT_SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0)
_USE_SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0)

DB_CLIENT_CONNECTION_COUNT: Final = Metric(
    "db.client.connection.count",
    "{connection}",
    Kind.GAUGE,
    "Connections of a pool that are in use (`used`) and waiting for use (`idle`), as the pool says.",
    (_POOL, "db.client.connection.state"),
)

DB_CLIENT_CONNECTION_MAX: Final = Metric(
    "db.client.connection.max",
    "{connection}",
    Kind.GAUGE,
    "Connections that a pool may have at most, overflow included.",
    (_POOL,),
)

DB_CLIENT_CONNECTION_IDLE_MAX: Final = Metric(
    "db.client.connection.idle.max",
    "{connection}",
    Kind.GAUGE,
    "Connections that a pool keeps open at most.",
    (_POOL,),
)

DB_CLIENT_CONNECTION_PENDING_REQUESTS: Final = Metric(
    "db.client.connection.pending_requests",
    "{request}",
    Kind.GAUGE,
    "Callers that wait for a connection of a pool.",
    (_POOL,),
)

DB_CLIENT_CONNECTION_TIMEOUTS: Final = Metric(
    "db.client.connection.timeouts",
    "{timeout}",
    Kind.COUNTER,
    "Callers that got no connection of a pool in time.",
    (_POOL,),
)

DB_CLIENT_CONNECTION_WAIT_TIME: Final = Metric(
    "db.client.connection.wait_time",
    "s",
    Kind.HISTOGRAM,
    "Time it took to get a connection from a pool.",
    (_POOL,),
    _WAIT_SECONDS,
)

DB_CLIENT_CONNECTION_CREATE_TIME: Final = Metric(
    "db.client.connection.create_time",
    "s",
    Kind.HISTOGRAM,
    "Time it took to open a connection to the database.",
    (_POOL,),
    _WAIT_SECONDS,
)

DB_CLIENT_CONNECTION_USE_TIME: Final = Metric(
    "db.client.connection.use_time",
    "s",
    Kind.HISTOGRAM,
    "Time between borrowing a connection and returning it to its pool.",
    (_POOL,),
    _USE_SECONDS,
)
