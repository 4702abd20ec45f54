"""The command line: it finds its commands, and says what is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from restaurant_otel import Settings, __version__
from restaurant_otel.cli import main


def test_it_is_installed_under_its_name() -> None:
    program = Path(sys.executable).with_name("restaurant-otel")
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == f"restaurant-otel {__version__}"


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "cache" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["nonesuch"], ["cache"], ["cache", "burn"]])
def test_wrong_arguments_end_with_2_and_a_word(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = int(ended.code or 0)
    assert status == 2
    assert "usage:" in capsys.readouterr().err


def test_its_arguments_reach_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "stats", "--url", "redis://127.0.0.1:1/0", "--timeout", "0.2"]) == 1


def test_its_variable_does_not_disturb_an_app() -> None:
    Settings.resolve({"RESTAURANT_OTEL_CACHE_URL": "redis://localhost/0"})
