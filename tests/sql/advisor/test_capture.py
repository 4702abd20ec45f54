"""A workload that was not written down: PostgreSQL's own count, and the query book of workers that run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from restaurant_otel.cli import main
from restaurant_otel.sql.advisor import advise
from tests.admin.shop import fill
from tests.sql.advisor.conftest import Bench
from tests.support.servers import ROOT as CHECKOUT
from tests.support.servers import Server, clean_env
from tests.support.wait import eventually

BY_EMAIL = "/users/{email}"
ASKED = 40
SECRET = "guest77@x.example"


# --- pg_stat_statements ------------------------------------------------------------------------------


@pytest.fixture
def counted(bench: Bench) -> Bench:
    """A database that counts its statements."""
    if bench.system != "postgresql":
        pytest.skip("pg_stat_statements is PostgreSQL's")
    bench.fill()
    if not bench.rows(
        "SELECT 1 FROM pg_settings WHERE name = 'shared_preload_libraries' AND setting LIKE '%pg_stat%'"
    ):
        pytest.skip("the server has no pg_stat_statements")
    bench.run("CREATE EXTENSION pg_stat_statements")
    return bench


def test_what_postgresql_has_counted_is_a_workload(counted: Bench) -> None:
    engine = sa.create_engine(counted.url)
    by_email = sa.text("SELECT id FROM guests WHERE email = :email")
    with engine.connect() as connection:
        for number in range(5):
            connection.execute(by_email, {"email": f"guest{number}@x.example"}).all()
    engine.dispose()
    counted.run(
        f"SELECT * FROM guests WHERE email = '{SECRET}' AND visits > 3",
        "UPDATE guests SET visits = 7 WHERE seen = 'day17'",
    )
    advice = advise(counted.url, "pg_stat_statements")
    labels = {one.index.label for one in advice.recommendations}
    assert {"guests(email)", "guests(seen)"} <= labels
    (read,) = [read for read in advice.reads if read.shown == "SELECT id FROM guests WHERE email = $1"]
    assert read.calls == 5
    assert read.gain > 0.9
    assert all("pg_stat_statements" not in read.shown for read in advice.reads)
    assert SECRET not in repr(advice)
    # Advice is asked for, not asked: what it sends itself is not counted as the app's the next time.
    again = advise(counted.url, "pg_stat_statements")
    assert [read.shown for read in again.reads] == [read.shown for read in advice.reads]


def test_a_statement_without_values_is_planned_as_a_generic_one(counted: Bench) -> None:
    # What is beside the parameter is no column, so nothing says what value it could have.
    statement = "SELECT * FROM guests WHERE email = :email AND length(note) > :least"
    advice = counted.advice(statement)
    (made,) = advice.recommendations
    assert made.index.label == "guests(email)"
    (read,) = advice.reads
    assert made.index.name in " ".join(read.plan_after)
    assert read.gain > 0.9
    assert "Planned without values, as a generic plan: statements 1." in advice.notes
    common = "SELECT * FROM guests WHERE city = :city AND length(note) > :least"
    assert counted.advised(common) == []


# --- workers that run --------------------------------------------------------------------------------


def test_workers_are_asked_by_their_folder_and_the_gain_is_told_by_their_own_histograms(
    serve: Callable[..., Server], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, folder = f"sqlite:///{tmp_path}/shop.sqlite3", tmp_path / "workers"
    fill(url)
    folder.mkdir(mode=0o700)
    env = {"TEST_DATABASE_URL": url, "RESTAURANT_OTEL_WORKERS_DIR": str(folder)}
    server = serve("gunicorn-uvicorn", "tests.admin.shop:app", env=env, workers=2)

    def ask() -> None:
        for number in range(ASKED):
            assert server.get(f"/users/u{number}@shop.example").json() == {"id": number}

    def reading(name: str) -> str:
        (tmp_path / name).write_text(server.get("/metrics").text)
        return str(tmp_path / name)

    ask()
    before = reading("before")
    applied: dict[str, Any] = eventually(
        lambda: applied_by_command(url, folder), within=90, what="words of the app"
    )
    (recommended,) = applied["recommendations"]
    assert recommended["index"]["label"] == "users(email)"
    assert recommended["routes"] == [BY_EMAIL]
    (read,) = applied["reads"]
    assert read["calls"] == ASKED, "of both workers together"
    (made,) = applied["applied"]
    assert made["done"]
    ask()
    after = reading("after")
    assert main(["advise", "--compare", before, after, "--json"]) == 0
    (change,) = json.loads(capsys.readouterr().out)
    assert change["summary"] == "SELECT users"
    assert (change["calls_before"], change["calls_after"]) == (ASKED, ASKED)
    assert change["mean_after"] > 0
    assert change["p95_after"] > 0
    assert main(["advise", "--compare", before, after]) == 0
    shown = capsys.readouterr().out
    assert "calls since" in shown
    assert change["fingerprint"] in shown


def applied_by_command(url: str, folder: Path) -> dict[str, Any] | None:
    """What the command says; None as long as it finds no words, which the app saves soon, not at once."""
    program = str(Path(sys.executable).with_name("restaurant-otel"))
    command = [program, "advise", "--database-url", url, "--from", "capture", "--workers-dir", str(folder)]
    done = subprocess.run(
        [*command, "--apply", "--json"],
        env=clean_env({}),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode != 0:
        assert "--workers-dir" in done.stderr
        return None
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
