"""`PATCH /settings`: a change holds in all workers, shows in what they do, and is written down."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.admin.conftest import STAYS, by_worker
from tests.admin.shop import fill
from tests.admin.test_api import audited
from tests.support.otlp import SERVER, Receiver, Span
from tests.support.servers import Server
from tests.support.wait import eventually

FULL = {
    "tail_sampling_ratio": 0.0,
    "tail_sampling_slow_seconds": 3600.0,
    "sql_slow_seconds": 3600.0,
    "sql_repeats": 0,
    "log_level": "ERROR",
}
"""Nothing is kept that is not wrong, and no query is found fault with."""

AFTER = {"sql_slow_seconds": 0.0, "sql_repeats": 5}


@pytest.fixture
def shop(serve: Callable[..., Server], otlp_http: Receiver, tmp_path: Path) -> Server:
    """The app with two workers, all of whose traces are kept, and all of whose queries are slow."""
    url = f"sqlite:///{tmp_path}/shop.sqlite3"
    fill(url)
    env = {**otlp_http.env(), "TEST_DATABASE_URL": url, "RESTAURANT_OTEL_TAIL_SAMPLING_RATIO": "1"}
    return serve("uvicorn", "tests.admin.shop:app", workers=2, env=env, args=STAYS)


def test_changed_settings_hold_in_all_workers_and_are_written_down(shop: Server, otlp_http: Receiver) -> None:
    def gained(work: Callable[[], object]) -> tuple[float, float]:
        """Slow queries, and requests with an N+1, that it adds."""
        before = shop.scrape()
        work()
        added = shop.scrape() - before
        return added.total("restaurant_db_slow_queries_total"), added.total("restaurant_db_n_plus_one_total")

    def kept(name: str) -> list[Span]:
        return [span for span in otlp_http.spans(SERVER) if span.name == name]

    def in_force(wanted: dict[str, Any]) -> None:
        def everywhere() -> bool:
            told = [one.get("/settings").json() for one in asked.values()]
            return all(each | wanted == each for each in told)

        eventually(everywhere, within=30)

    with ExitStack() as stack:
        asked = by_worker(shop, stack, sub="operator")
        first = next(iter(asked.values()))

        def visit() -> None:
            """The staff's page, which is an N+1, by each worker."""
            for one in asked.values():
                assert one.get(f"{shop.url}/staff").status_code == 200

        slow, repeated = gained(visit)
        assert slow >= 2 * 21
        assert repeated == 2
        eventually(lambda: len(kept("GET /staff")) == 2)

        changed = first.patch("/settings", json=FULL)
        assert changed.status_code == 200
        assert changed.json() == {**FULL, "changed": sorted(FULL)}
        in_force({**FULL, "changed": sorted(FULL)})
        assert gained(visit) == (0, 0)

        last = list(asked.values())[-1]
        last.patch("/settings", json=AFTER)
        in_force({**FULL, **AFTER})
        slow, repeated = gained(visit)
        assert slow >= 2 * 21
        assert repeated == 2

        # Each worker sends its spans in their order: when the failed one is here, the others will not come.
        for one in asked.values():
            assert one.get(f"{shop.url}/users/nobody").status_code == 500
        eventually(lambda: len(kept("GET /users/{email}")) == 2)
        assert len(kept("GET /staff")) == 2

    lines = [line for line in audited(shop, "operator") if line["what"] == "settings.change"]
    assert [(line["with"], line["outcome"]) for line in lines] == [(FULL, "done"), (AFTER, "done")]


def test_changes_by_several_at_once_are_all_kept_and_none_is_made_of_what_has_changed(shop: Server) -> None:
    with ExitStack() as stack:
        one, other = by_worker(shop, stack).values()

        def change(by: httpx.Client, seen: str | None = None, **what: float) -> httpx.Response:
            return by.patch("/settings", json=what, headers={"If-Match": seen} if seen else {})

        with ThreadPoolExecutor(2) as both:
            for number in range(40):
                first = both.submit(change, one, sql_slow_seconds=float(number))
                second = both.submit(change, other, sql_repeats=number)
                assert first.result().status_code == second.result().status_code == 200
                for each in (one, other):
                    told = each.get("/settings").json()
                    assert (told["sql_slow_seconds"], told["sql_repeats"]) == (number, number)

        seen = one.get("/settings").headers["etag"]
        done = change(other, seen, sql_repeats=7)
        assert done.status_code == 200
        late = change(one, seen, sql_repeats=8)
        assert late.status_code == 412
        assert late.headers["content-type"] == "application/problem+json"
        assert one.get("/settings").json()["sql_repeats"] == 7
        assert done.headers["etag"] == one.get("/settings").headers["etag"]
        assert change(one, f"W/{done.headers['etag']}", sql_repeats=8).status_code == 412
        assert change(one, f'"other", {done.headers["etag"]}', sql_repeats=8).status_code == 200
        assert change(one, "*", sql_repeats=9).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"tail_sampling_ratio": 1.5},
        {"tail_sampling_ratio": "0.5"},
        {"tail_sampling_slow_seconds": -1},
        {"sql_slow_seconds": -0.1},
        {"sql_slow_seconds": "soon"},
        {"sql_repeats": 2.5},
        {"sql_repeats": True},
        {"log_level": "LOUD"},
        {"admin_key": "x" * 40},
        {"sql_plans": False},
    ],
)
def test_a_wrong_value_changes_nothing(everything: httpx.Client, change: dict[str, Any]) -> None:
    before = everything.get("/settings").json()
    assert everything.patch("/settings", json={"log_level": "ERROR", **change}).status_code == 400
    assert everything.get("/settings").json() == before


def test_what_the_app_has_nothing_for_is_refused(everything: httpx.Client) -> None:
    answer = everything.patch("/settings", json={"tail_sampling_ratio": 0.5})
    assert answer.status_code == 409
    assert "tail_sampling_ratio" in answer.json()["detail"]
    assert everything.get("/settings").json()["changed"] == []
