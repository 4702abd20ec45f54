"""``restaurant-otel demo``: the example app under traffic, and what its one line tells."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final

import typer

from restaurant_otel.commands.common import CommandError

app = typer.Typer()

_PACKAGE: Final = Path(__file__).resolve().parents[1]
_NEEDED: Final = ("aiosqlite", "httpx", "sqlalchemy", "uvicorn", "websockets")


def place() -> Path:
    """The folder that has ``examples/restaurant``: the checkout, or what the wheel brings. Raises CommandError."""
    for folder in (_PACKAGE.parent, _PACKAGE / "_demo"):
        if (folder / "examples" / "restaurant" / "demo.py").is_file():
            return folder
    raise CommandError("the example app is missing; install the library anew")


@app.command()
def demo(
    duration: Annotated[
        float | None, typer.Option(min=1, help="Seconds of traffic; until Ctrl-C unless given.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The app's port; 0 takes a free one.")] = 0,
    workers: Annotated[int, typer.Option(min=1, max=16, help="The app's processes.")] = 1,
    rate: Annotated[float, typer.Option(min=0.1, max=1000, help="Visits a second.")] = 15.0,
) -> None:
    """Start the example restaurant with clients, and show live what its one line of instrumentation tells.

    Ends with a summary, and with 0 only if every answer was counted. Leaves nothing behind.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise CommandError(f"the demo needs {', '.join(missing)}: pip install 'restaurant-otel[demo]'")
    folder = place()
    wanted = {"PORT": port, "WORKERS": workers, "RATE": rate, **({"DURATION": duration} if duration else {})}
    environ = {**os.environ, **{name: str(value) for name, value in wanted.items()}}
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "examples.restaurant.demo"]
    process = subprocess.Popen(command, env=environ, cwd=folder)  # noqa: S603 - our own module
    try:
        status = process.wait()
    except KeyboardInterrupt:
        status = process.wait()  # it has heard it too, and shows its summary
    raise typer.Exit(min(1, abs(status)))
