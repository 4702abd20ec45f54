"""What goes wrong elsewhere: interruptions, other people's listeners, forks, floods, missing packages."""

from __future__ import annotations

import asyncio
import gc
import inspect
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable, Iterator

import psycopg
import pytest
import sqlalchemy as sa
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import StatusCode
from sqlalchemy.ext.asyncio import create_async_engine

from restaurant_otel import catalog, sql
from restaurant_otel.sql import engines, stock
from tests.sql.conftest import Database, Postgres, Request, Told, cancel_query, users
from tests.sql.test_queries import insert_batch, insert_one, select_rows
from tests.support.spans import Spans
from tests.support.wait import eventually


def select_one(engine) -> None:
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))


async def select_one_async(engine) -> None:
    async with engine.connect() as connection:
        await connection.execute(sa.text("SELECT 1"))
    await engine.dispose()


@pytest.fixture
def make_engine() -> Iterator[Callable[..., sa.Engine]]:
    """`sa.create_engine`, its engines disposed of at the end."""
    made = []

    def make(url: str | sa.URL = "sqlite://", **options) -> sa.Engine:
        made.append(sa.create_engine(url, **options))
        return made[-1]

    yield make
    for engine in made:
        engine.dispose()


# --- queries that do not end as they should ----------------------------------------------------------


@pytest.mark.parametrize("database", ["psycopg", "asyncpg"], indirect=True)
def test_a_lost_connection_is_an_error(database: Database, told: Told, counting_starts):
    def lose(connection):
        connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(sa.exc.DBAPIError):
        database.run(lose)
    (span,) = told.spans
    assert span.status.status_code is StatusCode.ERROR
    assert told.count(error_type=span.attributes["error.type"]) == told.count() == len(counting_starts) == 1


@pytest.mark.parametrize(
    ("database", "endless"),
    [
        ("asyncpg", "SELECT pg_sleep(60)"),
        (
            "aiosqlite",
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000000) SELECT sum(i) FROM n",
        ),
    ],
    indirect=["database"],
)
def test_a_cancelled_task_ends_its_query(database: Database, told: Told, counting_starts, endless):
    asyncio.run(cancel_query(database, endless, lambda: counting_starts))
    (span,) = told.spans
    assert span.attributes["error.type"] == "CancelledError"
    assert told.count(error_type="CancelledError") == told.count() == len(counting_starts) == 1


@pytest.mark.parametrize("database", ["psycopg"], indirect=True)
def test_an_interrupted_query_ends(database: Database, told: Told, counting_starts):
    # By its text: what other tests gave up on may be asleep still.
    asleep = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query = 'SELECT pg_sleep(59)'"
    )

    def interrupt() -> None:
        # Once the server sleeps, this process waits for it, and nowhere else. Earlier, the interruption may hit a
        # place that swallows it, such as a comparison of keys in one of the driver's dicts.
        url = database.url.set(drivername="postgresql").render_as_string(False)
        # Autocommit: within one transaction, all looks at who is asleep would show what the first one saw.
        with psycopg.connect(url, autocommit=True) as other:
            eventually(lambda: other.execute(asleep).fetchone() == (1,))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        database.run(lambda connection: connection.execute(sa.text("SELECT pg_sleep(59)")))
    thread.join()
    (span,) = told.spans
    assert span.attributes["error.type"] == "KeyboardInterrupt"
    assert told.count(error_type="KeyboardInterrupt") == told.count() == len(counting_starts) == 1


def fail_quietly(engine) -> None:
    """A failure of which SQLAlchemy tells nobody: dialects probe for tables like this."""
    with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError):
        connection.execution_options(skip_user_error_events=True).execute(sa.text("SELECT * FROM nowhere"))


def fail_behind_a_handler_that_raises(engine) -> None:
    """A handler of the host's that keeps SQLAlchemy from calling those behind it."""

    @sa.event.listens_for(engine, "handle_error")
    def handler(context):
        raise RuntimeError("a handler of the host's")

    with engine.connect() as connection, pytest.raises(RuntimeError, match="a handler of the host's"):
        connection.execute(sa.text("SELECT * FROM nowhere"))


