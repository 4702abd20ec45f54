"""``restaurant-otel cache clear`` and ``cache stats``: an app's cache from the command line.

Works on Redis itself, whether or not the app runs: what is cleared is gone for all its processes at their next read.
`main` takes the arguments after ``cache`` and returns the exit status: 0, 1 if Redis is away, 2 for wrong arguments.
Not for apps: they call `Cache`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from restaurant_otel.cache import Cache
from restaurant_otel.caching.driver import run
from restaurant_otel.caching.inspect import Contents, contents


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--url",
        default=os.environ.get("RESTAURANT_OTEL_CACHE_URL", "redis://localhost:6379/0"),
        help="where the cache is (default: RESTAURANT_OTEL_CACHE_URL, else redis://localhost:6379/0)",
    )
    common.add_argument("--namespace", default="cache", help="the cache's namespace (%(default)s)")
    common.add_argument("--version", default="1", help="the cache's version (%(default)s)")
    common.add_argument("--timeout", type=float, default=2.0, help="seconds for one exchange (%(default)s)")
    parser = argparse.ArgumentParser(
        prog="restaurant-otel cache", description="Clear an app's cache, or look at it."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    clear = commands.add_parser("clear", parents=[common], help="delete all values, or some")
    what = clear.add_mutually_exclusive_group()
    what.add_argument("--pattern", help="only keys that match, such as 'menu:*'")
    what.add_argument("--tag", help="only values with this tag")
    what.add_argument("--key", help="only this key")
    what.add_argument("--reclaim", action="store_true", help="free Redis's memory at once as well")
    stats = commands.add_parser("stats", parents=[common], help="what Redis holds for it")
    stats.add_argument("--json", action="store_true", help="for programs")
    return parser


@dataclass(frozen=True, slots=True)
class _Answer:
    text: str
    status: int = 0


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the arguments say. Prints; raises only SystemExit, with status 2, for wrong arguments."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        cache = Cache(
            arguments.url, namespace=arguments.namespace, version=arguments.version, timeout=arguments.timeout
        )
        with cache:
            answer = _clear(cache, arguments) if arguments.command == "clear" else _stats(cache, arguments)
    except (ValueError, TypeError) as error:
        parser.error(str(error))
    print(answer.text, file=sys.stderr if answer.status else sys.stdout)
    return answer.status


def _clear(cache: Cache, arguments: argparse.Namespace) -> _Answer:
    if arguments.pattern is not None:
        cache.delete_pattern(arguments.pattern)
        done = f"deleted what matches {arguments.pattern}"
    elif arguments.tag is not None:
        cache.delete_tag(arguments.tag)
        done = f"deleted what is tagged {arguments.tag}"
    elif arguments.key is not None:
        done = f"deleted {arguments.key}" if cache.delete(arguments.key) else f"there was no {arguments.key}"
    else:
        cache.clear(reclaim=arguments.reclaim)
        done = f"cleared {arguments.namespace}"
    # Whatever the outcome in memory, only what Redis has been told counts here: this process ends now.
    return _away(cache) or _Answer(done)


def _stats(cache: Cache, arguments: argparse.Namespace) -> _Answer:
    found = run(contents(cache._core))
    if found is None:
        return _away(cache) or _Answer("there is nothing to look at", 1)
    return _Answer(json.dumps(asdict(found)) if arguments.json else _table(found))


def _away(cache: Cache) -> _Answer | None:
    return None if cache.stats().breaker == "closed" else _Answer("Redis is away: nothing was done", 1)


def _table(found: Contents) -> str:
    rows = [
        (name.replace("_", " "), "" if value is None else str(value)) for name, value in asdict(found).items()
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)


if __name__ == "__main__":
    sys.exit(main())
