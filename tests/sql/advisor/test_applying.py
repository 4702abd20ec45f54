"""Nothing is changed without being told to; then one index at a time, with a way back."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from restaurant_otel.sql.advisor import Index, Key, application, apply
from restaurant_otel.sql.advisor.access import read_only
from tests.sql.advisor.conftest import Bench
from tests.support.servers import ROOT as CHECKOUT
from tests.support.servers import clean_env
from tests.support.wait import eventually

Writer = Callable[[], AbstractContextManager[None]]

EMAIL = Index("guests", (Key("email"),))
VISITS = Index("guests", (Key("visits"), Key("seen", descending=True)))


@pytest.fixture
def guests(bench: Bench) -> Bench:
    bench.fill(rows=5_000)
    return bench


def names(bench: Bench) -> set[str]:
    engine = sa.create_engine(bench.url)
    found = {str(index["name"]) for index in sa.inspect(engine).get_indexes("guests")}
    engine.dispose()
    return found


@pytest.fixture
def writer(guests: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writer]:
    """``with writer():`` has a transaction open that CONCURRENTLY waits for, longer than it is let."""
    if guests.system != "postgresql":
        pytest.skip("only PostgreSQL makes indexes concurrently")
    monkeypatch.setattr(application, "LOCK_SECONDS", 0.5)
    engine = sa.create_engine(guests.url)

    @contextmanager
    def held() -> Iterator[None]:
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE guests SET visits = 0 WHERE id = 1")
            yield

    yield held
    engine.dispose()


def test_advice_changes_nothing(guests: Bench) -> None:
    guests.advice("SELECT * FROM guests WHERE email = :email")
    assert names(guests) == set()


def test_the_session_of_advice_refuses_to_write(guests: Bench) -> None:
    with read_only(guests.url) as connection, pytest.raises(sa.exc.DBAPIError):
        connection.exec_driver_sql("DELETE FROM guests")
    assert guests.rows("SELECT count(*) FROM guests")[0][0] == 5_000


def test_indexes_are_made_and_can_be_taken_back(guests: Bench) -> None:
    done = apply(guests.url, [EMAIL, VISITS])
    assert [one.done for one in done] == [True, True]
    assert names(guests) == {EMAIL.name, VISITS.name}
    assert guests.advised("SELECT * FROM guests WHERE email = :email") == []
    guests.run(*(one.undo for one in done))
    assert names(guests) == set()


def test_after_a_failure_nothing_more_is_tried(guests: Bench) -> None:
    done = apply(guests.url, [Index("guests", (Key("no_such_column"),)), EMAIL])
    (failed,) = done
    assert not failed.done
    assert failed.error is not None
    assert names(guests) == set()


def test_an_invalid_index_is_cleaned_and_made_anew(guests: Bench, writer: Writer) -> None:
    with writer():
        (failed,) = apply(guests.url, [EMAIL])
        assert not failed.done
        assert failed.left == (
            names(guests) == {EMAIL.name}
        )  # taking it away has to wait for the writer as well
    # One left by somebody else's failure: made invalid by hand.
    apply(guests.url, [EMAIL])
    guests.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_guests_email'::regclass")
    (invalid,) = [one for one in guests.advice().findings if one.kind == "invalid"]
    assert invalid.subject == EMAIL.name
    (made,) = apply(guests.url, [EMAIL])
    assert made.done
    assert guests.rows("SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_guests_email'::regclass") == [
        (True,)
    ]


def test_a_table_stays_writable_meanwhile(guests: Bench) -> None:
    if guests.system != "postgresql":
        pytest.skip("only PostgreSQL makes indexes concurrently")
    engine = sa.create_engine(guests.url)
    done = []
    with engine.begin() as writer:
        writer.exec_driver_sql("UPDATE guests SET visits = 0 WHERE id = 1")
        making = threading.Thread(target=lambda: done.extend(apply(guests.url, [EMAIL])))
        making.start()
        guests.run("SET lock_timeout = '20s'; UPDATE guests SET visits = 1 WHERE id = 2")
    making.join()
    engine.dispose()
    assert done[0].done


# --- ended in the middle -----------------------------------------------------------------------------

MAKING = (
    "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'CREATE INDEX CONCURRENTLY%'"
)


def is_half_made(bench: Bench) -> bool:
    """Whether an index is being made, and waits for a writer that was there before."""
    invalid = "SELECT 1 FROM pg_index WHERE NOT indisvalid AND indrelid = 'guests'::regclass"
    return bool(bench.rows(invalid)) and bool(bench.rows(f"SELECT 1 {MAKING} AND state = 'active'"))


@pytest.mark.parametrize("ended", ["pg_cancel_backend", "pg_terminate_backend"])
def test_an_index_ended_by_the_server_leaves_nothing(guests: Bench, ended: str) -> None:
    if guests.system != "postgresql":
        pytest.skip("only PostgreSQL makes indexes concurrently")
    engine = sa.create_engine(guests.url)
    done: list[application.Applied] = []
    told: list[application.Applied] = []
    with engine.begin() as writer:
        writer.exec_driver_sql("UPDATE guests SET visits = 0 WHERE id = 1")
        making = threading.Thread(target=lambda: done.extend(apply(guests.url, [EMAIL, VISITS], told.append)))
        making.start()
        eventually(lambda: is_half_made(guests), within=8, what="an index half-made")
        guests.rows(f"SELECT {ended}(pid) {MAKING}")
    making.join()
    engine.dispose()
    (failed,) = done
    assert told == done
    assert (failed.done, failed.left) == (False, False)
    assert names(guests) == set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ended_by_hand_it_tells_what_it_made_and_leaves_nothing_half_made(
    guests: Bench, tmp_path: Path, number: signal.Signals
) -> None:
    if guests.system != "postgresql":
        pytest.skip("only PostgreSQL makes indexes concurrently")
    texts = ["SELECT * FROM guests WHERE email = :email"]
    (tmp_path / "workload.json").write_text(json.dumps([{"text": text} for text in texts]))
    program = str(Path(sys.executable).with_name("restaurant-otel"))
    url = guests.url.render_as_string(hide_password=False)
    command = [program, "advise", "--from", str(tmp_path / "workload.json"), "--apply"]
    engine = sa.create_engine(guests.url)
    try:
        with engine.begin() as writer:
            writer.exec_driver_sql("UPDATE guests SET visits = 0 WHERE id = 1")
            running = subprocess.Popen(
                command,
                env=clean_env({"DATABASE_URL": url}),
                cwd=CHECKOUT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            eventually(lambda: is_half_made(guests), within=60, what="an index half-made")
            running.send_signal(number)
            eventually(lambda: not is_half_made(guests), within=20, what="the index given up")
        _, err = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
        engine.dispose()
    assert running.returncode == 130
    assert "guests(email): FAILED: interrupted" in err
    assert "nothing is left of it" in err
    assert names(guests) == set()


def test_what_cannot_be_taken_away_is_reported(guests: Bench, writer: Writer) -> None:
    with writer():
        (failed,) = apply(guests.url, [EMAIL])
    assert (failed.done, failed.left) == (False, True)
    (invalid,) = [one for one in guests.advice().findings if one.kind == "invalid"]
    assert invalid.subject == EMAIL.name
    guests.run(failed.undo)
    assert names(guests) == set()
