"""A large schema, 300 tables of 20 columns: what is tried is bounded, in number and in time, and can be ended."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from restaurant_otel.sql.advisor import Statement, advise, pipeline
from restaurant_otel.sql.advisor.selection import Bill, TimeUpError
from tests.sql.advisor.conftest import Bench
from tests.support.servers import ROOT as CHECKOUT
from tests.support.servers import clean_env
from tests.support.wait import eventually

TABLES, COLUMNS = 300, 20
HOT, HOT_ROWS, ROWS = 20, 3_000, 300


def fill(bench: Bench) -> None:
    """`HOT` of the tables are larger than the others."""
    statements = []
    for number in range(TABLES):
        rows = HOT_ROWS if number < HOT else ROWS
        numbers = (
            f"(SELECT g AS n FROM generate_series(1, {rows}) g)"
            if bench.system == "postgresql"
            else f"(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {rows}) SELECT n FROM c)"
        )
        names = [f"c{column}" for column in range(1, COLUMNS)]
        values = [f"n * {7919 + 2 * place} % {(3, 10, 100, 1009)[place % 4]}" for place in range(1, COLUMNS)]
        statements += [
            f"CREATE TABLE t{number} (id INTEGER PRIMARY KEY, {', '.join(f'{name} INTEGER' for name in names)})",
            f"INSERT INTO t{number} SELECT n, {', '.join(values)} FROM {numbers} numbers",
        ]
    bench.run("BEGIN", *statements, "COMMIT", "ANALYZE")


def workload(count: int) -> list[Statement]:
    chance, found = random.Random(1), []
    for number in range(count):
        one = chance.randrange(HOT) if number % 2 else chance.randrange(TABLES)
        other, third = chance.randrange(TABLES), chance.randrange(TABLES)
        a, b, c, d = (f"c{column}" for column in chance.sample(range(1, COLUMNS), 4))
        texts = (
            f"SELECT * FROM t{one} WHERE {a} = :a",
            f"SELECT {b} FROM t{one} WHERE {a} = :a AND {b} = :b AND {c} > :c",
            f"SELECT {b} FROM t{one} WHERE {a} = :a ORDER BY {b} DESC LIMIT 20",
            f"SELECT x.id FROM t{one} x JOIN t{other} y ON x.{a} = y.id WHERE y.{b} = :b AND x.{c} = :c",
            f"SELECT 1 FROM t{one} x JOIN t{other} y ON x.{a} = y.{b} JOIN t{third} z ON z.id = y.{d} WHERE x.{c} = :c",
            f"UPDATE t{one} SET {a} = :a WHERE {b} = :b",
        )
        found.append(Statement(chance.choice(texts), chance.choice((1.0, 10.0, 100.0, 1000.0))))
    return found


@pytest.fixture
def large(bench: Bench) -> Bench:
    fill(bench)
    return bench


@pytest.mark.parametrize("statements", [100, pytest.param(500, marks=pytest.mark.slow)])
def test_only_the_most_promising_is_tried_and_as_much_as_there_is_time_for(
    large: Bench, statements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, most = [], 4 * statements
    answer = Bill._answer

    def count(self: Bill, read: Any, present: Any) -> Any:
        if self.until is not None:
            if len(asked) >= most:  # as if the time were up, but the same on any machine
                raise TimeUpError
            asked.append(read.number)
        return answer(self, read, present)

    monkeypatch.setattr(Bill, "_answer", count)
    monkeypatch.setattr(pipeline, "MOST_CANDIDATES", 150)
    advice = advise(large.url, workload(statements))
    assert len(advice.reads) > 0.9 * statements
    assert any("the 150 that promise most" in note for note in advice.notes)
    assert advice.recommendations, "what was found by then counts"
    assert all(one.gain > 0 for one in advice.recommendations)
    assert advice.after < advice.before


def test_without_time_nothing_is_advised_and_that_is_said(bench: Bench) -> None:
    bench.fill(rows=2_000)
    statement = "SELECT * FROM guests WHERE email = :email"
    advice = bench.advice(statement, seconds=0)
    assert advice.recommendations == []
    assert any("seconds were up" in note for note in advice.notes)
    assert bench.advised(statement) == ["guests(email)"]


# --- ended in the middle -----------------------------------------------------------------------------


@pytest.fixture
def advising(bench: Bench, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A ``restaurant-otel advise`` in the middle of its trial, for which it needs very long."""
    if bench.system != "sqlite":
        pytest.skip("PostgreSQL keeps hypothetical indexes in the session's memory")
    bench.fill(rows=3_000)
    slow = (
        "SELECT count(*) FROM guests a, guests b, guests c WHERE a.visits = :x AND b.visits + c.visits > a.id"
    )
    (tmp_path / "workload.json").write_text(json.dumps([{"text": slow}]))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    program = str(Path(sys.executable).with_name("restaurant-otel"))
    command = [program, "advise", "--database-url", str(bench.url), "--from", str(tmp_path / "workload.json")]
    with subprocess.Popen(
        command,
        env=clean_env({"TMPDIR": str(temporary)}),
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        eventually(lambda: _has_its_copy(process.pid), within=60, what="the copy")
        try:
            yield process
        finally:
            process.kill()
    assert list(temporary.iterdir()) == []


def _has_its_copy(pid: int) -> bool:
    try:
        files = [os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:  # one was closed meanwhile
        return False
    return any(file.endswith("copy.sqlite3 (deleted)") for file in files)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks at open files by /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_ends_when_told_to_and_leaves_nothing_of_the_copy(
    advising: subprocess.Popen[str], number: signal.Signals
) -> None:
    advising.send_signal(number)
    out, err = advising.communicate(timeout=60)
    assert advising.returncode != 0
    assert "Index advice" not in out
    assert "Traceback" not in err
