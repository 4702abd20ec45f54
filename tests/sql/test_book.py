"""The query book: numbers, texts, routes and places of every statement, bounded, and free of values."""

from __future__ import annotations

import gc
import itertools
import json
import logging
import os
import signal
import threading
import tracemalloc
import types

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restaurant_otel import sql
from restaurant_otel.metrics.group import Group
from restaurant_otel.sql import book, engines, series
from restaurant_otel.sql import notes as notes_module
from restaurant_otel.sql.book import OTHER, QueryEntry, quantile, query_book, repeated_queries, slow_queries
from restaurant_otel.sql.keeper import Keeper
from restaurant_otel.sql.notes import MOST, Notes, notes
from tests.sql.conftest import PASSWORD, Database, Request, Told, fresh_words, users
from tests.sql.test_queries import insert_batch, insert_one, select_rows
from tests.support.spans import Spans
from tests.support.wait import eventually


@pytest.fixture(autouse=True)
def fresh(told: Told) -> None:
    fresh_words()


def entries(**wanted: str) -> list[QueryEntry]:
    return [
        each for each in query_book() if all(getattr(each, name) == value for name, value in wanted.items())
    ]


def used(entry: QueryEntry) -> dict[str | None, tuple[int, int]]:
    return {use.route: (use.calls, use.rows) for use in entry.routes}


def test_a_statement_has_its_numbers_routes_text_and_place(database: Database, told: Told):
    database.run(insert_batch)
    routes = (f"/{database.driver}/a", f"/{database.driver}/b")
    for route, times in zip(routes, (3, 1), strict=True):
        with Request(route):
            for _ in range(times):
                database.run(select_rows)
    (entry,) = [each for each in entries(summary="SELECT users") if routes[0] in used(each)]
    mine = used(entry)
    assert (mine[routes[0]], mine[routes[1]]) == ((3, 3), (1, 1))
    assert entry.calls == sum(use.calls for use in entry.routes) >= 4
    assert entry.mean == pytest.approx(entry.total / entry.calls)
    assert 0 < entry.mean < 60
    assert entry.p95 is not None
    assert str(entry.text).startswith("SELECT users.id, users.name FROM users WHERE users.name = ")
    assert entry.system == database.system
    # Each driver's helper runs on the same line of the same test helper.
    assert any(place.startswith("tests.sql.test_queries:select_rows:") for place in entry.locations)


