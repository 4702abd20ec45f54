"""Every query told once, whatever it is, on every database and driver."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import httpx
import pytest
import sqlalchemy as sa
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import orm
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from restaurant_otel import instrument, sql, uninstrument
from tests.sql.conftest import PASSWORD, Database, Request, Told, stream_rows, users
from tests.support.spans import Spans


class Base(orm.declarative_base()):  # type: ignore[misc]
    __tablename__ = "users"
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String(80))


def insert_one(connection):
    connection.execute(users.insert(), {"name": "Ada"})


def insert_batch(connection):
    connection.execute(users.insert(), [{"name": "Ada"}, {"name": "Bob"}, {"name": "Eve"}])


def select_rows(connection):
    return connection.execute(sa.select(users).where(users.c.name == "Ada")).fetchall()


def select_text(connection):
    return connection.execute(
        sa.text("SELECT name FROM users WHERE name = 'Ada' AND id > :low"), {"low": 0}
    ).all()


def select_by_driver_sql(connection):
    return connection.exec_driver_sql("/* hello */ SELECT id FROM users").fetchall()


def select_in_chunks(connection):
    streaming = connection.execution_options(stream_results=True, yield_per=2)
    return [row for part in streaming.execute(sa.select(users)).partitions(2) for row in part]


def select_nothing(connection):
    return connection.execute(sa.select(users).where(users.c.id.in_([]))).fetchall()


def update(connection):
    connection.execute(users.update().values(name="Eve").where(users.c.name == "Ada"))


def delete(connection):
    connection.execute(users.delete().where(users.c.id.in_([1, 2, 3])))


def create_index(connection):
    connection.execute(sa.DDL("CREATE INDEX by_name ON users (name)"))


@pytest.mark.parametrize(
    ("work", "name", "operation", "collection"),
    [
        (insert_one, "INSERT users", "INSERT", "users"),
        (insert_batch, "BATCH INSERT users", "BATCH INSERT", "users"),
        (select_rows, "SELECT users", "SELECT", "users"),
        (select_text, "SELECT users", "SELECT", "users"),
        (select_by_driver_sql, "SELECT users", "SELECT", "users"),
        (select_in_chunks, "SELECT users", "SELECT", "users"),
        (select_nothing, "SELECT users", "SELECT", "users"),
        (update, "UPDATE users", "UPDATE", "users"),
        (delete, "DELETE users", "DELETE", "users"),
        (create_index, "CREATE INDEX users", "CREATE", "users"),
    ],
)
def test_a_query_has_one_span_and_one_count(
    database: Database, told: Told, work, name, operation, collection
):
    database.run(work)
    assert told.names == [name]
    (span,) = told.spans
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes["db.query.summary"] == name
    assert span.attributes["db.operation.name"] == operation
    assert span.attributes["db.collection.name"] == collection
    assert told.count() == 1
    assert told.count(db_operation_name=operation, db_collection_name=collection) == 1


def test_the_database_is_told_by_the_conventions(database: Database, told: Told):
    database.run(select_rows)
    (span,) = told.spans
    expected = {"db.system.name": database.system}
    if database.system == "sqlite":
        expected["db.namespace"] = "guests.db"
    else:
        expected |= {
            "db.namespace": "postgres",
            "server.address": "127.0.0.1",
            "server.port": database.url.port,
        }
    known = {key: span.attributes.get(key) for key in expected}
    assert known == expected
    (labels,) = told.series()
    assert labels == {
        "db_system_name": expected["db.system.name"],
        "db_namespace": expected["db.namespace"],
        "db_operation_name": "SELECT",
        "db_collection_name": "users",
        "db_query_summary": "SELECT users",
    }


def test_many_rows_in_one_statement_are_no_batch(database: Database, told: Told):
    rows = [{"name": f"guest {n}"} for n in range(2_500)]
    database.run(lambda connection: connection.execute(users.insert().returning(users.c.id), rows).fetchall())
    # SQLAlchemy cuts them into statements of its own choice: each is one query.
    assert len(told.spans) == told.count() > 1
    for span in told.spans:
        assert span.attributes["db.operation.name"] == "INSERT"
        assert "db.operation.batch.size" not in span.attributes
        assert len(span.attributes["db.query.text"]) < 1_000


def test_a_batch_says_its_size(database: Database, told: Told):
    database.run(insert_batch)
    database.run(lambda connection: connection.execute(users.insert(), [{"name": "Ada"}]))
    sizes = [span.attributes.get("db.operation.batch.size") for span in told.spans]
    assert sizes == [3, None]


def test_a_failed_query_is_an_error_by_type_and_code(database: Database, told: Told):
    def insert_twice(connection):
        connection.execute(users.insert(), {"id": 7, "name": "Ada"})
        connection.execute(users.insert(), {"id": 7, "name": "Bob"})

    with pytest.raises(sa.exc.IntegrityError):
        database.run(insert_twice)
    good, bad = told.spans
    kind, code = {
        "pysqlite": ("IntegrityError", "SQLITE_CONSTRAINT_PRIMARYKEY"),
        "aiosqlite": ("IntegrityError", "SQLITE_CONSTRAINT_PRIMARYKEY"),
        "psycopg": ("UniqueViolation", "23505"),
        "asyncpg": ("UniqueViolationError", "23505"),
    }[database.driver]
    assert good.status.status_code is StatusCode.UNSET
    assert bad.status.status_code is StatusCode.ERROR
    assert bad.status.description == f"{kind} ({code})"
    assert bad.attributes["error.type"] == kind
    assert bad.attributes["db.response.status_code"] == code
    assert not bad.events, "an exception event would carry the message, which quotes values"
    assert told.count() == 2
    assert told.count(error_type=kind) == 1


def test_transactions_savepoints_and_sessions(database: Database, told: Told):
    def with_session(connection):
        with orm.Session(bind=connection) as session:
            with session.begin_nested():
                session.add(Base(name="Ada"))
            session.query(Base).filter_by(name="Ada").all()

    database.run(with_session)
    assert [name.partition(" ")[0] for name in told.names] == ["SAVEPOINT", "INSERT", "RELEASE", "SELECT"]
    assert told.count() == 4


def test_autocommit(database: Database, told: Told):
    database.run(insert_one, isolation_level="AUTOCOMMIT")
    assert told.names == ["INSERT users"]
    assert told.count() == 1


@pytest.mark.parametrize("database", ["aiosqlite", "asyncpg"], indirect=True)
def test_an_async_stream_is_one_query(database: Database, told: Told):
    database.run(insert_batch)
    told.clear()

    assert asyncio.run(stream_rows(database, sa.select(Base))) == 3
    assert told.names == ["SELECT users"]
    assert told.count() == 1


# --- whose child, which route, which trace -----------------------------------------------------------


def test_the_span_is_a_child_of_the_current_one_and_nothing_stays_attached(
    database: Database, told: Told, spans: Spans
):
    tracer = spans.provider.get_tracer("tests")
    with tracer.start_as_current_span("request") as request:

        def work(connection):
            insert_one(connection)
            assert trace.get_current_span() is request
            select_rows(connection)

        database.run(work)
    assert trace.get_current_span() is trace.INVALID_SPAN
    children = [span for span in told.spans if span.kind is SpanKind.CLIENT]
    assert [span.parent.span_id for span in children] == [request.get_span_context().span_id] * 2


def test_a_query_is_counted_for_the_route_that_asked(database: Database, told: Told):
    with Request("/guests/{id}"):
        database.run(select_rows)
    database.run(select_rows)
    assert told.count(http_route="/guests/{id}") == 1
    assert told.count() == 2


def test_the_request_learns_how_long_its_queries_took(database: Database, told: Told):
    with Request("/guests") as request:
        database.run(insert_one)
        database.run(select_rows)
    assert [phase for phase, _ in request.timings] == ["db", "db"]
    assert all(0 < seconds < 60 for _, seconds in request.timings)


def test_in_an_app_the_query_belongs_to_the_request(told: Told, spans: Spans, tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/guests.db")

    def guests(request):
        with engine.connect() as connection:
            return PlainTextResponse(str(connection.execute(sa.text("SELECT 42")).scalar()))

    async def ask(app) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.get("/guests/7")

    app = Starlette(routes=[Route("/guests/{id}", guests)])
    instrument(app, tracer_provider=spans.provider, server_timing=True)
    try:
        response = asyncio.run(ask(app))
    finally:
        uninstrument(app)
        engine.dispose()
    assert response.text == "42"
    assert "db;dur=" in response.headers["server-timing"]
    (query,), server = spans.of_kind(SpanKind.CLIENT), spans.server()
    assert query.parent.span_id == server.context.span_id
    assert told.count(http_route="/guests/{id}") == told.count() == 1


def test_the_trace_is_kept_as_an_exemplar(database: Database, told: Told, added: Callable):
    database.run(select_rows)
    (span,) = told.spans
    exemplars = [value for (name, _), value in added().exemplars.items() if name.startswith("db_client_")]
    assert {
        "trace_id": f"{span.context.trace_id:032x}",
        "span_id": f"{span.context.span_id:016x}",
    } in exemplars


def test_a_slow_query_leaves_its_exemplar_whatever_came_just_before(told: Told, added: Callable):
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        connection.connection.driver_connection.create_function("rest", 1, time.sleep)
        for seconds in (0, 0, 0.06, 0):
            connection.execute(sa.text("SELECT rest(:seconds)"), {"seconds": seconds})
    traces = [f"{span.context.trace_id:032x}" for span in told.spans]
    held = [
        value["trace_id"] for (name, _), value in added().exemplars.items() if name.startswith("db_client_")
    ]
    assert traces[2] in held
    assert traces[3] not in held


def test_queries_are_counted_when_nothing_is_sampled(database: Database, told: Told):
    sql.uninstall()
    unsampled = Spans(ALWAYS_OFF)
    sql.install(tracer=lambda: unsampled.provider.get_tracer("tests"))
    database.run(insert_batch)
    assert unsampled.all() == told.spans == []
    assert told.count() == 1


def test_queries_are_counted_without_spans(database: Database, told: Told, spans: Spans):
    sql.uninstall()
    sql.install(tracer=lambda: spans.provider.get_tracer("tests"), enabled_spans=False)
    database.run(insert_batch)
    assert told.spans == []
    assert told.count() == 1


def test_nothing_is_told_where_instrumentation_is_suppressed(database: Database, told: Told):
    with suppress_instrumentation():
        database.run(select_rows)
    assert told.spans == []
    assert told.count() == 0


# --- nothing of the values ---------------------------------------------------------------------------


def test_no_value_no_literal_and_no_password_is_told(database: Database, told: Told):
    secret = "s3cr3t-value"

    def work(connection):
        connection.execute(users.insert(), {"id": 90210, "name": secret})
        connection.execute(users.insert(), [{"name": f"{secret} {n}"} for n in range(3)])
        connection.execute(users.select().where(users.c.name == secret)).fetchall()
        connection.execute(sa.text(f"SELECT * FROM users WHERE name = '{secret}' OR id = 90210")).fetchall()
        connection.execute(sa.select(users).where(users.c.name.in_([secret, "x"]))).fetchall()
        connection.execute(sa.select(sa.literal(secret, literal_execute=True))).fetchall()

    def failing(connection):
        # The messages of both databases quote the values they object to.
        connection.execute(
            sa.text(f"SELECT * FROM users WHERE {secret.replace('-', '_')} = CAST('{secret}' AS int)")
        )

    def violating(connection):
        connection.execute(users.insert(), {"id": 90210, "name": secret})

    database.run(work)
    for fails in (failing, violating):
        with pytest.raises(sa.exc.DBAPIError):
            database.run(fails)
    told_of = told.everything()
    assert len(told.spans) == told.count() == 8
    for hidden in (secret, "90210", PASSWORD, "x'"):
        assert hidden not in told_of
