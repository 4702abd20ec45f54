"""`restaurant-otel demo`: it runs where the example is, and says what is missing where it cannot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from restaurant_otel.cli import main
from restaurant_otel.commands import demo
from tests.support.servers import clean_env


def test_it_runs_and_everything_is_counted(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("restaurant-otel")
    done = subprocess.run(
        [program, "demo", "--duration", "3", "--rate", "5"],
        cwd=tmp_path, env=clean_env(), capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "/menu" in done.stdout


def test_what_is_missing_is_told_with_what_brings_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "_NEEDED", ("no_such_package",))
    assert main(["demo"]) == 1
    assert "pip install 'restaurant-otel[demo]'" in capsys.readouterr().err
