"""``restaurant-otel admin``: the admin API alone, on a port of its own, beside an app."""

from __future__ import annotations

import dataclasses
import os
from typing import Annotated, Any

import typer

from restaurant_otel.commands.common import CommandError
from restaurant_otel.settings import Settings, SettingsError

app = typer.Typer()

Place = Annotated[
    str | None,
    typer.Option(envvar="RESTAURANT_OTEL_WORKERS_DIR", help="The folder that the app's workers share."),
]
Group = Annotated[
    str | None, typer.Option(envvar="RESTAURANT_OTEL_GROUP", help="The name that the app's workers share.")
]
CacheUrl = Annotated[
    str | None,
    typer.Option(envvar="RESTAURANT_OTEL_CACHE_URL", help="Where the app's cache is, to clear it."),
]


@app.command()
def admin(
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 9470,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    workers_dir: Place = None,
    group: Group = None,
    cache_url: CacheUrl = None,
    cache_namespace: Annotated[str, typer.Option(help="That cache's namespace.")] = "cache",
    cache_version: Annotated[str, typer.Option(help="That cache's version.")] = "1",
) -> None:
    """Serve the admin API on a port of its own, with the numbers of an app that runs elsewhere on this machine.

    The app and this must share a folder or a group (the same RESTAURANT_OTEL_WORKERS_DIR or RESTAURANT_OTEL_GROUP), and
    run as the same user. Keys and rights come from the RESTAURANT_OTEL_ADMIN_* variables.
    """
    if not workers_dir and not group:
        raise CommandError(
            "which app? Give --workers-dir or --group, the same as the app's RESTAURANT_OTEL_WORKERS_DIR or "
            "RESTAURANT_OTEL_GROUP",
            2,
        )
    # Before anything counts: it decides whose numbers these are.
    os.environ.update(
        {
            name: value
            for name, value in (
                ("RESTAURANT_OTEL_WORKERS_DIR", workers_dir),
                ("RESTAURANT_OTEL_GROUP", group),
            )
            if value
        }
    )
    try:
        served = _served(cache_url, cache_namespace, cache_version)
    except SettingsError as error:
        raise CommandError(str(error).removeprefix("restaurant-otel: "), 2) from None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    import uvicorn

    typer.echo(f"serving on http://{host}:{port}", err=True)
    uvicorn.run(served, host=host, port=port, log_level="warning", access_log=False, lifespan="off")


def _served(cache_url: str | None, namespace: str, version: str) -> Any:
    from restaurant_otel.admin import admin_app
    from restaurant_otel.metrics.registry import registry
    from restaurant_otel.scorecard import keeper

    settings = dataclasses.replace(Settings.resolve(), admin=None)
    api = admin_app(settings)
    registry().attach()
    keeper.keep(settings.objectives)
    if cache_url:
        from restaurant_otel.cache import Cache

        api.keep(Cache(cache_url, namespace=namespace, version=version, timeout=2.0))
    api.start()
    return api
