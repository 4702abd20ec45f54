"""``restaurant-otel top``: an app's figures, live."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import Annotated

import typer

from restaurant_otel.commands.common import CommandError, Json, show_json, show_table
from restaurant_otel.live import draw
from restaurant_otel.live.draw import SORTS, View, percent, seconds
from restaurant_otel.live.keys import keys
from restaurant_otel.live.screen import Look
from restaurant_otel.live.sources import Administered, AwayError, Scrapes, Source

app = typer.Typer()


@app.command()
def top(
    url: Annotated[
        str, typer.Argument(help="The app: its root, its /metrics, or with --admin its admin API.")
    ],
    admin: Annotated[bool, typer.Option("--admin", help="The URL is that of the admin API.")] = False,
    token: Annotated[
        str | None,
        typer.Option(envvar="RESTAURANT_OTEL_TOKEN", help="A bearer token, where one is wanted."),
    ] = None,
    interval: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between two looks.")] = 2.0,
    sort: Annotated[
        str, typer.Option(help=f"By what routes are sorted: {', '.join(SORTS.values())}.")
    ] = "p95",
    only: Annotated[str, typer.Option("--filter", help="Only routes that contain this.")] = "",
    once: Annotated[bool, typer.Option("--once", help="Look for one interval, print, and end.")] = False,
    as_json: Json = False,
) -> None:
    """Show an app's score, slowest routes, queries, caches and workers, live.

    Keys: p, m, r, e, c and n sort routes (95th percentile, mean, rate, errors, count, name), again turns round; /
    filters, Esc drops the filter, space pauses, q ends. Without a terminal, or with --once or --json, it prints one
    look.
    """
    if sort not in SORTS.values():
        raise typer.BadParameter(f"one of {', '.join(SORTS.values())}", param_hint="--sort")
    source = Administered(url, token) if admin else Scrapes(url, token)
    view = View(sort=sort, filter=only, falling=sort != "route")
    if once or as_json or not sys.stdout.isatty():
        _print(_one_look(source, interval), view, as_json)
    else:
        _live(source, view, interval)


def _one_look(source: Source, interval: float) -> Look:
    try:
        source.look()
        time.sleep(interval)
        return source.look()
    except AwayError as error:
        raise CommandError(str(error)) from None


def _print(look: Look, view: View, as_json: bool) -> None:
    routes = draw.sorted_routes(look, view)
    if as_json:
        show_json({**asdict(look), "routes": [asdict(one) for one in routes]})
        return
    show_table(
        (),
        [
            ("service", look.service),
            ("score", look.score),
            ("workers", look.workers),
            ("requests/s", look.request_rate),
            ("errors", percent(look.error_ratio)),
            ("mean", seconds(look.mean)),
            ("p95", seconds(look.p95)),
            *((f"score: {one.name}", one.points) for one in look.components),
        ],
    )
    typer.echo()
    show_table(
        ("count", "req/s", "errors", "mean", "p95", "route"),
        [
            (
                one.count,
                one.rate,
                percent(one.error_ratio),
                seconds(one.mean),
                seconds(one.p95),
                f"{one.method} {one.route}",
            )
            for one in routes[:20]
        ],
        right=(0, 1, 2, 3, 4),
    )
    if look.queries:
        typer.echo()
        queries = sorted(look.queries, key=lambda one: one.total, reverse=True)
        rows = [(one.calls, seconds(one.total), seconds(one.mean), one.summary) for one in queries[:20]]
        show_table(("calls", "total", "mean", "query"), rows, right=(0, 1, 2))


def _live(source: Source, view: View, interval: float) -> None:
    from rich.console import Console, Group
    from rich.live import Live

    console = Console()
    look: Look | None = None
    due = 0.0
    with keys() as read, Live(console=console, screen=True, auto_refresh=False, transient=True) as live:
        while True:
            if time.monotonic() >= due and not view.paused:
                try:
                    look, view.problem = source.look(), ""
                except AwayError as error:
                    view.problem = str(error)
                due = time.monotonic() + interval
            live.update(Group(*draw.draw(look, view, console.width, console.height)), refresh=True)
            key = read(min(interval, due - time.monotonic()) if not view.paused else 0.5)
            if key and not draw.press(view, key):
                return
