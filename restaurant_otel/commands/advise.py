"""``restaurant-otel advise``: which indexes a database lacks for what is asked of it, with proof.

Reads the workload from pg_stat_statements, a file, or the query book of an app on this host; see docs/advisor.md.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from restaurant_otel.commands.common import CommandError, Json, progress, show_json, show_table
from restaurant_otel.sql.advisor import Advice, AdviseError, Index, advise, apply
from restaurant_otel.sql.advisor.compare import changes
from restaurant_otel.sql.advisor.report import FORMATS, applied_lines, as_json, write

app = typer.Typer(help="Advise on indexes.")


@app.command(name="advise")
def command(
    database_url: Annotated[
        str,
        typer.Option(envvar="DATABASE_URL", help="The database; it is opened read-only.", show_envvar=True),
    ] = "",
    workload: Annotated[
        str,
        typer.Option(
            "--from", help="'capture', 'pg_stat_statements', or a file of statements (.sql or .json)."
        ),
    ] = "pg_stat_statements",
    form: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "report",
    workers_dir: Annotated[
        str,
        typer.Option(
            envvar="RESTAURANT_OTEL_WORKERS_DIR",
            help="For 'capture': the folder that the app's workers share.",
        ),
    ] = "",
    group: Annotated[
        str,
        typer.Option(
            envvar="RESTAURANT_OTEL_GROUP", help="For 'capture': the name that the app's workers share."
        ),
    ] = "",
    against: Annotated[
        Path | None, typer.Option(help="A file of CREATE INDEX statements, to be judged as well.")
    ] = None,
    heuristic: Annotated[
        bool, typer.Option("--heuristic", help="Do not ask the database what an index would change.")
    ] = False,
    seconds: Annotated[float, typer.Option(min=0, help="How long indexes are tried at most.")] = 300.0,
    apply_: Annotated[
        bool, typer.Option("--apply", help="Make the indexes: one at a time, concurrently, with a way back.")
    ] = False,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Two readings of /metrics, before and after an index was made: tell what changed."),
    ] = None,
    as_json_: Json = False,
) -> None:
    """Say which indexes a database lacks, prove it, and make them if told to.

    Nothing is changed without --apply. Exit status 1 if an index could not be made, 130 if it was interrupted.
    """
    if compare is not None:
        _compare(*compare, as_json_)
        return
    form = "json" if as_json_ else form
    if form not in FORMATS:
        raise typer.BadParameter(f"--format: one of {', '.join(FORMATS)}")
    if not database_url:
        raise typer.BadParameter("--database-url (or DATABASE_URL): which database?")
    try:
        proposals = against.read_text("utf-8") if against is not None else None
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"--against: {against}: {type(error).__name__}") from None
    # Before anything counts: it decides whose book is read.
    shared = {"RESTAURANT_OTEL_WORKERS_DIR": workers_dir, "RESTAURANT_OTEL_GROUP": group}
    os.environ.update({name: value for name, value in shared.items() if value})
    try:
        with progress("looking for indexes", silent=form == "json") as report:
            found = advise(
                database_url,
                workload,
                against=proposals,
                what_if=not heuristic,
                seconds=seconds,
                progress=report if form != "json" else None,
            )
        if apply_:
            _make(database_url, found, silent=form == "json")
    except AdviseError as error:
        raise CommandError(str(error)) from None
    _show(found, form)
    if any(not one.done for one in found.applied):
        raise typer.Exit(1)


def _make(database_url: str, found: Advice, *, silent: bool) -> None:
    """Make what was recommended; what became of it is in `found`, and is told even if this is interrupted."""
    wanted = [one.index for one in found.recommendations]
    try:
        with progress("making indexes", silent=silent) as report, _told_to_end():
            apply(database_url, _told(wanted, report), found.applied.append)
    except KeyboardInterrupt:
        for line in applied_lines(found):
            typer.echo(line, err=True)
        raise typer.Exit(130) from None


@contextmanager
def _told_to_end() -> Iterator[None]:
    """SIGTERM is what Ctrl-C is: what is half-made is taken away before this ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _told(indexes: list[Index], report: Callable[[float, str], None]) -> Iterator[Index]:
    """The same; each is reported when it is its turn to be made."""
    for number, index in enumerate(indexes):
        report(number / len(indexes), index.label)
        yield index


def _compare(before: Path, after: Path, as_json: bool) -> None:
    try:
        found = changes(before.read_text("utf-8"), after.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"--compare: {type(error).__name__}: a reading cannot be read") from None
    except AdviseError as error:
        raise CommandError(str(error)) from None
    if as_json:
        show_json([asdict(one) for one in found])
        return
    head = ("statement", "fingerprint", "calls", "mean ms", "p95 ms", "calls since", "mean ms", "p95 ms")
    rows = [
        (
            one.summary,
            one.fingerprint,
            *(one.calls_before, 1e3 * one.mean_before, _milliseconds(one.p95_before)),
            *(one.calls_after, 1e3 * one.mean_after, _milliseconds(one.p95_after)),
        )
        for one in found
    ]
    show_table(head, rows, right=range(2, len(head)))


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


def _show(found: Advice, form: str) -> None:
    if form == "json":
        show_json(as_json(found))
        return
    typer.echo(write(found, form))
    if form != "report":
        for line in applied_lines(found):
            typer.echo(line, err=True)