def fail_within_error_handling(engine) -> None:
    """An error that a handler of another error runs into, of which SQLAlchemy does not tell either."""

    @sa.event.listens_for(engine, "handle_error")
    def handler(context):
        if context.statement == "SELECT * FROM nowhere":
            with pytest.raises(sa.exc.DBAPIError):
                context.connection.exec_driver_sql("SELECT * FROM nowhere_else")

    with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError):
        connection.execute(sa.text("SELECT * FROM nowhere"))


@pytest.mark.parametrize(
    ("fail", "failures"),
    [(fail_quietly, 1), (fail_behind_a_handler_that_raises, 1), (fail_within_error_handling, 2)],
)
def test_a_failure_nobody_tells_of_still_ends_its_query(
    told: Told, counting_starts, fail, failures, make_engine
):
    fail(make_engine())
    assert len(told.spans) == len(counting_starts) == failures
    assert told.count(error_type="OperationalError") == told.count() == failures
    assert all(span.status.status_code is StatusCode.ERROR for span in told.spans)


@pytest.mark.parametrize(("stage", "executed"), [("before_cursor_execute", 0), ("after_cursor_execute", 1)])
def test_a_listener_of_the_hosts_that_raises_does_not_leak_a_query(
    told: Told, counting_starts, stage, executed, make_engine
):
    engine = make_engine()

    @sa.event.listens_for(engine, stage)
    def listener(*arguments):
        raise RuntimeError("a listener of the host's")

    with pytest.raises(RuntimeError, match="a listener of the host's"):
        select_one(engine)
    assert len(told.spans) == len(counting_starts) == told.count() == executed


# --- other listeners ---------------------------------------------------------------------------------


@pytest.mark.parametrize("event", ["do_execute", "do_executemany", "do_execute_no_params"])
@pytest.mark.parametrize("target", [sa.engine.Engine, "engine"], ids=["class", "engine"])
@pytest.mark.parametrize("when", ["before ours", "after ours"])
@pytest.mark.parametrize("executes", [True, False])
def test_other_listeners_that_execute_statements_keep_their_say(
    told: Told, spans: Spans, make_engine, event, target, when, executes
):
    engine = make_engine()
    calls = []

    def theirs(cursor, statement, *rest):
        calls.append(statement)
        if executes:
            cursor.execute("SELECT 'theirs' AS who")
        return executes

    where = engine if target == "engine" else target
    if when == "before ours":
        sql.uninstall()
    sa.event.listen(where, event, theirs)
    if when == "before ours":
        sql.install(tracer=lambda: spans.provider.get_tracer("tests"))
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("CREATE TABLE guests (name TEXT)")
            calls.clear()
            told.clear()
            if event == "do_executemany":
                connection.exec_driver_sql("INSERT INTO guests VALUES (?)", [("Ada",), ("Bob",)])
                answer = connection.exec_driver_sql("SELECT count(*) FROM guests").scalar()
                assert answer == (0 if executes else 2)
            else:
                run = connection.execution_options(no_parameters=event == "do_execute_no_params")
                answer = run.exec_driver_sql("SELECT 'ours' AS who").scalar()
                assert answer == ("theirs" if executes else "ours")
    finally:
        sa.event.remove(where, event, theirs)
    assert len(calls) == 1, "called exactly once"
    # A class's listener before ours that executes the statement itself leaves nothing to be told.
    told_of = told.count(db_operation_name="BATCH INSERT" if event == "do_executemany" else "SELECT")
    others = 1 if event == "do_executemany" else 0
    expected = 0 if executes and when == "before ours" and target != "engine" else 1
    assert told_of == expected
    assert told.count() == len(told.spans) == expected + others


