"""``restaurant-otel cache clear`` and ``cache stats``: an app's cache from the command line.

Works on Redis itself, whether or not the app runs: what is cleared is gone for all its processes at their next read.
Not for apps: they call `Cache`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer

from restaurant_otel.cache import Cache
from restaurant_otel.caching.driver import run
from restaurant_otel.caching.inspect import contents
from restaurant_otel.commands.common import CommandError, Json, progress, show_json, show_table

app = typer.Typer(help="Clear an app's cache, or look at it.", no_args_is_help=False)

Url = Annotated[str, typer.Option(envvar="RESTAURANT_OTEL_CACHE_URL", help="Where the cache is.")]
Namespace = Annotated[str, typer.Option(help="The cache's namespace.")]
Version = Annotated[str, typer.Option(help="The cache's version.")]
Timeout = Annotated[float, typer.Option(help="Seconds for one exchange with Redis.")]

_URL = "redis://localhost:6379/0"


@app.command()
def clear(
    url: Url = _URL,
    namespace: Namespace = "cache",
    version: Version = "1",
    timeout: Timeout = 2.0,
    pattern: Annotated[str | None, typer.Option(help="Only keys that match, such as 'menu:*'.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only values with this tag.")] = None,
    key: Annotated[str | None, typer.Option(help="Only this key.")] = None,
    reclaim: Annotated[bool, typer.Option("--reclaim", help="Free Redis's memory at once as well.")] = False,
    as_json: Json = False,
) -> None:
    """Delete all values of a cache, or some."""
    if sum((pattern is not None, tag is not None, key is not None, reclaim)) > 1:
        raise typer.BadParameter("--pattern, --tag, --key and --reclaim exclude each other")
    with _cache(url, namespace, version, timeout) as cache:
        if pattern is not None:
            cache.delete_pattern(pattern)
            done = f"deleted what matches {pattern}"
        elif tag is not None:
            cache.delete_tag(tag)
            done = f"deleted what is tagged {tag}"
        elif key is not None:
            done = f"deleted {key}" if cache.delete(key) else f"there was no {key}"
        else:
            with progress("freeing memory", silent=as_json or not reclaim):
                cache.clear(reclaim=reclaim)
            done = f"cleared {namespace}"
        # Whatever the outcome in memory, only what Redis has been told counts here: this process ends now.
        _insist_on_redis(cache)
    if as_json:
        show_json({"done": done})
    else:
        typer.echo(done)


@app.command()
def stats(
    url: Url = _URL,
    namespace: Namespace = "cache",
    version: Version = "1",
    timeout: Timeout = 2.0,
    as_json: Json = False,
) -> None:
    """Tell what Redis holds for a cache."""
    with _cache(url, namespace, version, timeout) as cache:
        found = run(contents(cache._core))
        _insist_on_redis(cache)
    if found is None:
        raise CommandError("there is nothing to look at")
    if as_json:
        show_json(asdict(found))
    else:
        show_table((), [(name.replace("_", " "), value) for name, value in asdict(found).items()])


@contextmanager
def _cache(url: str, namespace: str, version: str, timeout: float) -> Iterator[Cache]:
    """The cache; what is wrong with its arguments is a mistake in the command's."""
    try:
        with Cache(url, namespace=namespace, version=version, timeout=timeout) as cache:
            yield cache
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(str(error)) from None


def _insist_on_redis(cache: Cache) -> None:
    if cache.stats().breaker != "closed":
        raise CommandError("Redis is away: nothing was done")
