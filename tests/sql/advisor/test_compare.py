"""Before and after by the queries' own histograms, by two readings of /metrics; and the sources of a workload."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from restaurant_otel.cli import main
from restaurant_otel.sql.advisor import AdviseError, Statement, advise
from restaurant_otel.sql.advisor.workload import from_text
from tests.sql.advisor.conftest import Bench


def reading(**statements: tuple[int, float]) -> str:
    name = "restaurant_db_query_duration_seconds"
    lines = [f"# TYPE {name} histogram"]
    for key, (calls, seconds) in statements.items():
        labels = f'{{restaurant_db_query_fingerprint="{key}",db_query_summary="SELECT {key}",http_route="/"}}'
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
    assert (users["calls_after"], users["mean_after"]) == (200, pytest.approx(0.002))
    assert (orders["calls_after"], orders["mean_after"]) == (4, pytest.approx(0.1))  # restarted in between


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
