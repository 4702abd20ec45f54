"""``restaurant-otel token``: a token for the admin API, for development and first tries."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from restaurant_otel.auth import make_token
from restaurant_otel.commands.common import CommandError, Json, show_json
from restaurant_otel.settings import SettingsError, read_key

app = typer.Typer()

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


@app.command()
def token(
    key: Annotated[
        str,
        typer.Option(
            envvar="RESTAURANT_OTEL_ADMIN_KEY",
            help="The secret, or a private key in PEM; file:/path reads it. Others can read command lines: "
            "better in the variable.",
        ),
    ] = "",
    sub: Annotated[str, typer.Option(help="Whose token it is.")] = "developer",
    scope: Annotated[
        str, typer.Option(help="What it allows: performance:read, :execute, :configure.")
    ] = "performance:read",
    ttl: Annotated[str, typer.Option(help="How long it is good: 90s, 15m, 8h, 1d.")] = "1h",
    algorithm: Annotated[str, typer.Option(help="How it is signed.")] = "HS256",
    audience: Annotated[
        str, typer.Option(envvar="RESTAURANT_OTEL_ADMIN_AUDIENCE", help="Whom it is for.")
    ] = "restaurant-otel",
    issuer: Annotated[
        str | None, typer.Option(envvar="RESTAURANT_OTEL_ADMIN_ISSUER", help="Who issues it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a token for the admin API, signed with the app's own key.

    For development: people get theirs from the identity provider that the setting admin_jwks_url names.
    """
    seconds = _seconds(ttl)
    if not key:
        raise CommandError("there is no key: set RESTAURANT_OTEL_ADMIN_KEY to the app's, or give --key", 2)
    try:
        made = make_token(read_key("key", key) or "", algorithm, sub, scope, seconds, audience, issuer)
    except SettingsError as error:
        raise CommandError(str(error).removeprefix("restaurant-otel: "), 2) from None
    if as_json:
        show_json({"token": made, "sub": sub, "scope": scope, "seconds": seconds})
    else:
        typer.echo(made)


def _seconds(text: str) -> int:
    match = re.fullmatch(r"(\d{1,9})([smhd]?)", text)
    if match is None or not 0 < (seconds := int(match[1]) * _SECONDS[match[2]]) <= 366 * 86_400:
        raise typer.BadParameter("a time such as 90s, 15m, 8h or 1d, at most a year", param_hint="--ttl")
    return seconds