@pytest.mark.parametrize("database", ["psycopg"], indirect=True)
def test_a_statement_on_behalf_of_another_is_told_as_itself(database: Database, told: Told):
    guests = sa.Table(
        "guests",
        sa.MetaData(),
        sa.Column("id", sa.Integer, sa.Sequence("guest_ids"), primary_key=True),
        implicit_returning=False,
    )

    def work(connection):
        guests.drop(connection, checkfirst=True)
        guests.create(connection)
        told.clear()
        connection.execute(guests.insert())

    database.run(work)
    assert [span.attributes["db.query.text"].partition("(")[0] for span in told.spans] == [
        "select nextval",
        "INSERT INTO guests ",
    ]


def test_comments_that_listeners_add_do_not_make_new_statements(told: Told, make_engine):
    engine = make_engine()
    numbers = itertools.count()

    @sa.event.listens_for(engine, "before_cursor_execute", retval=True)
    def comment(connection, cursor, statement, parameters, context, executemany):
        return f"{statement} /*traceparent='{next(numbers)}'*/", parameters

    with engine.connect() as connection:
        for _ in range(50):
            connection.execute(sa.text("SELECT 1"))
    assert told.count() == 50
    (observed,) = sql._observation._engines.values()
    assert list(observed.recent) == ["SELECT 1"]


# --- which engines -----------------------------------------------------------------------------------


def test_engines_made_before_and_after_sync_and_async(told: Told, spans: Spans, make_engine):
    sql.uninstall()
    before, before_async = make_engine(), create_async_engine("sqlite+aiosqlite://")
    sql.install(tracer=lambda: spans.provider.get_tracer("tests"))
    after, after_async = make_engine(), create_async_engine("sqlite+aiosqlite://")
    for engine in (before, after):
        select_one(engine)
    for engine in (before_async, after_async):
        asyncio.run(select_one_async(engine))
    assert told.names == ["SELECT"] * 4
    assert told.count() == 4


def test_a_connection_open_since_before(told: Told, spans: Spans, make_engine):
    sql.uninstall()
    with make_engine().connect() as connection:
        sql.install(tracer=lambda: spans.provider.get_tracer("tests"))
        connection.execute(sa.text("SELECT 1"))
    assert (told.names, told.count()) == (["SELECT"], 1)


def test_engines_derived_from_others_are_the_same_database(told: Told, make_engine):
    engine = make_engine()
    select_one(engine.execution_options(schema_translate_map={None: "main"}))
    select_one(engine.execution_options(isolation_level="AUTOCOMMIT"))
    assert (told.names, told.count()) == (["SELECT"] * 2, 2)


def test_shards_are_told_apart(told: Told, tmp_path, make_engine):
    for name in ("east.db", "west.db", "west.db"):
        select_one(make_engine(f"sqlite:///{tmp_path}/{name}"))
    assert told.count(db_namespace="east.db") == 1
    assert told.count(db_namespace="west.db") == 2
    assert [span.attributes["db.namespace"] for span in told.spans] == ["east.db", "west.db", "west.db"]


@pytest.mark.parametrize(
    ("url", "namespace"),
    [
        ("sqlite://", ":memory:"),
        ("sqlite:///:memory:", ":memory:"),
        ("sqlite:///file::memory:?cache=shared&uri=true", ":memory:"),
        ("sqlite:///file:shared?mode=memory&cache=shared&uri=true", ":memory:"),
        ("sqlite:///file:{folder}/guests.db?uri=true", "guests.db"),
    ],
)
def test_sqlite_names(told: Told, tmp_path, url, namespace, make_engine):
    select_one(make_engine(url.format(folder=tmp_path), poolclass=sa.StaticPool))
    assert told.count(db_namespace=namespace) == 1


