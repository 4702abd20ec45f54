"""How far it is: shares that only grow, from 0 to 1, for whoever asks."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from restaurant_otel.sql.advisor import AdviseError, advise
from restaurant_otel.sql.advisor.progress import Progress
from tests.sql.advisor.conftest import THEIRS, WORKLOAD


def test_an_advice_tells_how_far_it_is(restaurant: sa.URL) -> None:
    told: list[tuple[float, str]] = []
    watched = advise(restaurant, WORKLOAD, against=THEIRS, progress=lambda *how: told.append(how))
    assert watched.recommendations
    shares, steps = [share for share, _ in told], list(dict.fromkeys(step for _, step in told))
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert shares == sorted(shares)
    assert shares.count(1.0) == 1, "the end is told once, and only at the end"
    copied = ["copying the database", "making indexes on the copy"]
    assert steps == [
        "reading the schema",
        "reading the workload",
        "reading statements",
        "sampling tables",
        *(copied if restaurant.get_backend_name() == "sqlite" else []),
        "asking for plans",
        "asking about all indexes at once",
        "weighing sets of indexes",
        "exchanging",
        "writing it up",
        "done",
    ]
    assert len(told) > 30, "as many as there are statements, tables and indexes"


def test_time_that_is_up_is_no_way_back(restaurant: sa.URL) -> None:
    shares: list[float] = []
    advise(restaurant, WORKLOAD, seconds=0, progress=lambda share, _: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_who_watches_can_end_it(restaurant: sa.URL) -> None:
    def enough(share: float, _: str) -> None:
        if share > 0.5:
            raise AdviseError("enough")

    with pytest.raises(AdviseError, match="enough"):
        advise(restaurant, WORKLOAD, progress=enough)


@given(
    phases=st.lists(
        st.tuples(st.integers(0, 2_000), st.integers(0, 2_000), st.floats(0, 1), st.booleans()), max_size=6
    )
)
def test_shares_only_grow_and_are_few_whatever_ends_a_phase(
    phases: list[tuple[int, int, float, bool]],
) -> None:
    told: list[float] = []
    progress = Progress(lambda share, _: told.append(share))
    for number, (steps, taken, until, is_round) in enumerate(phases):
        end = progress.half_way(until) if is_round else until
        for place, _ in enumerate(progress.over(range(steps), str(number), end)):
            if place == taken:
                break
    progress.at(1.0, "done")
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert all(0 <= share <= 1 for share in told)
    assert len(told) <= 1 / 0.002 + 2 * len(phases) + 2


def test_nothing_stands_between_where_nobody_asked() -> None:
    items = [1, 2, 3]
    assert Progress().over(items, "step", 1.0) is items
