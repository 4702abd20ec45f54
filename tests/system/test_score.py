"""The score of several workers: each shows it, and only once, also after the worker that kept it was killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.servers import Server
from tests.support.wait import eventually

COVERAGE = "restaurant_performance_coverage_ratio"


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Server]:
    env = {"RESTAURANT_OTEL_WORKERS_DIR": str(tmp_path)}
    log = tmp_path / "log"
    with servers.start(
        "uvicorn", "tests.system.apps.starlette_app:app", log=log, env=env, workers=3
    ) as server:
        yield server


def keeper_of_the_score(folder: Path) -> int:
    """The process that holds the lock, by the kernel."""
    inodes = {file.stat().st_ino for file in folder.glob("*/*/score")}
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    holders = {int(lock[4]) for lock in locks if lock[1] == "FLOCK" and int(lock[5].split(":")[2]) in inodes}
    assert len(holders) == 1, holders
    return holders.pop()


def shown(server: Server) -> set[int]:
    """How many times the coverage is shown, in several scrapes by whichever worker."""
    return {len(server.scrape().series(COVERAGE)) for _ in range(6)}


def test_each_shows_it_once_also_after_its_keeper_was_killed(workers: Server, tmp_path: Path) -> None:
    for _ in range(30):
        assert workers.get("/items/1").status_code == 200
    assert shown(workers) == {1}
    first = keeper_of_the_score(tmp_path)
    assert first in workers.workers()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: shown(workers) == {1} and keeper_of_the_score(tmp_path) != first, within=60)
    assert keeper_of_the_score(tmp_path) in workers.workers()
