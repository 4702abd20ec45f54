"""Before and after by the queries' own histograms, by two readings of /metrics; and the sources of a workload."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from restaurant_otel.cli import main
from restaurant_otel.metrics import registry
from restaurant_otel.metrics.exposition import render
from restaurant_otel.sql.advisor import AdviseError, Statement, advise, apply
from restaurant_otel.sql.advisor.compare import changes
from restaurant_otel.sql.advisor.workload import from_text
from tests.sql.advisor.conftest import Bench
from tests.sql.conftest import Request, Told

BEFORE, SINCE = 12, 30


def reading(**statements: tuple[int, float]) -> str:
    """Of each statement: executions, seconds. A twentieth took up to half a second, the others up to a tenth."""
    name = "restaurant_db_query_duration_seconds"
    lines = [f"# TYPE {name} histogram"]
    for key, (calls, seconds) in statements.items():
        labels = f'{{restaurant_db_query_fingerprint="{key}",db_query_summary="SELECT {key}",http_route="/"}}'
        for bound, share in (("0.1", 0.95), ("0.5", 1), ("+Inf", 1)):
            lines.append(f'{name}_bucket{labels[:-1]},le="{bound}"}} {calls * share}')
        lines += [f"{name}_count{labels} {calls}", f"{name}_sum{labels} {seconds}"]
    return "\n".join(lines) + "\n"


def test_what_is_since_is_told_apart_from_what_was_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "before").write_text(reading(users=(100, 10.0), orders=(10, 1.0), idle=(5, 1.0)))
    (tmp_path / "after").write_text(reading(users=(300, 10.4), orders=(4, 0.4), idle=(5, 1.0)))
    assert main(["advise", "--compare", str(tmp_path / "before"), str(tmp_path / "after"), "--json"]) == 0
    users, orders = json.loads(capsys.readouterr().out)
    assert users["mean_before"] == pytest.approx(0.1)
    assert users["p95_before"] == users["p95_after"] == pytest.approx(0.1)
    assert (users["calls_after"], users["mean_after"]) == (200, pytest.approx(0.002))
    assert (orders["calls_after"], orders["mean_after"]) == (4, pytest.approx(0.1))  # restarted in between


def test_before_the_index_and_since_are_told_apart_on_a_real_database(bench: Bench, told: Told) -> None:
    bench.fill()
    engine = sa.create_engine(bench.url)
    # Its fingerprint is nobody else's: the process counts for as long as it lives.
    statement = sa.text(f"SELECT note AS of_{bench.system} FROM guests WHERE email = :email")

    def ask(times: int) -> float:
        """Seconds of it all, the driver's share of which is what the histogram has."""
        begin = time.perf_counter()
        for number in range(times):
            with Request(f"/guests/{number % 2}"), engine.connect() as connection:
                connection.execute(statement, {"email": f"guest{number + 1}@x.example"}).one()
        return time.perf_counter() - begin

    def read() -> str:
        return b"".join(render(registry().collect())).decode()

    longest = ask(BEFORE)
    before = read()
    (made,) = apply(bench.url, [one.index for one in bench.advice(statement.text).recommendations])
    assert (made.done, made.index.label) == (True, "guests(email)")
    shortest = ask(SINCE)
    after = read()
    engine.dispose()
    (change,) = changes(before, after)
    assert change.summary == "SELECT guests"
    assert (change.calls_before, change.calls_after) == (BEFORE, SINCE)
    assert 0 < change.calls_before * change.mean_before <= longest
    assert 0 < change.calls_after * change.mean_after <= shortest
    assert changes(after, after) == [], "nothing has run in between"
    # Of all that was counted nothing is missing and nothing told twice.
    name, gained = "restaurant_db_query_duration_seconds", told.gained()
    assert gained.total(f"{name}_count", db_query_summary="SELECT guests") == BEFORE + SINCE
    together = change.calls_before * change.mean_before + change.calls_after * change.mean_after
    assert together == pytest.approx(gained.total(f"{name}_sum", db_query_summary="SELECT guests"))


def test_statements_of_a_file_carry_their_calls_and_routes() -> None:
    text = "-- calls: 7\n-- route: /a b\nSELECT ';--' FROM t;\n\nSELECT 2"
    assert list(from_text(text, "sqlite")) == [
        Statement("SELECT ';--' FROM t", 7.0, ("/a b",)),
        Statement("SELECT 2"),
    ]


def test_pg_stat_statements_is_postgresqls_and_says_what_it_needs(bench: Bench) -> None:
    bench.fill(rows=500)
    with pytest.raises(
        AdviseError, match="CREATE EXTENSION" if bench.system == "postgresql" else "PostgreSQL's"
    ):
        advise(bench.url, "pg_stat_statements")
