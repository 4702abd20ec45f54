"""``restaurant-otel dashboards``: the Grafana dashboards as files, or straight into a Grafana.

Exit statuses: 0 done; 1 a file could not be written, or Grafana refused; 2 wrong arguments.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from restaurant_otel.commands.common import CommandError, Json, progress, show_json, show_table
from restaurant_otel.grafana import Schema

app = typer.Typer(help="The Grafana dashboards.", no_args_is_help=True)

Runbooks = Annotated[
    str,
    typer.Option(
        help="Where you keep the runbooks as pages; else links lead to the dashboard that shows them."
    ),
]


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Where to put the dashboards and provisioning.")],
    runbooks_url: Runbooks = "",
    schema: Annotated[
        Schema, typer.Option(help="classic, which every Grafana reads, or v2, with tabs, for Grafana 13.")
    ] = Schema.CLASSIC,
    as_json: Json = False,
) -> None:
    """Write the dashboards, and what provisions them, as Grafana reads them from its disk."""
    from restaurant_otel import grafana

    try:
        written = [str(file) for file in grafana.export(folder, runbooks_url, schema)]
    except OSError as error:
        raise CommandError(f"{folder} cannot be written: {error}") from None
    if as_json:
        show_json({"written": written})
    else:
        typer.echo("\n".join(written))


@app.command()
def push(
    url: Annotated[str, typer.Argument(help="Grafana's address, such as https://grafana.example.org.")],
    token: Annotated[
        str,
        typer.Option(
            envvar="GRAFANA_TOKEN", help="A service account's token, with the role Editor.", show_envvar=True
        ),
    ] = "",
    folder: Annotated[
        str, typer.Option(help="The folder's title; it is made where there is none.")
    ] = "Restaurant",
    overwrite: Annotated[
        bool, typer.Option(help="Replace dashboards that have been changed in Grafana since.")
    ] = False,
    runbooks_url: Runbooks = "",
    timeout: Annotated[float, typer.Option(help="Seconds that Grafana may take to answer.", min=0.1)] = 10.0,
    as_json: Json = False,
) -> None:
    """Put the dashboards into a Grafana, by its HTTP API.

    What is there already and ours is brought up to date. What somebody has changed there is left as it is, and told,
    unless --overwrite is given.
    """
    from restaurant_otel import grafana

    try:
        server = grafana.Grafana(url, token, timeout)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    try:
        with progress("pushing dashboards", silent=as_json) as report:
            pushed = server.push(folder, overwrite=overwrite, runbooks_url=runbooks_url, report=report)
    except grafana.GrafanaError as error:
        raise CommandError(str(error)) from None
    if as_json:
        show_json([{"uid": each.uid, "result": each.result, "url": each.url} for each in pushed])
    else:
        show_table(("Dashboard", "Result", "Address"), [(each.uid, each.result, each.url) for each in pushed])
    if any(each.result == "left" for each in pushed):
        raise CommandError("what was changed in Grafana was left as it is; --overwrite replaces it")
