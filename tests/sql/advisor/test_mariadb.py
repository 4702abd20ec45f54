"""MariaDB, which cannot be asked what an index would change: advice by the heuristic, which says that it is one.

And plans of slow queries, which it does tell. Skipped where its server is not installed, even with REQUIRE_SERVERS:
`scripts/setup` leaves it out where it would put another one away, such as MySQL's.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from restaurant_otel.sql.advisor import advise, apply
from restaurant_otel.sql.advisor.access import read_only, usable
from restaurant_otel.sql.advisor.report import FORMATS, write
from restaurant_otel.sql.book import SlowQuery
from tests.sql.conftest import Request, explained
from tests.support.processes import free_port
from tests.support.wait import eventually

PASSWORD = "Sw0rdf1sh-2217"
SECRET = "s3cr3tvalue"
ROWS = 20_000


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip(f"MariaDB's {name} is not installed")
    return found


@pytest.fixture(scope="module")
def shop() -> Iterator[sa.URL]:
    """A server with ``guests`` and ``stays``, and a URL by the name of MySQL, which many use for MariaDB."""
    install, server = program("mariadb-install-db"), program("mariadbd")
    folder = Path(tempfile.mkdtemp(prefix="mariadb"))  # a socket's path must be short
    user = []
    if os.geteuid() == 0:
        user = ["--user=nobody"]
        shutil.chown(folder, "nobody")
    data = f"--datadir={folder}/data"
    begin = (
        f"CREATE USER app@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';",
        "GRANT ALL ON *.* TO app@'127.0.0.1';",
        "CREATE DATABASE shop;",
    )
    (folder / "begin.sql").write_text("\n".join(begin) + "\n")
    subprocess.run([install, "--no-defaults", *user, data], check=True, capture_output=True)
    port = free_port()
    command = [server, "--no-defaults", *user, data, f"--port={port}", "--bind-address=127.0.0.1"]
    command += [f"--socket={folder}/socket", f"--pid-file={folder}/pid", f"--init-file={folder}/begin.sql"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = sa.make_url(f"mysql+pymysql://app:{PASSWORD}@127.0.0.1:{port}/shop")
    engine = sa.create_engine(url)
    try:
        eventually(lambda: answers(engine), within=60, what="MariaDB ready")
        fill(engine)
        yield url
    finally:
        engine.dispose()
        running.terminate()
        running.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def answers(engine: sa.Engine) -> bool:
    try:
        with engine.connect():
            return True
    except sa.exc.OperationalError:
        return False


def fill(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE guests (id INTEGER PRIMARY KEY AUTO_INCREMENT, email VARCHAR(80), city VARCHAR(40))",
            "CREATE TABLE stays (id INTEGER PRIMARY KEY, guest_id INTEGER REFERENCES guests (id), room INTEGER)",
            (
                "INSERT INTO guests SELECT seq, concat('guest', seq, '@x.example'), concat('city', seq % 3) "
                f"FROM seq_1_to_{ROWS}"
            ),
        ):
            connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def advice(url: sa.URL) -> Any:
    return advise(
        url,
        [
            "SELECT * FROM `guests` WHERE email = %(email)s",
            "SELECT * FROM guests WHERE city = %s",
            "SELECT g.id FROM guests g JOIN stays s ON s.guest_id = g.id WHERE s.room = ?",
            "UPDATE guests SET city = 'hush-hush' WHERE id = 7",
        ],
    )


def test_the_missing_index_is_found_made_and_taken_back(shop: sa.URL) -> None:
    found = advice(shop)
    assert [one.index.label for one in found.recommendations] == ["guests(email)"]
    assert found.skipped == []
    (made,) = apply(shop, [one.index for one in found.recommendations])
    assert made.done
    assert advice(shop).recommendations == []
    engine = sa.create_engine(shop)
    with engine.begin() as connection:
        connection.exec_driver_sql(made.undo)
    engine.dispose()
    assert [one.index.label for one in advice(shop).recommendations] == ["guests(email)"]


def test_it_is_called_a_guess_and_tells_no_value(shop: sa.URL) -> None:
    found = advice(shop)
    assert found.method == "heuristic"
    assert "NOT proven" in write(found, "report")
    for form in FORMATS:
        text = write(found, form) if form != "json" else repr(found)
        assert [word for word in ("hush-hush", PASSWORD, "x.example") if word in text] == []


def test_its_session_refuses_to_write(shop: sa.URL) -> None:
    with read_only(usable(shop)) as connection, pytest.raises(sa.exc.DBAPIError):
        connection.exec_driver_sql("DELETE FROM guests")


# --- slow queries --------------------------------------------------------------------------------------


def kept(words: str) -> SlowQuery:
    """The slow query whose text has these words, explained."""
    return explained(lambda each: words in each.text)


@pytest.mark.usefixtures("everything_is_slow")
def test_a_slow_query_is_kept_with_its_plan_and_without_values(shop: sa.URL) -> None:
    guests, engine = sa.table("guests", sa.column("id"), sa.column("email")), sa.create_engine(shop)
    with Request("/guests"), engine.connect() as connection:
        connection.execute(sa.select(guests).where(guests.c.email == SECRET, guests.c.id > 3)).all()
        inlined = f"SELECT city FROM guests WHERE id IN (1, 90210) AND email NOT LIKE '%{SECRET}%'"
        connection.execute(sa.text(inlined)).all()
    engine.dispose()
    bound, literal = kept("guests.email"), kept("SELECT city")
    assert (bound.route, bound.no_plan, literal.no_plan) == ("/guests", None, None)
    assert re.fullmatch(r"select_type SIMPLE, table guests, type \w+, .*rows \d+, .*", str(bound.plan))
    assert "key PRIMARY, rows 2," in str(literal.plan)
    assert [word for word in (SECRET, "90210", PASSWORD) if word in f"{bound}{literal}"] == []


@pytest.mark.usefixtures("everything_is_slow")
def test_a_plan_waits_for_no_lock_and_says_so(shop: sa.URL) -> None:
    engine = sa.create_engine(shop)
    with engine.connect() as locking:
        locking.exec_driver_sql("LOCK TABLES stays WRITE")
        locking.exec_driver_sql("SELECT room FROM stays").all()
        assert kept("SELECT room").no_plan == "OperationalError"
        locking.exec_driver_sql("UNLOCK TABLES")
    engine.dispose()


@pytest.mark.usefixtures("everything_is_slow")
def test_what_changes_rows_is_not_explained(shop: sa.URL) -> None:
    engine = sa.create_engine(shop)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE guests SET city = city WHERE id = 1")
    engine.dispose()
    assert (kept("UPDATE guests").plan, kept("UPDATE guests").no_plan) == (None, "not asked for")
