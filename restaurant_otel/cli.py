"""``restaurant-otel``: the library's abilities at a terminal. Each command lives in a module of its own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from restaurant_otel._version import __version__


def _cache(arguments: Sequence[str]) -> int:
    from restaurant_otel import cache_cli

    return cache_cli.main(arguments)


_COMMANDS: dict[str, tuple[str, Callable[[Sequence[str]], int]]] = {
    "cache": ("clear an app's cache, or look at it", _cache),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (default: the process's) name; its exit status, 2 for wrong arguments."""
    parser = argparse.ArgumentParser(prog="restaurant-otel", description=__doc__.partition(":")[2].strip())
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (explain, _) in _COMMANDS.items():
        commands.add_parser(name, help=explain, add_help=False)
    given = list(sys.argv[1:] if arguments is None else arguments)
    chosen = parser.parse_args(given[:1])
    return _COMMANDS[chosen.command][1](given[1:])
