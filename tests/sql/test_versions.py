"""SQLAlchemy's older versions, each in a process of its own: 1.4 (legacy) and 2.0. The newest is everybody else's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sql.conftest import POSTGRES_PORT, Postgres

ROOT = Path(__file__).parents[2]
ALL = "tests/sql/test_every_version.py"
TESTS = {"1.4": [ALL], "2.0": [ALL, "tests/sql/test_repeats.py", "tests/sql/test_pools.py"]}


def folder_of(version: str) -> Path:
    """Where `scripts/setup` has put it; skips the test without (fails it with REQUIRE_SERVERS=1)."""
    folder = Path(sys.prefix) / "versions" / f"sqlalchemy-{version}"
    if not (folder / ".complete").exists():
        reason = f"SQLAlchemy {version} is not in {folder}: run `scripts/setup test` where there is a package index"
        if os.environ.get("REQUIRE_SERVERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", TESTS)
def test_queries_are_told_under(version: str, postgres: Postgres):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", *TESTS[version]],
        env={
            **inherited,
            "PYTHONPATH": f"{folder_of(version)}{os.pathsep}{ROOT}",
            "TESTS_SQLALCHEMY": version,
            POSTGRES_PORT: str(postgres.port),
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
