"""What an app asks of its database, from its own query book: told by the API, and turned into advice on indexes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from tests.admin.conftest import client
from tests.admin.shop import BRANCHES, fill
from tests.support.servers import ROOT as CHECKOUT
from tests.support.servers import Server, clean_env
from tests.support.wait import eventually

BY_EMAIL = "/users/{email}"
EMAIL = "u19000@shop.example"
ASKED = 3


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/shop.sqlite3"
    fill(url)
    return url


@pytest.fixture
def workers(tmp_path: Path) -> dict[str, str]:
    """Where the app's processes keep their figures, so that others of this machine can read them."""
    folder = tmp_path / "workers"
    folder.mkdir(mode=0o700)
    return {"RESTAURANT_OTEL_WORKERS_DIR": str(folder)}


@pytest.fixture
def shop(serve: Callable[..., Server], database_url: str, workers: dict[str, str]) -> Server:
    """The app, asked for a user some times and for the staff once."""
    server = serve("uvicorn", "tests.admin.shop:app", env={"TEST_DATABASE_URL": database_url, **workers})
    for _ in range(ASKED):
        assert server.get(f"/users/{EMAIL}").json() == {"id": 19_000}
    assert len(server.get("/staff").json()) == BRANCHES
    return server


@pytest.fixture
def asked(shop: Server) -> Iterator[httpx.Client]:
    with client(shop) as one:
        yield one


def of_route(asked: httpx.Client, route: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = asked.get("/queries", params={"route": route}).json()["items"]
    return items


def test_a_statement_is_told_with_its_routes_and_its_plan(asked: httpx.Client) -> None:
    (found,) = of_route(asked, BY_EMAIL)
    assert found["summary"] == "SELECT users"
    assert found["calls"] == ASKED
    assert found["routes"] == [BY_EMAIL]
    assert 0 < found["mean"] <= found["total"]
    assert found in asked.get("/queries").json()["items"]
    path = f"/queries/{found['fingerprint']}"
    detail = eventually(lambda: one if (one := asked.get(path).json())["slowest"]["plan"] else None)
    assert detail["figures"] == found
    assert detail["rows"] == ASKED
    assert "WHERE users.email = ?" in " ".join(detail["text"].split())
    assert any("by_email" in place for place in detail["locations"])
    assert detail["slowest"]["plan"] == "SCAN users"
    assert detail["slowest"]["route"] == BY_EMAIL
    assert EMAIL not in json.dumps(detail)
    assert asked.get("/queries/0123456789abcdef").status_code == 404


def test_an_n_plus_one_is_told_with_what_to_do(asked: httpx.Client) -> None:
    (found,) = asked.get("/n-plus-one").json()["items"]
    assert found["route"] == "/staff"
    assert found["relationship"] == "User.branch"
    assert found["fix"] == "selectinload(User.branch)"
    assert (found["requests"], found["queries"]) == (1, BRANCHES)
    assert "staff" in found["location"]
    repeated = asked.get(f"/queries/{found['fingerprint']}").json()["figures"]
    assert (repeated["summary"], repeated["calls"]) == ("SELECT branches", BRANCHES)


def test_the_score_recommends_by_name_what_the_app_should_mend(asked: httpx.Client) -> None:
    """No statement of a real database is as fast as the objective that this app has."""
    card = asked.get("/score").json()
    evidence = {
        one["runbook"]: [fact["subject"] for fact in one["evidence"]]
        for one in card["recommendations"]
        if one["component"] == "database"
    }
    assert evidence["n-plus-one"] == ["/staff User.branch"]
    assert set(evidence["slow-database"]) == {"SELECT users", "SELECT branches"}


def test_the_missing_index_is_advised_and_made(asked: httpx.Client, database_url: str) -> None:
    def outcome(job: dict[str, Any]) -> Any:
        def ended() -> dict[str, Any] | None:
            now: dict[str, Any] = asked.get(f"/jobs/{job['id']}").json()
            return now if now["state"] != "running" else None

        done = eventually(ended, within=120)
        assert done["state"] == "done", done["error"]
        return done["result"]

    started = asked.post("/advise", json={})
    assert started.status_code == 202
    advice = outcome(started.json())
    (recommended,) = advice["recommendations"]
    assert recommended["label"] == "users(email)"
    assert recommended["routes"] == [BY_EMAIL]
    assert advice["method"] == "trial on a copy"
    assert EMAIL not in json.dumps(advice)

    wanted = {"job": started.json()["id"], "indexes": [recommended["name"]]}
    proposal = asked.post("/advise/apply", json=wanted).json()
    assert indexes(database_url) == []
    made = asked.post("/advise/apply", json={**wanted, "confirm": proposal["confirm"]}).json()
    (applied,) = outcome(made["job"])["applied"]
    assert applied["done"]
    assert indexes(database_url) == [["email"]]


def indexes(url: str) -> list[Any]:
    engine = sa.create_engine(url)
    try:
        return [one["column_names"] for one in sa.inspect(engine).get_indexes("users")]
    finally:
        engine.dispose()


def advised(url: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).with_name("restaurant-otel"))
    command = [program, "advise", "--database-url", url, "--from", "capture", "--json"]
    return subprocess.run(
        command, env=clean_env(env), cwd=CHECKOUT, capture_output=True, text=True, timeout=120
    )


def test_the_command_reads_the_book_of_an_app_that_runs(
    shop: Server, database_url: str, workers: dict[str, str]
) -> None:
    def answered() -> subprocess.CompletedProcess[str] | None:
        done = advised(database_url, workers)
        return done if done.returncode == 0 else None  # the app's words are saved soon, not at once

    (recommended,) = json.loads(eventually(answered, within=60).stdout)["recommendations"]
    assert recommended["index"]["label"] == "users(email)"
    assert recommended["routes"] == [BY_EMAIL]


def test_the_command_says_how_to_find_the_app(database_url: str) -> None:
    done = advised(database_url, {})
    assert done.returncode == 1
    assert "RESTAURANT_OTEL_WORKERS_DIR" in done.stderr
