"""The command line: it finds its commands, says what is wrong, and loads only what it needs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from restaurant_otel import Settings, __version__, cli
from restaurant_otel.cli import COMMANDS, main

PROGRAM = Path(sys.executable).with_name("restaurant-otel")


def test_it_is_installed_under_its_name() -> None:
    done = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == f"restaurant-otel {__version__}"


def test_help_names_the_commands_and_loads_none_of_them() -> None:
    script = (
        "import sys; from restaurant_otel.cli import main; status = main(['--help']);"
        "print([name for name in sys.modules if name.startswith('restaurant_otel.commands.')]); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for name, purpose in COMMANDS.items():
        assert name in done.stdout
        assert purpose.split()[0] in done.stdout
    assert done.stdout.splitlines()[-1] == "['restaurant_otel.commands.common']"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself_plainly_where_there_is_no_terminal(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"restaurant-otel {name}" in shown
    assert not set("╭│\x1b") & set(shown)


@pytest.mark.parametrize("arguments", [[], ["nonesuch"], ["cache"], ["cache", "burn"]])
def test_wrong_arguments_end_with_2_and_a_word(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "Usage:" in capsys.readouterr().err


def test_a_command_that_is_nearly_right_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cahce"]) == 2
    assert "Did you mean 'cache'?" in capsys.readouterr().err


def test_a_failure_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "stats", "--url", "redis://127.0.0.1:1/0", "--timeout", "0.2"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "restaurant-otel: Redis is away: nothing was done\n"


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("sqlalchemy", ["advise", "--help"], "advise"),
        (
            "sqlglot",
            ["advise", "--database-url", "sqlite:///FOLDER/db", "--from", "FOLDER/asked.sql"],
            "advise",
        ),
        ("jwt", ["token", "--key", "k" * 40], "admin"),
        ("jwt", ["admin", "--group", "shop"], "admin"),
        ("uvicorn", ["demo"], "demo"),
    ],
)
def test_a_package_that_is_missing_is_told_with_what_brings_it(
    missing: str, arguments: list[str], extra: str, tmp_path: Path
) -> None:
    (tmp_path / "db").touch()
    (tmp_path / "asked.sql").write_text("SELECT 1;")
    given = [word.replace("FOLDER", str(tmp_path)) for word in arguments]
    # As where it is not installed: a module that is None cannot be imported, and is not found.
    script = (
        f"import sys, importlib.util as u; sys.modules[{missing!r}] = None; find = u.find_spec;"
        f"u.find_spec = lambda name, *more: None if name == {missing!r} else find(name, *more);"
        f"from restaurant_otel.cli import main; sys.exit(main({given!r}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode in (1, 2)
    *_, line = done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    assert f"pip install 'restaurant-otel[{extra}]'" in line


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_is_told_how_to_complete(shell: str) -> None:
    asked = {
        "_RESTAURANT_OTEL_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "restaurant-otel ca",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "restaurant-otel ca",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run([PROGRAM], env={**os.environ, **asked}, capture_output=True, text=True, timeout=30)
    assert "cache" in re.findall(r"[\w-]+", done.stdout)
    # zsh shows none of them.
    assert not any("'" in purpose for purpose in COMMANDS.values())


def test_what_is_shown_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    from restaurant_otel.commands.common import show_json, show_table

    show_table(("name", "n"), [("evil\x1b[2J\n", 1.23456), ("b", None)], right=(1,))
    assert capsys.readouterr().out == "name           n\nevil�[2J�  1.235\nb\n"
    show_json({"a": Path("b")})
    assert json.loads(capsys.readouterr().out) == {"a": "b"}


def test_its_variable_does_not_disturb_an_app() -> None:
    Settings.resolve({"RESTAURANT_OTEL_CACHE_URL": "redis://localhost/0"})


def test_every_command_has_a_module() -> None:
    for name in COMMANDS:
        assert cli.load(name).name == name
