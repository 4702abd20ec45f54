"""What is there already: duplicates, prefixes, unused ones, foreign keys without an index; nothing that is needed."""

from __future__ import annotations

import pytest

from tests.sql.advisor.conftest import Bench


@pytest.fixture
def guests(bench: Bench) -> Bench:
    bench.fill(rows=5_000)
    return bench


def found(bench: Bench, kind: str) -> list[str]:
    return [one.subject for one in bench.advice().findings if one.kind == kind]


def test_duplicates(guests: Bench) -> None:
    guests.run("CREATE INDEX one ON guests (email)", "CREATE INDEX two ON guests (email)")
    assert len(found(guests, "duplicate")) == 1


def test_an_index_beside_a_unique_one_is_the_duplicate(guests: Bench) -> None:
    guests.run("CREATE UNIQUE INDEX keep ON guests (email)", "CREATE INDEX drop_me ON guests (email)")
    assert found(guests, "duplicate") == ["drop_me"]


def test_prefixes(guests: Bench) -> None:
    guests.run("CREATE INDEX short ON guests (seen)", "CREATE INDEX long ON guests (seen, visits)")
    assert found(guests, "redundant") == ["short"]


def test_what_upholds_something_or_is_partial_is_never_superfluous(guests: Bench) -> None:
    guests.run(
        "CREATE UNIQUE INDEX pair ON guests (id, email)",
        "CREATE UNIQUE INDEX lonely ON guests (email)",
        "CREATE INDEX longer ON guests (email, seen)",
        "CREATE INDEX partly ON guests (email) WHERE vip = 1",
        "CREATE INDEX lowered ON guests (lower(email))",
    )
    assert found(guests, "redundant") == []
    assert found(guests, "duplicate") == []


def test_foreign_keys(guests: Bench) -> None:
    guests.run(
        "CREATE TABLE stays (id INTEGER PRIMARY KEY, guest_id INTEGER REFERENCES guests (id), room INTEGER)",
        "INSERT INTO stays SELECT id, id, 1 FROM guests",
        "ANALYZE stays",
    )
    assert found(guests, "foreign key") == ["guest_id"]
    guests.run("CREATE INDEX fixed ON stays (guest_id, room)")
    assert found(guests, "foreign key") == []


def test_unused_ones_where_the_database_counts(guests: Bench) -> None:
    guests.run("CREATE INDEX idle ON guests (email)", "CREATE UNIQUE INDEX upholds ON guests (email, id)")
    assert found(guests, "unused") == (["idle"] if guests.system == "postgresql" else [])
