"""What the commands have in common: how they fail, and how they show what they found.

A command prints for people unless it is given ``--json``: then exactly one JSON document. On a terminal tables have
colours; anywhere else they are plain columns, for pipes and files. What went wrong is one line on standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
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


@contextmanager
def progress(what: str, *, silent: bool = False) -> Iterator[Callable[[float, str], None]]:
    """Tell on standard error how far long work is: gives `report(share, step)`, the share being one of 1.

    On a terminal it is a bar, gone when the work has ended, which only moves to and fro until the first report;
    anywhere else a line when the work begins and one for each step. Nothing if `silent`: programs read that.
    """
    if silent:
        yield lambda share, step: None  # noqa: ARG005 - the shape of a report
    elif sys.stderr.isatty():
        from rich import progress as bars
        from rich.console import Console

        columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.TimeElapsedColumn())
        with bars.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda share, step: bar.update(
                task, total=1.0, completed=share, description=f"{what}: {shown(step)}"
            )
    else:
        typer.echo(f"{what} …", err=True)
        told = ""

        def tell(share: float, step: str) -> None:
            nonlocal told
            if step != told:
                told = step
                typer.echo(f"{what}: {share:.0%}, {shown(step)}", err=True)

        yield tell


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
