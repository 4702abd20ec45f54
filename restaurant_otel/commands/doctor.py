"""``restaurant-otel doctor``: finds why nothing shows, and says what to do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from restaurant_otel.commands.common import CommandError, Json, show_json
from restaurant_otel.diagnosis import environment, machine, network, packages
from restaurant_otel.diagnosis.finding import Finding, Patient

app = typer.Typer()

CHECKS: Final[tuple[Callable[[Patient], Iterator[Finding]], ...]] = (
    environment.check_disabled,
    environment.check_settings,
    environment.check_exporters,
    environment.check_protocol,
    environment.check_sampler,
    environment.check_name,
    packages.check_sqlalchemy,
    packages.check_double,
    machine.check_folder,
    machine.check_redis,
    network.check_collector,
    network.check_metrics,
)


def examine(patient: Patient) -> list[Finding]:
    """All findings, faults first."""
    found = [finding for check in CHECKS for finding in check(patient)]
    return sorted(found, key=lambda finding: ("fault", "warning", "fine").index(finding.level))


@app.command()
def doctor(
    url: Annotated[str | None, typer.Option(help="Where the app is, such as http://localhost:8000.")] = None,
    token: Annotated[
        str | None,
        typer.Option(envvar="RESTAURANT_OTEL_TOKEN", help="The token that /metrics wants, if it does."),
    ] = None,
    pid: Annotated[
        int | None, typer.Option(help="Look at this process's environment instead of this one's (Linux).")
    ] = None,
    patience: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds that the network has.")] = 3.0,
    as_json: Json = False,
) -> None:
    """Find out why nothing shows, and what to do: run it where the app runs, with the app's environment.

    Looks at variables, packages, the workers' folder, the collector and, with --url, at /metrics: guard, clock, workers
    that do not know each other. Ends with 1 if there is a fault.
    """
    found = examine(Patient(os.environ if pid is None else _environment(pid), url, token, patience))
    faults = sum(finding.level == "fault" for finding in found)
    if as_json:
        show_json([asdict(finding) for finding in found])
    else:
        for finding in found:
            colour = typer.colors.RED if finding.level == "fault" else typer.colors.YELLOW
            typer.secho(f"{finding.level}: {finding.what}", fg=colour)
            if finding.do:
                typer.echo(f"  {finding.do}")
        if not found:
            typer.secho("nothing is wrong, as far as can be seen from here", fg=typer.colors.GREEN)
    if faults:
        raise typer.Exit(1)


def _environment(pid: int) -> Mapping[str, str]:
    try:
        data = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError as error:
        raise CommandError(f"the environment of process {pid} cannot be read: {error.strerror}") from None
    pairs = (
        entry.partition("=")[::2] for entry in data.decode("utf-8", "surrogateescape").split("\0") if entry
    )
    return dict(pairs)