@pytest.mark.parametrize("scheme", ["postgresql+psycopg://", "postgresql+psycopg_async://"])
def test_a_url_that_leaves_it_to_the_driver(told: Told, postgres: Postgres, monkeypatch, scheme, make_engine):
    url = sa.make_url(postgres.url("psycopg"))
    for name, value in {
        "HOST": url.host,
        "PORT": url.port,
        "USER": url.username,
        "PASSWORD": url.password,
    }.items():
        monkeypatch.setenv(f"PG{name}", str(value))
    if "async" in scheme:
        asyncio.run(select_one_async(create_async_engine(scheme)))
    else:
        select_one(make_engine(scheme))
    span = told.spans[-1]  # before it, the dialect asked the server what it is
    shown = {key: span.attributes[key] for key in ("db.namespace", "server.address", "server.port")}
    assert shown == {"db.namespace": "postgres", "server.address": url.host, "server.port": url.port}


def test_a_disposed_engine_works_on(told: Told, tmp_path, make_engine):
    engine = make_engine(f"sqlite:///{tmp_path}/guests.db")
    for _ in range(2):
        select_one(engine)
        engine.dispose()
    assert (told.names, told.count()) == (["SELECT"] * 2, 2)


def test_engines_are_not_kept_alive(told: Told):
    engine = sa.create_engine("sqlite://", poolclass=sa.NullPool)
    select_one(engine)
    gone = weakref.ref(engine.dialect)
    del engine
    gc.collect()
    assert gone() is None