def test_rows_are_counted_however_they_are_fetched(told: Told, tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/guests.db")
    with engine.connect() as connection:
        statement = sa.text("SELECT 1 AS n UNION ALL SELECT 2 UNION ALL SELECT 3")
        connection.execute(statement).all()
        connection.execute(statement).first()
        assert len(list(connection.execute(statement))) == 3
        result = connection.execute(statement)
        while result.fetchmany(2):
            pass
    engine.dispose()
    (entry,) = entries(text="SELECT ? AS n UNION ALL SELECT ? UNION ALL SELECT ?")
    assert (entry.calls, entry.rows) == (4, 3 + 1 + 3 + 3)


def test_fetching_is_told_apart_from_execution(database: Database, told: Told):
    database.run(insert_batch)
    with Request("/fetch"):
        database.run(select_rows)
    assert told.total("restaurant_db_query_fetch_duration_seconds_count", http_route="/fetch") == 1
    assert told.total("restaurant_db_query_duration_seconds_count", http_route="/fetch") == 1


def test_the_span_says_how_many_rows_where_the_driver_does(database: Database, told: Told):
    database.run(insert_batch)
    told.clear()
    database.run(lambda connection: connection.execute(sa.select(users)).all())
    expected = 3 if database.system == "postgresql" else None
    assert [span.attributes.get("db.response.returned_rows") for span in told.spans] == [expected]


def test_streams_keep_sqlalchemy_s_own_buffer(database: Database, told: Told):
    database.run(lambda c: c.execute(users.insert(), [{"name": f"guest {n}"} for n in range(500)]))

    def stream(connection):
        result = connection.execution_options(stream_results=True, max_row_buffer=10).execute(
            sa.select(users)
        )
        kind = type(result.cursor_strategy).__name__
        return kind, len(result.all())

    assert database.run(stream) == ("BufferedRowCursorFetchStrategy", 500)


def test_failures_are_not_in_the_book(told: Told):
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection, pytest.raises(sa.exc.OperationalError):
        connection.execute(sa.text("SELECT * FROM nowhere_at_all"))
    assert entries(text="SELECT * FROM nowhere_at_all") == []
    assert told.count(error_type="OperationalError") == 1


@given(st.lists(st.floats(0.0001, 9.9), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_a_quantile_lies_in_the_bucket_of_the_value_it_stands_for(values: list[float], share: float):
    bounds = (0.001, 0.01, 0.1, 1.0, 10.0)
    counts = [0] * 6
    for value in values:
        counts[sum(value > bound for bound in bounds)] += 1
    said = quantile(bounds, counts, share)
    rank = max(0, min(len(values) - 1, -int(-share * len(values) // 1) - 1))
    true = sorted(values)[rank]
    place = sum(true > bound for bound in bounds)
    low = bounds[place - 1] if place else 0.0
    assert said is not None
    assert (
        low <= said <= bounds[place] * (1 + 1e-9)
        or abs(share * len(values) - round(share * len(values))) < 1e-6
    )


def test_an_empty_histogram_has_no_quantile():
    assert quantile((1.0, 2.0), [0, 0, 0], 0.95) is None


# --- bounds ------------------------------------------------------------------------------------------


numbers = itertools.count()


def flood(connection, number: int) -> None:
    """So many statements that differ in their literals only."""
    for n in itertools.islice(numbers, number):
        connection.exec_driver_sql(f"SELECT {n} AS a WHERE 'x{n}' = ''")


@pytest.mark.parametrize("number", [3_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_flood_of_literals_is_one_statement_and_takes_no_memory(told: Told, number: int):
    sql.uninstall()
    sql.install(tracer=lambda: None)
    with sa.create_engine("sqlite://").connect() as connection:
        flood(connection, engines.MOST_REMEMBERED)  # as much as is ever remembered
        tracemalloc.start()
        try:
            flood(connection, 100)
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            flood(connection, number)
            gc.collect()
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    (entry,) = entries(text="SELECT ? AS a WHERE ? = ?")
    executed = engines.MOST_REMEMBERED + 100 + number
    assert entry.calls == told.total("restaurant_db_query_duration_seconds_count") == executed
    assert len(told.gained().samples["restaurant_db_query_duration_seconds_count"]) == 1
    assert len(told.series()) == 1
    # The texts remembered before the count began are not in it, those that took their places are: some 1.5 kB each.
    assert after - before < 6_000_000, f"{(after - before) / number:.0f} bytes for each of {number}"
    assert peak < 12_000_000


def test_a_flood_of_shapes_shares_one_place_and_leaves_room_for_what_comes_back(told: Told, monkeypatch):
    monkeypatch.setattr(series, "MOST_FINGERPRINTS", 60)
    monkeypatch.setattr(series, "PLENTY", 50)
    with sa.create_engine("sqlite://").connect() as connection:
        for n in range(300):
            connection.exec_driver_sql(f"SELECT 1 AS shape_{n}").all()
        for _ in range(5):
            connection.exec_driver_sql("SELECT 1 AS regular_guest").all()
    places = told.gained().labels(
        "restaurant_db_query_duration_seconds_count", "restaurant_db_query_fingerprint"
    )
    assert len(places) == 50 + 1 + 1
    assert (
        told.total("restaurant_db_query_duration_seconds_count", restaurant_db_query_fingerprint=OTHER)
        == 250 + 2
    )
    assert told.total("restaurant_db_query_duration_seconds_count") == 305
    (regular,) = entries(text="SELECT ? AS regular_guest")
    assert regular.calls == 5 - 2, "the first two came before it was known to come back"


def test_notes_are_bounded():
    some = Notes()
    for n in range(MOST + 10):
        some.put("query", f"{n:x}", {"text": str(n)})
    assert len(some.all("query")) == MOST
    assert some.get("query", "0") is None


# --- all workers -------------------------------------------------------------------------------------


def test_what_another_thread_is_saving_is_saved_when_save_returns(tmp_path, monkeypatch):
    """A worker that saves before it ends must not end while its keeper's thread has taken the words and not written."""
    some, taken, go_on, written = Notes(), threading.Event(), threading.Event(), []

    def write_slowly(group, news):
        taken.set()
        assert go_on.wait(20)
        written.extend(news)

    monkeypatch.setattr(notes_module, "_write", write_slowly)
    monkeypatch.setattr(
        notes_module, "registry", lambda: types.SimpleNamespace(group=Group("book", str(tmp_path)))
    )
    some.put("query", "1", {"text": "SELECT ?"})
    keeper = threading.Thread(target=some.save)
    keeper.start()
    assert taken.wait(20)
    seen: list[int] = []
    ours = threading.Thread(target=lambda: (some.save(), seen.append(len(written))))
    ours.start()
    ours.join(0.2)
    go_on.set()
    ours.join(20)
    keeper.join(20)
    assert seen == [1]


def test_a_killed_worker_s_words_and_numbers_stay(tmp_path, monkeypatch):
    """Two workers and a reader, joined by a folder; the worker that asked is killed."""
    script = """
        import os, signal, sys
        import sqlalchemy as sa
        from restaurant_otel import sql
        from restaurant_otel.metrics import registry
        from restaurant_otel.sql.notes import notes
        registry().attach()
        sql.install(tracer=lambda: None)
        with sa.create_engine("sqlite://").connect() as connection:
            for n in range(7):
                connection.execute(sa.text(f"SELECT {n} AS killed_worker")).all()
        notes.save()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    reader = """
        import json
        from restaurant_otel.sql.book import query_book
        print(json.dumps([[e.text, e.calls, e.rows, len(e.locations)] for e in query_book()]))
    """
    env = {"RESTAURANT_OTEL_WORKERS_DIR": str(tmp_path), "RESTAURANT_OTEL_GROUP": "book"}
    assert run_python(script, env).returncode == -signal.SIGKILL
    read = run_python(reader, env)
    assert read.returncode == 0, read.stderr
    assert json.loads(read.stdout) == [["SELECT ? AS killed_worker", 7, 7, 1]]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)


def run_python(code: str, env: dict[str, str]):
    import subprocess
    import sys
    import textwrap
    from pathlib import Path

    place = Path(os.environ.get("TMPDIR", "/tmp")) / f"restaurant-otel-test-{os.getpid()}.py"
    place.write_text(textwrap.dedent(code))
    try:
        return subprocess.run(
            [sys.executable, str(place)],
            env={**os.environ, **env, "PYTHONPATH": os.getcwd()},
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        place.unlink()


def test_a_forked_worker_keeps_its_own_book(told: Told, tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/guests.db", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1 AS before_the_fork")).all()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with engine.connect() as connection:
                connection.execute(sa.text("SELECT 1 AS in_the_child")).all()
            texts = {entry.text: entry.calls for entry in query_book()}
            keeper = sql._observation.keeper
            eventually(lambda: keeper._thread is not None and keeper._thread.is_alive())
            status = 0 if texts.get("SELECT ? AS in_the_child") == 1 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert entries(text="SELECT ? AS in_the_child") == []


def test_the_keeper_survives_what_goes_wrong_and_ends(told: Told, added):
    done: list[int] = []
    keeper = Keeper(lambda: None)
    assert keeper._thread is None, "no thread before there is something to do"

    def fail() -> None:
        raise RuntimeError("a driver's")

    keeper.do(fail)
    eventually(lambda: not keeper._jobs)
    keeper.do(lambda: done.append(1))
    eventually(lambda: done)
    keeper.stop()
    eventually(lambda: keeper._thread is None or not keeper._thread.is_alive())
    assert added().total("restaurant_telemetry_errors_total", restaurant_telemetry_part="sql keeper") == 1


# --- nothing of the values ---------------------------------------------------------------------------

# Begun as no word does: hypothesis also draws words that stand in the code, and reports may say those.
secrets = st.text(
    st.characters(codec="ascii", min_codepoint=97, max_codepoint=122), min_size=9, max_size=27
).map("qzx".__add__)


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(secret=secrets, number=st.integers(10**15, 10**18))
def test_no_value_is_in_the_book_the_reports_the_spans_or_the_logs(
    database: Database, told: Told, spans: Spans, caplog, secret: str, number: int
):
    """By every driver; with plans, N+1, comments, and the messages of exceptions, which quote values."""
    caplog.set_level(logging.DEBUG, "restaurant_otel")
    sql.uninstall()
    sql.install(
        tracer=lambda: spans.provider.get_tracer("tests"),
        options=sql.Options(slow_seconds=0.0, repeats=2, comments=frozenset({"route", "application"})),
    )
    keeper = sql._observation.keeper

    def work(connection) -> None:
        connection.execute(users.delete())
        connection.execute(users.insert(), {"name": secret})
        connection.execute(users.insert(), [{"name": secret}, {"name": f"{number}"}])
        for _ in range(3):
            connection.execute(sa.select(users).where(users.c.name == secret)).all()
        connection.execute(
            sa.text(f"SELECT name FROM users WHERE name = '{secret}' OR id + 0 = {number}")
        ).all()
        connection.execute(sa.select(users).where(users.c.name.in_([secret, "x"]))).all()
        connection.execute(users.update().values(name=secret).where(users.c.name == f"{number}"))

    def unknown_column(connection) -> None:
        connection.execute(sa.text(f"SELECT '{secret}' FROM users WHERE nothing = {number}"))

    def twice_the_same_key(connection) -> None:
        connection.execute(users.insert(), [{"id": 7, "name": secret}, {"id": 7, "name": f"{number}"}])

    def not_a_number(connection) -> None:
        connection.execute(sa.text(f"SELECT * FROM users WHERE id = CAST('{secret}' AS integer) / 0"))
        raise sa.exc.DBAPIError(None, None, Exception("SQLite takes it"))

    with spans.provider.get_tracer("tests").start_as_current_span("request"), Request("/secrets"):
        database.run(work)
        for failing in (unknown_column, twice_the_same_key, not_a_number):
            with pytest.raises(sa.exc.DBAPIError):
                database.run(failing)
    eventually(lambda: not keeper._jobs and all(each.plan or each.no_plan for each in slow_queries()))
    said = [told.everything(), str(query_book()), str(repeated_queries()), str(slow_queries()), caplog.text]
    said += [str(notes.all(kind)) for kind in ("query", "repeat", "slow")]
    said.append(str(told.gained().samples))
    plans = " ".join(str(each.plan) for each in slow_queries())
    assert ("SCAN" if database.system == "sqlite" else "Seq Scan on users") in plans
    for words in said:
        assert secret not in words
        assert str(number) not in words
        assert PASSWORD not in words


def test_the_book_is_data(database: Database):
    database.run(insert_one)
    assert book.query_book()
    assert all(isinstance(entry, QueryEntry) for entry in book.query_book())
