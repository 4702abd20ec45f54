"""What the example does badly its own telemetry finds: the N+1, and the search that reads whole tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from examples.restaurant import seed
from tests.support.servers import Server, clean_env
from tests.support.wait import eventually

ROSTER, SEARCH = "/reports/roster/{branch_id:int}", "/reports/search"
TIMES = 3

READ = """
import dataclasses, json
from restaurant_otel.sql.book import query_book, repeated_queries
found = {"book": query_book(), "repeated": repeated_queries()}
print(json.dumps({name: [dataclasses.asdict(each) for each in some] for name, some in found.items()}))
"""


@pytest.fixture(scope="module")
def told(restaurant: Server, workers_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """The app's query book and its repetitions after a few requests, read by another process."""
    for _ in range(TIMES):
        assert restaurant.get(f"/reports/roster/2?date={seed.FIRST_DAY}").status_code == 200
        assert restaurant.get("/reports/search?q=ann").status_code == 200

    def read() -> dict[str, list[dict[str, Any]]] | None:
        done = subprocess.run(
            [sys.executable, "-c", READ],
            env=clean_env({"RESTAURANT_OTEL_WORKERS_DIR": str(workers_dir)}),
            capture_output=True,
            check=True,
            timeout=60,
        )
        found: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
        words = [each["text"] for each in found["book"]] + [each["fix"] for each in found["repeated"]]
        return found if words and None not in words else None  # words are saved soon, not at once

    return eventually(read, within=30)


def test_the_roster_is_named_as_n_plus_one(restaurant: Server, told: dict[str, list[dict[str, Any]]]) -> None:
    (found,) = told["repeated"]
    assert found["route"] == ROSTER
    assert found["relationship"] == "Schedule.user"
    assert found["fix"] == "selectinload(Schedule.user)"
    assert "examples.restaurant.pages.reports:roster" in found["location"]
    people = len(restaurant.get(f"/reports/roster/2?date={seed.FIRST_DAY}").json()["people"])
    assert (found["requests"], found["queries"]) == (TIMES, TIMES * people)
    labels = {"http_route": ROSTER, "restaurant_db_relationship": "Schedule.user"}
    assert restaurant.scrape().total("restaurant_db_n_plus_one_total", **labels) == TIMES + 1


def test_the_search_is_in_the_book_with_its_route(told: dict[str, list[dict[str, Any]]]) -> None:
    entries = [each for each in told["book"] if [use["route"] for use in each["routes"]] == [SEARCH]]
    assert sorted(each["summary"] for each in entries) == ["SELECT orders", "SELECT users"]
    for entry in entries:
        assert entry["calls"] == TIMES
        assert "LIKE lower(?)" in entry["text"]
        assert "ann" not in entry["text"]
        assert any("reports:search:" in place for place in entry["locations"])