def test_threads_lose_no_query(told: Told, tmp_path, make_engine):
    engine = make_engine(f"sqlite:///{tmp_path}/guests.db", pool_size=8)
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        with engine.connect() as connection:
            for n in range(50):
                connection.execute(sa.text(f"SELECT {n % 7} AS a{number}_{n}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told.spans) == told.count() == 400


def test_a_forked_worker_tells_its_own_queries(told: Told, tmp_path, make_engine):
    engine = make_engine(f"sqlite:///{tmp_path}/guests.db")
    select_one(engine)
    engine.dispose()
    told.clear()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            select_one(engine)
            select_one(make_engine())
            status = 0 if told.names == ["SELECT"] * 2 else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert told.spans == []


# --- contrib's own instrumentation -------------------------------------------------------------------


@pytest.fixture
def contrib(spans: Spans):
    """Contrib's instrumentor, as a host may run it; taken away at the end."""
    instrumentor = SQLAlchemyInstrumentor()
    yield lambda **options: instrumentor.instrument(
        tracer_provider=spans.provider, skip_dep_check=True, **options
    )
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


def of_queries(told: Told) -> list:
    return [span for span in told.spans if span.name != "connect"]


def test_beside_contrib_a_query_has_one_span_and_one_count(told: Told, contrib, make_engine):
    before = make_engine()
    select_one(before)
    contrib(engine=before)
    after = make_engine()
    for engine in (before, after, after.execution_options(isolation_level="AUTOCOMMIT")):
        told.clear()
        select_one(engine)
        (span,) = of_queries(told)
        assert span.instrumentation_scope.name.startswith("opentelemetry."), "theirs is left alone"
        assert told.count(db_operation_name="SELECT") == 1


def test_after_contrib_has_gone_ours_is_back(told: Told, contrib, make_engine):
    engine = make_engine()
    contrib(engine=engine)
    select_one(engine)
    SQLAlchemyInstrumentor().uninstrument()
    told.clear()
    select_one(engine)
    (span,) = told.spans
    assert span.instrumentation_scope.name == "tests"
    assert told.count() == 1


def test_an_engine_beside_one_that_contrib_watches(told: Told, spans: Spans, make_engine):
    from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
    from opentelemetry.metrics import NoOpMeter

    theirs, ours = make_engine(), make_engine()
    counter = NoOpMeter("tests").create_up_down_counter("connections")
    EngineTracer(spans.provider.get_tracer("theirs"), theirs, counter)
    try:
        select_one(theirs)
        select_one(ours)
    finally:
        EngineTracer.remove_all_event_listeners()
    assert [span.instrumentation_scope.name for span in told.spans] == ["theirs", "tests"]
    assert told.count() == 2


@pytest.fixture
def told_stock(told: Told, spans: Spans) -> Told:
    sql.uninstall()
    sql.install(tracer=lambda: spans.provider.get_tracer("tests"), stock_spans=True)
    return told


def test_stock_spans_are_contribs_but_end(database: Database, told_stock: Told, counting_starts):
    def work(connection):
        insert_batch(connection)
        connection.execute(sa.text("SELECT name FROM users WHERE name = 'Ada'"))
        connection.execute(sa.text("SELECT nothing"))

    with pytest.raises(sa.exc.DBAPIError):
        database.run(work)
    _, second, failed = told_stock.spans
    (contribs_name,) = {span.name.partition(" ")[2] for span in told_stock.spans}
    assert [span.name.partition(" ")[0] for span in told_stock.spans] == ["INSERT", "SELECT", "SELECT"]
    assert contribs_name in {"postgres", str(database.url.database), ""}
    assert "'Ada'" in (second.attributes.get("db.statement") or second.attributes["db.query.text"])
    assert failed.status.status_code is StatusCode.ERROR
    assert "nothing" not in failed.status.description
    assert len(counting_starts) == told_stock.count() == 3


def test_without_contribs_tracer_stock_spans_are_ours():
    code = """
        sys.modules["opentelemetry.instrumentation.sqlalchemy.engine"] = None
        sys.modules["opentelemetry.instrumentation.sqlalchemy"] = None
        (span,) = tell(stock_spans=True)
        print(span.name, span.attributes["db.system.name"])
    """
    assert run(code) == "SELECT sqlite_master sqlite"


def test_what_we_lean_on_in_contrib_is_there():
    # A span of contrib's is found by this name on the execution context; without it there would be two.
    assert "context._otel_span = span" in inspect.getsource(stock.EngineTracer._before_cur_exec)
    assert inspect.signature(stock.EngineTracer._before_cur_exec).bind(*range(7))
    assert inspect.signature(stock.EngineTracer).bind(*range(3))


# --- in a process of its own -------------------------------------------------------------------------


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error::ResourceWarning",
            "-c",
            textwrap.dedent(PRELUDE) + textwrap.dedent(code),
        ],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


PRELUDE = """
    import sys
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def tell(**options):
        from restaurant_otel import sql
        import sqlalchemy as sa
        sql.install(tracer=lambda: provider.get_tracer("tests"), **options)
        engine = sa.create_engine("sqlite://")
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT * FROM sqlite_master"))
        engine.dispose()
        return exporter.get_finished_spans()
"""


def test_without_sqlalchemy_nothing_happens():
    code = """
        sys.modules["sqlalchemy"] = None
        from restaurant_otel import sql
        sql.install(tracer=provider.get_tracer)
        sql.uninstall()
        print("fine")
    """
    assert run(code) == "fine"


@pytest.mark.parametrize("chosen", ["", "http", "database/dup", "nonsense"])
def test_the_conventions_are_stable_and_the_hosts_choice_is_not_touched(chosen):
    code = """
        from opentelemetry.instrumentation import _semconv
        (span,) = tell()
        print(sorted(key for key in span.attributes if key in {"db.system.name", "db.statement", "db.system"}))
        print(_semconv._OpenTelemetrySemanticConventionStability._initialized)
    """
    assert run(code, OTEL_SEMCONV_STABILITY_OPT_IN=chosen) == "['db.system.name']\nFalse"


def test_importing_starts_nothing_and_loads_no_sqlalchemy():
    code = """
        import threading
        import restaurant_otel.sql
        print("sqlalchemy" in sys.modules, threading.active_count())
    """
    assert run(code) == "False 1"


# --- installing --------------------------------------------------------------------------------------


def test_installing_twice_tells_once(told: Told, spans: Spans, make_engine):
    sql.install(tracer=lambda: spans.provider.get_tracer("again"))
    select_one(make_engine())
    assert (told.names, told.count()) == (["SELECT"], 1)


def test_uninstalling_leaves_nothing(told: Told, make_engine):
    engine = make_engine()
    select_one(engine)
    observation = weakref.ref(sql._observation)
    told.clear()
    sql.uninstall()
    sql.uninstall()
    gc.collect()
    assert observation() is None, "something still holds the listeners"
    select_one(engine)
    assert (told.spans, told.count()) == ([], 0)


def test_queries_are_counted_until_there_is_a_tracer(told: Told, spans: Spans, added, make_engine):
    answers = iter([RuntimeError("not yet"), None, spans.provider.get_tracer("tests")])

    def tracer():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    sql.uninstall()
    sql.install(tracer=tracer)
    engine = make_engine()
    for _ in range(5):
        select_one(engine)
    assert len(told.spans) == 3
    assert told.count() == 5
    assert added().total("restaurant_telemetry_errors_total", restaurant_telemetry_part="sql") == 1


# --- a host's telemetry that fails -------------------------------------------------------------------


class Broken(Sampler, SpanProcessor):
    """A sampler and a processor of the host's that raise."""

    def should_sample(self, *arguments, **options):
        raise RuntimeError("a sampler of the host's")

    def get_description(self):
        return "broken"

    def on_end(self, span):
        raise RuntimeError("a processor of the host's")


def test_a_sampler_that_raises_costs_the_span_only(database: Database, told: Told):
    sql.uninstall()
    broken = Spans(Broken())
    sql.install(tracer=lambda: broken.provider.get_tracer("tests"))
    database.run(insert_batch)
    assert len(database.run(select_rows)) == 1
    assert broken.all() == []
    assert told.count() == 2


def test_a_processor_that_raises_does_not_reach_the_app(database: Database, told: Told, spans: Spans, added):
    spans.provider.add_span_processor(Broken())
    database.run(insert_one)
    assert len(database.run(select_rows)) == 1
    assert told.count() == 2
    assert added().total("restaurant_telemetry_errors_total", restaurant_telemetry_part="sql") == 2


# --- bounds ------------------------------------------------------------------------------------------


def test_a_flood_of_distinct_statements_stays_in_bounds(told: Told, spans: Spans, make_engine):
    sql.uninstall()
    sql.install(tracer=lambda: None)
    engine = make_engine()
    with engine.connect() as connection:
        for n in range(5_000):
            connection.exec_driver_sql(f"SELECT {n} AS a WHERE 'x{n}' = ''")
    assert told.count() == 5_000
    assert len(told.series()) == 1
    (observed,) = sql._observation._engines.values()
    assert len(observed.recent) + len(observed._older) <= engines.MOST_REMEMBERED


def test_a_statement_of_a_megabyte_is_told(told: Told, make_engine):
    with make_engine().connect() as connection:
        for end in ("a", "b"):
            connection.exec_driver_sql(f"SELECT '{'x' * 1_000_000}{end}'")
    assert told.names == ["SELECT"] * 2
    assert [span.attributes["db.query.text"] for span in told.spans] == ["SELECT ?"] * 2


def test_the_labels_are_those_of_the_catalogue(told: Told, make_engine):
    with Request("/guests"), make_engine().connect() as connection, pytest.raises(sa.exc.OperationalError):
        connection.execute(sa.select(users))
    (labels,) = told.series()
    assert set(labels) == {name.replace(".", "_") for name in catalog.DB_CLIENT_OPERATION_DURATION.attributes}


def test_sqlalchemy_is_not_imported_for_an_app_that_does_not_use_it_and_is_seen_when_it_comes():
    code = """
        from restaurant_otel import sql
        sql.install(tracer=lambda: provider.get_tracer("tests"))
        print("sqlalchemy" in sys.modules, end=" ")
        import sqlalchemy
        with sqlalchemy.create_engine("sqlite://").connect() as connection:
            connection.execute(sqlalchemy.text("select 1"))
        from restaurant_otel.metrics import registry
        families = {family.metric.name: family for family in registry().collect()}
        print(sum(point.count for point in families["db.client.operation.duration"].points))
    """
    assert run(code) == "False 1"
