"""``restaurant-otel rules``: Prometheus's rules and Alertmanager's configuration, made for a site and checked.

Exit statuses: 0 done, or all is well; 1 a check failed, or a file could not be written; 2 wrong arguments.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from restaurant_otel import bundled
from restaurant_otel.commands.common import CommandError, Json, show_json, show_table
from restaurant_otel.rules import export as making
from restaurant_otel.rules.alertmanager import VARIABLES, Receivers, ReceiversError
from restaurant_otel.rules.alerts import alerts
from restaurant_otel.rules.options import GRAFANA_URL, Options
from restaurant_otel.scorecard import files
from restaurant_otel.scorecard.files import Goals

app = typer.Typer(help="Prometheus's rules and Alertmanager's configuration.", no_args_is_help=True)

Objectives = Annotated[Path | None, typer.Option(help="A TOML file with objectives of your own.")]
By = Annotated[str, typer.Option(help="Labels that tell services apart, with commas.")]
Selector = Annotated[str, typer.Option(help="Matchers for all series, such as 'env=\"prod\"'.")]
Runbooks = Annotated[
    str, typer.Option(help="Where you keep the runbooks as pages; else Grafana shows them, as a dashboard.")
]
Grafana = Annotated[
    str, typer.Option(envvar="GRAFANA_URL", help="Where Grafana is: links lead there.", show_envvar=True)
]


def options(
    objectives: Path | None, by: str, selector: str, grafana_url: str = GRAFANA_URL, runbooks_url: str = ""
) -> Options:
    """The options that arguments say; raises typer.BadParameter."""
    try:
        goals = files.load(objectives) if objectives is not None else Goals()
        return Options(
            goals.objectives,
            tuple(label.strip() for label in by.split(",") if label.strip()),
            selector,
            grafana_url=grafana_url.rstrip("/"),
            runbooks_url=runbooks_url.rstrip("/"),
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Where to put prometheus/ and alertmanager/.")],
    objectives: Objectives = None,
    by: By = "job",
    selector: Selector = "",
    grafana_url: Grafana = GRAFANA_URL,
    runbooks_url: Runbooks = "",
    as_json: Json = False,
) -> None:
    """Write the rules, and Alertmanager's configuration with the receivers that ALERTS_* variables name."""
    made = making.files(options(objectives, by, selector, grafana_url, runbooks_url), _receivers())
    written = []
    for name, text in made.items():
        file = folder / name
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{file} cannot be written: {error}") from None
        written.append(str(file))
    if as_json:
        show_json({"written": written})
    else:
        typer.echo("\n".join(written))
    if grafana_url == GRAFANA_URL:
        typer.echo(f"Alerts link to {GRAFANA_URL}: say where Grafana is with --grafana-url", err=True)


@app.command()
def check(
    folder: Annotated[
        Path | None, typer.Argument(help="What `export` has written; else what comes with it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Let promtool and amtool, where they are installed, check what was exported."""
    place = folder or bundled.dashboards()
    found = list(_checks(place))
    if as_json:
        show_json([{"file": file, "by": by, "well": well, "says": says} for file, by, well, says in found])
    else:
        show_table(
            ("File", "By", "Result"),
            [
                (file, by, "well" if well else "not checked" if well is None else says)
                for file, by, well, says in found
            ],
        )
    if any(well is False for _, _, well, _ in found):
        raise typer.Exit(1)


@app.command(name="list")
def listing(objectives: Objectives = None, as_json: Json = False) -> None:
    """List the alerts."""
    every = alerts(options(objectives, "job", ""))
    if as_json:
        show_json(
            [
                {
                    "name": each.name,
                    "severity": each.severity,
                    "for": each.hold,
                    "area": each.area,
                    "runbook": each.runbook,
                    "expr": each.expr,
                }
                for each in every
            ]
        )
    else:
        show_table(
            ("Alert", "Severity", "After", "Runbook"),
            [(each.name, each.severity, each.hold, each.runbook) for each in every],
        )


@app.command()
def runbook(
    name: Annotated[str, typer.Argument(help="An alert's name, or a page's.")], as_json: Json = False
) -> None:
    """Print the page for an alert: what it means, and what to do."""
    pages = {alert.name: alert.runbook for alert in alerts(Options())}
    page = bundled.runbooks() / f"{pages.get(name, name)}.md"
    known = sorted({*pages, *pages.values()})
    if pages.get(name, name) not in known or not page.is_file():
        raise typer.BadParameter(f"there is no runbook for {name}; there are: {', '.join(known)}")
    text = page.read_text(encoding="utf-8")
    if as_json:
        show_json({"page": page.stem, "text": text})
    else:
        typer.echo(text)


def _receivers() -> Receivers:
    try:
        return Receivers.from_environment(
            {name: os.environ[name] for name in VARIABLES if name in os.environ}
        )
    except ReceiversError as error:
        raise typer.BadParameter(str(error)) from None


def _checks(folder: Path) -> Iterator[tuple[str, str, bool | None, str]]:
    """(file, program, well or not or None where the program is missing, what it said)."""
    for name, program, *arguments in (
        ("prometheus/recording.yml", "promtool", "check", "rules"),
        ("prometheus/alerts.yml", "promtool", "check", "rules"),
        ("alertmanager/alertmanager.yml", "amtool", "check-config"),
    ):
        file = folder / name
        path = shutil.which(program)
        if not file.is_file():
            yield name, program, False, f"{file} is missing"
        elif path is None:
            yield name, program, None, f"{program} is not installed"
        else:
            done = subprocess.run(  # noqa: S603 - a program of a fixed name, and a file
                [path, *arguments, str(file)], capture_output=True, text=True, timeout=60, check=False
            )
            yield name, program, done.returncode == 0, (done.stdout + done.stderr).strip()
