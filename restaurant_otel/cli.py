"""``restaurant-otel``: the library's abilities at a terminal.

Here are the names of the commands and nothing of what they do: each is a module of `restaurant_otel.commands` that is
loaded when it is asked for, so that help and completion come at once. How to write one is in CONTRIBUTING.md.

Exit statuses of all commands: 0 done, and well; 1 not done, or what was looked at is not well; 2 wrong arguments;
130 interrupted.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from restaurant_otel._version import __version__
from restaurant_otel.commands.common import CommandError

PROGRAM: Final = "restaurant-otel"

COMMANDS: Final = {
    "demo": "Show it on an example app, under traffic.",
    "doctor": "Find out why nothing shows, and what to do.",
    "top": "Show what an app does, live.",
    "admin": "Serve the admin API on a port of its own.",
    "token": "Make a token for the admin API.",
    "advise": "Find the indexes that a database lacks, and make them if told to.",
    "cache": "Clear a cache, or look at it.",
    "rules": "Export and check the rules of Prometheus, and what Alertmanager needs.",
    "dashboards": "Export the Grafana dashboards, or push them into a Grafana.",
    "score": "Score a fleet by what Prometheus knows.",
}
"""Each command and what it is for, in the order of the help. Its module has the same name, and a Typer app `app`."""

_EXTRAS: Final = {"admin": "admin", "token": "admin", "advise": "advise", "demo": "demo"}
"""What brings the packages that a command needs and the library does without."""


class _Commands(TyperGroup):
    """Knows the commands by name and purpose, and loads one when it is to run."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As click asks for it; the command is the loaded one."""
        name, known, rest = super().resolve_command(ctx, args)
        return name, known and load(str(name)), rest


def load(name: str) -> Any:
    """The click command of the module for `name`, one of `COMMANDS`."""
    module = importlib.import_module(f"restaurant_otel.commands.{name.replace('-', '_')}")
    command = get_command(module.app)
    command.name = name
    # Completion is the whole program's.
    command.params = [option for option in command.params if not str(option.name).endswith("_completion")]
    if not sys.stdout.isatty():
        _make_plain(command)
    return command


def _make_plain(command: Any) -> None:
    """Help and errors without frames and colours."""
    command.rich_markup_mode = None
    for part in getattr(command, "commands", {}).values():
        _make_plain(part)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """The abilities of restaurant-otel at a terminal."""


def root() -> Any:
    """The click group of all commands, none of them loaded."""
    app = typer.Typer(cls=_Commands)
    app.callback()(_root)
    group: Any = get_command(app)
    group.commands.update({name: TyperCommand(name, help=purpose) for name, purpose in COMMANDS.items()})
    if not sys.stdout.isatty():
        _make_plain(group)
    return group


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (default: the process's) name; its exit status. See the module for which."""
    try:
        root().main(args=None if arguments is None else list(arguments), prog_name=PROGRAM)
    except CommandError as failure:
        typer.echo(f"{PROGRAM}: {failure}", err=True)
        return failure.status
    except ModuleNotFoundError as missing:
        words = sys.argv[1:] if arguments is None else arguments
        extra = _EXTRAS.get(next((word for word in words if word in COMMANDS), ""))
        if extra is None or str(missing.name).partition(".")[0] == "restaurant_otel":
            raise
        typer.echo(f"{PROGRAM}: this needs {missing.name}: pip install 'restaurant-otel[{extra}]'", err=True)
        return 1
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    return 0
