"""Hand-made cases in which the obvious index is useless or harmful, and some in which it is not."""

from __future__ import annotations

import pytest

from restaurant_otel.sql.advisor import Statement
from tests.sql.advisor.conftest import Bench


@pytest.fixture
def guests(bench: Bench) -> Bench:
    bench.fill()
    return bench


def test_a_missing_index_is_found(guests: Bench) -> None:
    assert guests.advised("SELECT * FROM guests WHERE email = :email") == ["guests(email)"]


def test_a_column_of_few_values_gets_none(guests: Bench) -> None:
    assert guests.advised("SELECT * FROM guests WHERE city = :city") == []


def test_a_rare_value_of_a_column_of_few_does(guests: Bench) -> None:
    rare = guests.advised("SELECT * FROM guests WHERE vip = 1")
    assert rare == ["guests(vip)"]
    assert guests.advised("SELECT * FROM guests WHERE vip = 0") == []


def test_null_is_no_value_that_could_be_had(guests: Bench) -> None:
    # One in 500 has a note: the placeholder stands for one that there is, and NULL is most of the table.
    assert guests.advised("SELECT id FROM guests WHERE note = :note") == ["guests(note)"]
    assert guests.advised("SELECT * FROM guests WHERE note IS NULL") == []


def test_an_order_with_a_limit_is_served(guests: Bench) -> None:
    found = guests.advised("SELECT * FROM guests ORDER BY seen DESC LIMIT 10")
    assert found == ["guests(seen)"]


def test_an_equality_comes_before_a_range(guests: Bench) -> None:
    narrow = "SELECT * FROM guests WHERE visits = :visits AND seen > 'day10' AND seen < 'day101'"
    assert guests.advised(narrow) in (["guests(visits)"], ["guests(visits, seen)"])


def test_nothing_is_made_for_an_or(guests: Bench) -> None:
    assert guests.advised("SELECT * FROM guests WHERE city = :city OR visits > :visits") == []
    assert guests.advised("SELECT * FROM guests WHERE NOT (email = :email)") == []


def test_a_pattern_without_a_beginning_gets_none(guests: Bench) -> None:
    assert guests.advised("SELECT * FROM guests WHERE email LIKE '%7@x%'") == []
    assert guests.advised("SELECT * FROM guests WHERE email LIKE :pattern") == []


def test_a_pattern_with_a_beginning_gets_what_the_database_can_use(guests: Bench) -> None:
    found = guests.advised("SELECT * FROM guests WHERE email LIKE 'guest77%'")
    assert found == (["guests(email text_pattern_ops)"] if guests.system == "postgresql" else [])


def test_an_expression_gets_no_index_on_its_column(guests: Bench) -> None:
    assert guests.advised("SELECT * FROM guests WHERE lower(email) = 'guest7@x.example'") == []
    assert guests.advised("SELECT * FROM guests WHERE visits + 1 = 7") == []


def test_a_join_is_served_on_the_side_that_is_looked_up(guests: Bench) -> None:
    guests.fill("stays", 5_000)
    found = guests.advised(
        "SELECT s.id FROM guests g JOIN stays s ON s.email = g.email WHERE g.id = :id",
    )
    assert found == ["stays(email)"]


def test_what_is_indexed_already_is_not_advised(guests: Bench) -> None:
    guests.run("CREATE INDEX there ON guests (email, city)")
    assert guests.advised("SELECT * FROM guests WHERE email = :email") == []
    assert guests.advised("SELECT * FROM guests WHERE id = :id AND email = :email") == []


def test_a_partial_index_is_not_taken_for_a_whole_one(guests: Bench) -> None:
    guests.run("CREATE INDEX ix_guests_email ON guests (email) WHERE vip = 1")
    advice = guests.advice("SELECT * FROM guests WHERE email = :email")
    (made,) = advice.recommendations
    assert (made.index.label, made.index.name) == ("guests(email)", "ix_guests_email_2")
    assert guests.advised("SELECT * FROM guests WHERE email = :email AND vip = 1") == []


def test_a_table_that_is_mostly_written_gets_none(guests: Bench) -> None:
    read = Statement("SELECT * FROM guests WHERE visits = :visits", calls=1)
    write = Statement("INSERT INTO guests (email, visits) VALUES (:email, :visits)", calls=1_000_000)
    assert guests.advised(read) == ["guests(visits)"]
    assert guests.advised(read, write) == []
    elsewhere = Statement("UPDATE guests SET city = :city WHERE id = :id", calls=1_000_000)
    assert guests.advised(read, elsewhere) in ([], ["guests(visits)"])  # it costs, but not by this index


def test_updates_of_other_columns_do_not_count_against_an_index(guests: Bench) -> None:
    elsewhere = Statement("UPDATE guests SET city = :city WHERE id = :id", calls=1_000)
    itself = Statement("UPDATE guests SET visits = :visits WHERE id = :id", calls=1_000)
    read = Statement("SELECT * FROM guests WHERE visits = :visits", calls=1_000)
    (spared,) = guests.advice(read, elsewhere).recommendations
    (charged,) = guests.advice(read, itself).recommendations
    assert spared.write_cost == 0
    assert charged.write_cost > 0


def test_a_small_table_gets_none(bench: Bench) -> None:
    bench.fill(rows=20)
    assert bench.advised("SELECT * FROM guests WHERE email = :email") == []


def test_an_empty_table_or_workload_is_no_trouble(bench: Bench) -> None:
    bench.run("CREATE TABLE deserted (id INTEGER PRIMARY KEY, name VARCHAR(20))")
    assert bench.advised() == []
    assert bench.advised("SELECT * FROM deserted WHERE name = :name") == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELEC * FROM guests",
        "SELECT 1; DROP TABLE guests",
        "DROP TABLE guests",
        "WITH gone AS (DELETE FROM guests RETURNING id) SELECT * FROM gone",
        "SELECT * INTO copy FROM guests",
        "SELECT no_such_column FROM guests",
        "SELECT * FROM no_such_table",
    ],
)
def test_what_cannot_be_read_is_left_out_with_a_reason_and_never_run(guests: Bench, statement: str) -> None:
    advice = guests.advice(statement, "SELECT * FROM guests WHERE email = :email")
    assert [one.index.label for one in advice.recommendations] == ["guests(email)"]
    (skipped,) = advice.skipped
    assert skipped.reason
    assert guests.rows("SELECT count(*) FROM guests")[0][0] == 20_000
