"""The report in all its forms, from the command line; without a value, a literal or a password in any of them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from restaurant_otel.cli import main
from restaurant_otel.sql.advisor.report import FORMATS, write
from tests.sql.advisor.conftest import Bench
from tests.sql.conftest import PASSWORD

SECRET = "guest4711@x.example"
STATEMENTS = f"""
-- calls: 120
-- route: /guests/{{email}}
SELECT * FROM guests WHERE email = '{SECRET}' AND visits <> 424242;
SELECT * FROM guests WHERE seen = :seen;
-- calls: 3
INSERT INTO guests (email, note) VALUES ('{SECRET}', 'hush-hush');
SELECT no_such_column FROM guests WHERE note = 'hush-hush';
SELECT broken FROM FROM guests WHERE note = 'hush-hush';
"""


@pytest.fixture
def guests(bench: Bench, tmp_path: Path) -> Bench:
    bench.fill()
    (tmp_path / "statements.sql").write_text(STATEMENTS)
    return bench


def asked(bench: Bench, tmp_path: Path, *more: str) -> int:
    url = bench.url.render_as_string(hide_password=False)
    return main(["advise", "--database-url", url, "--from", str(tmp_path / "statements.sql"), *more])


@pytest.mark.parametrize("form", FORMATS)
def test_no_form_tells_a_value_or_a_password(
    guests: Bench,
    tmp_path: Path,
    form: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    assert asked(guests, tmp_path, "--format", form) == 0
    said = "".join(capfd.readouterr()) + caplog.text
    assert "ix_guests_email" in said
    values = [SECRET, "424242", "hush", PASSWORD, "x.example", "'day", "city1", "4711"]
    values += [str(row[0]) for row in guests.rows("SELECT email FROM guests ORDER BY id LIMIT 500")]
    assert [value for value in values if value in said] == []


def test_json_is_one_document_with_all_of_it(
    guests: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # What was there before has left room in SQLite's file, and is not to be taken for no room.
    guests.run("CREATE INDEX there ON guests (email, seen)", "DROP INDEX there")
    assert asked(guests, tmp_path, "--json") == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["method"] == ("hypopg" if guests.system == "postgresql" else "trial on a copy")
    first = next(one for one in told["recommendations"] if one["index"]["name"] == "ix_guests_email")
    assert first["routes"] == ["/guests/{email}"]
    assert first["size"] > 16 * 20_000, "an email and its row's number, of each guest"
    assert first["create"].startswith("CREATE INDEX")
    assert len(told["skipped"]) == 2
    assert told["reads"][0]["plan_before"] != told["reads"][0]["plan_after"]


def test_the_sql_can_be_run(guests: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(guests, tmp_path, "--format", "sql") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("--")]
    guests.run(*lines)
    assert asked(guests, tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["recommendations"] == []


def test_the_models_indexes_are_those_of_the_sql(
    guests: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(guests, tmp_path, "--format", "sqlalchemy") == 0
    source = capsys.readouterr().out
    names: dict[str, Any] = {}
    exec(source.partition("\n")[0], names)
    engine = sa.create_engine(guests.url)
    table = sa.Table("guests", sa.MetaData(), autoload_with=engine)
    for line in source.splitlines():
        if line.startswith("Index("):
            table.append_constraint(eval(line, names))
    for index in table.indexes:
        index.create(engine)
    engine.dispose()
    assert {index.name for index in table.indexes} == {"ix_guests_email", "ix_guests_seen"}


def test_names_that_need_quotes_have_them_in_models_and_revisions(bench: Bench, tmp_path: Path) -> None:
    bench.run(
        'CREATE TABLE "Guests" (id INTEGER PRIMARY KEY, "cityName" VARCHAR(40), "joinedAt" INTEGER)',
        """INSERT INTO "Guests" WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 9000)
           SELECT n, 'city' || n % 7, n * 7919 % 997 FROM c""",
        "ANALYZE",
    )
    advice = bench.advice(
        'SELECT id FROM "Guests" ORDER BY "Guests"."cityName", "Guests"."joinedAt" DESC LIMIT 9'
    )
    (made,) = advice.recommendations
    assert made.index.label == "Guests(cityName, joinedAt DESC)"
    engine = sa.create_engine(bench.url)
    made_by = {"sqlalchemy": "Index(", "alembic": "op.create_index("}
    for form, begin in made_by.items():
        (line,) = [
            line.strip() for line in write(advice, form).splitlines() if line.strip().startswith(begin)
        ]
        table = sa.Table("Guests", sa.MetaData(), autoload_with=engine)
        operations = SimpleNamespace(create_index=lambda name, _table, keys, **_: sa.Index(name, *keys))
        index = eval(line, {"Index": sa.Index, "column": sa.column, "sa": sa, "op": operations})
        table.append_constraint(index)
        index.create(engine)
        (found,) = sa.inspect(engine).get_indexes("Guests")
        assert (found["name"], found["column_names"]) == (made.index.name, ["cityName", "joinedAt"])
        index.drop(engine)
    engine.dispose()


def test_a_revision_for_alembic(guests: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(guests, tmp_path, "--format", "alembic") == 0
    source = capsys.readouterr().out
    compile(source, "revision.py", "exec")
    assert "def upgrade" in source
    assert "def downgrade" in source
    assert source.count("op.create_index(") == source.count("op.drop_index(") == 2
    assert ("autocommit_block" in source) == (guests.system == "postgresql")


def test_apply_tells_the_way_back(guests: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(guests, tmp_path, "--apply") == 0
    said = capsys.readouterr().out
    assert "APPLIED" in said
    assert "undo: DROP INDEX" in said


def test_a_guess_is_called_one(guests: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(guests, tmp_path, "--heuristic") == 0
    said = capsys.readouterr().out
    assert "NOT proven" in said
    assert "ON guests (email)" in said


def test_without_hypopg_it_says_how_to_get_it(
    guests: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if guests.system != "postgresql":
        pytest.skip("SQLite needs no hypopg")
    guests.run("DROP EXTENSION hypopg")
    assert asked(guests, tmp_path) == 0
    said = capsys.readouterr().out
    assert "CREATE EXTENSION hypopg" in said
    assert "NOT proven" in said


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "which database"),
        ("nonsense", "URL is not one"),
        ("sqlite:////no/such/file.sqlite3", "does not exist"),
        ("sqlite://", "in memory"),
        (f"postgresql://anna:{PASSWORD}@127.0.0.1:1/shop", "cannot be opened"),
    ],
)
def test_what_it_cannot_do_is_one_line_without_a_password(
    url: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "statements.sql").write_text("SELECT 1")
    status = main(["advise", "--database-url", url, "--from", str(tmp_path / "statements.sql")])
    said = capsys.readouterr()
    assert status == (2 if not url else 1)
    assert says in said.err
    assert PASSWORD not in said.err + said.out


def test_a_missing_parser_is_named(
    guests: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sqlglot", None)
    assert asked(guests, tmp_path) == 1
    assert "pip install 'restaurant-otel[advise]'" in capsys.readouterr().err
