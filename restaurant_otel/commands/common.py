"""What the commands have in common: how they fail, and how they show what they found.

A command prints for people unless it is given ``--json``: then exactly one JSON document. On a terminal tables have
colours; anywhere else they are plain columns, for pipes and files. What went wrong is one line on standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="For programs: one JSON document.")]
"""The option that every command has."""


class CommandError(Exception):
    """The command could not do it: `main` prints the message, one line, and ends with `status`."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def show_json(found: Any) -> None:
    """Print `found` as one JSON document; what JSON has no form for, as its text."""
    typer.echo(json.dumps(found, ensure_ascii=False, default=str))


def show_table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[int] = ()) -> None:
    """Print a table; None is an empty cell. The columns `right`, by number, are numbers.

    Cells are shown as they are: control characters in them are replaced, so that no name can steer the terminal.
    """
    cells = [[shown(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _rich_table(head, cells, right)
    else:
        typer.echo(columns(head, cells, right))


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Aligned columns of plain text, two spaces apart; without a head if that is empty."""
    lines = ([head] if head else []) + list(rows)
    if not lines:
        return ""
    widths = [max(len(line[number]) for line in lines) for number in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def shown(cell: Any) -> str:
    """A cell's text: nothing for None, four digits of a float, no control characters."""
    if cell is None:
        return ""
    text = f"{cell:.4g}" if isinstance(cell, float) else str(cell)
    return "".join(character if character.isprintable() else "�" for character in text)


def _rich_table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=bool(head), header_style="bold", pad_edge=False)
    for number in range(len(head) or len(rows[0] if rows else ())):
        name = head[number] if head else ""
        table.add_column(name, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
