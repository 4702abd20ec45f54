"""The promise: the restaurant's ten queries, no index at first; what is advised makes them fast, small and cheap."""

from __future__ import annotations

import itertools
import time
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa

from restaurant_otel.sql.advisor import Advice, Index, Key, advise, apply, pipeline
from restaurant_otel.sql.advisor.selection import Bill
from tests.sql.advisor.conftest import THEIRS, WORKLOAD

pytestmark = [pytest.mark.serial, pytest.mark.timeout(300)]

THEIR_INDEXES = [
    Index(table, tuple(map(Key, columns)))
    for table, *columns in (
        ("users", "email"),
        ("users", "role"),
        ("users", "branch_id"),
        ("users", "created_at"),
        ("schedules", "user_id"),
        ("schedules", "date"),
        ("schedules", "date", "user_id"),
    )
]


class Looked(NamedTuple):
    """The advice, and what it has to be as good as."""

    advice: Advice
    best: float
    """The least cost of any set of up to four of all candidates: the planner's on PostgreSQL, on SQLite measured on a
    copy, once for each plan."""
    writes: float
    """What writes cost with the list of seven."""
    size: int
    """The list's bytes."""
    statements: list[tuple[float, list[str]]]
    """The workload: calls, and the statement with each of its values."""


@pytest.fixture(scope="module")
def looked(restaurant: sa.URL) -> Looked:
    found: dict[str, Any] = {}
    selected = pipeline.select

    def spy(tried: Any, bill: Bill, size: Any, *more: Any) -> list[Index]:
        chosen = selected(tried, bill, size, *more)
        bill.until = None
        subsets = list(
            itertools.chain.from_iterable(itertools.combinations(tried, count) for count in range(5))
        )
        found["best"] = min(bill.total(subset) for subset in subsets)
        assert len(subsets) > 1_000
        found["size"] = sum(size(index) for index in THEIR_INDEXES)
        found["writes"] = sum(bill.of_writes(index) for index in THEIR_INDEXES)
        found["statements"] = [(read.calls, read.variants) for read in bill.reads]
        return chosen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "select", spy)
        advice = advise(restaurant, WORKLOAD, against=THEIRS)
    return Looked(advice, **found)


def test_it_is_as_good_as_the_best_four_of_its_candidates(looked: Looked) -> None:
    advice = looked.advice
    assert len(advice.reads) == 10
    assert advice.skipped == []
    assert advice.after <= 1.05 * looked.best
    assert advice.gain >= 0.6


def test_it_is_smaller_and_cheaper_to_write_than_the_list_of_seven(looked: Looked) -> None:
    assert sum(one.write_cost for one in looked.advice.recommendations) <= looked.writes
    assert 0 < looked.advice.size <= looked.size


def test_it_says_where_it_disagrees_with_the_list_and_why(looked: Looked) -> None:
    verdicts = {verdict.index.label: verdict for verdict in looked.advice.verdicts}
    assert len(verdicts) == 7
    assert verdicts["users(email)"].agrees
    assert not verdicts["schedules(date)"].agrees
    assert "a prefix of schedules(date, user_id)" in verdicts["schedules(date)"].why
    assert not verdicts["users(role)"].agrees
    assert "alone it " in verdicts["users(role)"].why


def test_what_wins_is_told_with_its_routes(looked: Looked) -> None:
    advice = looked.advice
    email = next(one for one in advice.recommendations if one.index.label == "users(email)")
    assert email.routes == ("/users/by-email/{email}",)
    read = next(read for read in advice.reads if read.number in email.reads)
    assert read.gain > 0.9
    assert "scan" in " ".join(read.plan_before).lower()
    assert email.index.name in " ".join(read.plan_after)
    assert email.index.name not in " ".join(read.plan_before)


def test_applied_it_makes_the_measured_total_much_faster(looked: Looked, restaurant: sa.URL) -> None:
    assert len(looked.statements) == 10
    before = measured(restaurant, looked.statements)
    made = apply(restaurant, [one.index for one in looked.advice.recommendations])
    try:
        assert all(one.done for one in made)
        assert measured(restaurant, looked.statements) <= 0.4 * before
    finally:
        engine = sa.create_engine(restaurant, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for one in made:
                connection.exec_driver_sql(one.undo)
        engine.dispose()


def measured(url: sa.URL, statements: list[tuple[float, list[str]]]) -> float:
    """Seconds of the whole workload, weighted by calls; the best of several rounds of each statement."""
    engine = sa.create_engine(url)
    total = 0.0
    with engine.connect() as connection:
        for calls, variants in statements:
            for variant in variants:
                taken = []
                for _ in range(3):
                    begin = time.perf_counter()
                    connection.exec_driver_sql(variant, execution_options={"no_parameters": True}).all()
                    taken.append(time.perf_counter() - begin)
                total += calls * min(taken) / len(variants)
    engine.dispose()
    return total
