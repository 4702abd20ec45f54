"""What one HTTP request costs: the bare app, ours, and the peers, in one process, side by side.

Added cost is a variant's cost minus the bare app's. Each group of variants runs in a process of its own,
because several peers keep process-wide state; within a group everything is interleaved. A variant is only
timed after `peers.verify` has seen its spans and counts. README.md says how to run and read it.
"""

from __future__ import annotations

if __name__ == "http":
    raise ImportError(
        "benchmarks/http.py hides the standard library's http: run `python -m benchmarks.<name>`"
    )

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks import anatomy, harness, peers
from benchmarks.harness import Costs, Figure, Summary, Variant
from restaurant_otel import catalog
from restaurant_otel.metrics import registry

REQUESTS = 200  # a sample's; contrib's 600 spans stay far below the batch processor's queue of 2,048


def asgi(arguments: argparse.Namespace) -> int:
    variants = _asgi_variants({name: build() for name, build in peers.ASGI.items()})
    costs = harness.measure(variants, number=REQUESTS, rounds=arguments.rounds)

    def added(ours: str, peer: str) -> float:
        return costs.ratio(ours, peer, over="bare")

    figures = [
        Figure("100 %: ours / contrib", added("ours 100 %", "contrib 100 %"), 0.10, 0.05),
        Figure(
            "100 %: ours / Starlette's, spans only",
            added("ours 100 %", "starlette 100 %, no metrics"),
            0.30,
            0.15,
        ),
        Figure("0 %: ours / contrib", added("ours 0 %", "contrib 0 %"), 0.07, 0.04),
        Figure(
            "0 %: ours / prometheus-fastapi-instrumentator",
            added("ours 0 %", "prometheus-fastapi-instrumentator"),
            0.30,
            0.15,
        ),
    ]
    title = "ASGI: Starlette, 20 routes, 8 headers; added cost over the bare app"
    return harness.report(title, costs, figures, arguments, over="bare")


def wsgi(arguments: argparse.Namespace) -> int:
    return _wsgi("WSGI: a bare callable", peers.WSGI, arguments)


def flask(arguments: argparse.Namespace) -> int:
    return _wsgi("WSGI: Flask, 20 routes", peers.FLASK, arguments)


def _wsgi(
    title: str, table: dict[str, Callable[[], peers.Subject[peers.WSGIApp]]], arguments: argparse.Namespace
) -> int:
    variants = []
    for name, build in table.items():
        subject = build()
        run = peers.wsgi_runner(subject)
        peers.verify(name, subject, run)
        variants.append(Variant(name, run))
    costs = harness.measure(variants, number=REQUESTS, rounds=arguments.rounds)
    figures = [
        Figure("100 %: ours / contrib", costs.ratio("ours 100 %", "contrib 100 %", over="bare"), 0.15, 0.08)
    ]
    return harness.report(f"{title}; added cost over the bare app", costs, figures, arguments, over="bare")


FEW, MANY = 10, 1000


def routes(arguments: argparse.Namespace) -> int:
    """Whether our added cost grows with the number of routes.

    Asked of the first route, where Starlette's own search costs the same in both apps and even a
    fraction of a microsecond shows, and of the last, where a second search of ours would double the cost.
    A long search also leaves the processor's caches cold for all that runs after it; the app with few
    routes therefore does as much searching itself before it answers, among routes that are not its own.
    """
    loop = asyncio.new_event_loop()
    samples: dict[str, Sequence[float]] = {}
    for which, number in (("first", 100), ("last", 20)):  # short samples: less time for the machine to change
        apps = {
            FEW: _app_of_many_routes(FEW, foreign=MANY - FEW if which == "last" else 0),
            MANY: _app_of_many_routes(MANY, foreign=0),
        }
        variants = [
            _of_many_routes(who, app, size, which, loop)
            for size, app in apps.items()
            for who in ("bare", "ours")
        ]
        samples |= harness.measure(variants, number=number, rounds=3 * arguments.rounds).samples
    costs = Costs(samples)
    figures = [_growth(costs, which) for which in ("first", "last")]
    return harness.report(f"Growth from {FEW} to {MANY:,} routes", costs, figures, arguments)


def _app_of_many_routes(size: int, *, foreign: int) -> Starlette:
    others = [Route(f"/foreign{n}/items/{{item_id}}", peers.endpoint) for n in range(foreign)]

    async def search_and_answer(request: Request) -> Response:
        for other in others:
            other.matches(request.scope)
        return await peers.endpoint(request)

    return Starlette(routes=[Route(f"/area{n}/items/{{item_id}}", search_and_answer) for n in range(size)])


def _of_many_routes(
    who: str, app: Starlette, size: int, which: str, loop: asyncio.AbstractEventLoop
) -> Variant:
    # Bare and ours share the app: where a thousand routes lie in memory makes a difference of its own.
    subject = peers.asgi_bare(app) if who == "bare" else peers.asgi_ours(app)
    for place in range(size):  # every route known and counted, as in an app that has run for a while
        peers.asgi_runner(subject, loop, f"/area{place}/items/42")(1)
    name = f"{who}, {which} of {size:,}"
    run = peers.asgi_runner(subject, loop, f"/area{0 if which == 'first' else size - 1}/items/42")
    peers.verify(name, subject, run)
    return Variant(name, run)


def _growth(costs: Costs, which: str) -> Figure:
    """How much more ours adds with many routes than with few; "none measurable" is three standard errors."""

    def added(size: int) -> list[float]:
        where = f"{which} of {size:,}"
        both = zip(costs.samples[f"ours, {where}"], costs.samples[f"bare, {where}"], strict=True)
        return [ours - bare for ours, bare in both]

    growth = Summary.of([many - few for many, few in zip(added(MANY), added(FEW), strict=True)])
    goal = max(1.0, 3 * growth.error)
    return Figure(
        f"added with {MANY:,} routes minus with {FEW}, {which} route", growth.median, goal, unit="us"
    )


def record(arguments: argparse.Namespace) -> int:
    """One record on a bound histogram cell, the loop around it taken off."""
    cell = (
        registry().histogram(catalog.HTTP_SERVER_REQUEST_DURATION).bind("GET", "/", 200, "http", "1.1", None)
    )
    values = [0.001, 0.003, 0.007, 0.02, 0.04, 0.09, 0.15, 0.22, 0.7, 3.0]

    def empty(number: int) -> None:
        for _ in range(number // len(values)):
            for _value in values:
                pass

    def recording(number: int) -> None:
        put = cell.record
        for _ in range(number // len(values)):
            for value in values:
                put(value)

    variants = [Variant("empty loop", empty), Variant("record", recording)]
    costs = harness.measure(variants, number=50_000, rounds=arguments.rounds)
    cost = costs.added("record", "empty loop").median
    figures = [Figure("one histogram record on a bound cell", cost, 0.6, 0.3, unit="us")]
    return harness.report("Histogram cell", costs, figures, arguments, over="empty loop")


def _asgi_variants(subjects: dict[str, peers.Subject[peers.ASGIApp]]) -> list[Variant]:
    loop = asyncio.new_event_loop()
    variants = []
    for name, subject in subjects.items():
        run = peers.asgi_runner(subject, loop)
        peers.verify(name, subject, run)
        variants.append(Variant(name, run))
    return variants


GROUPS: dict[str, Callable[[argparse.Namespace], int]] = {
    "asgi": asgi,
    "wsgi": wsgi,
    "flask": flask,
    "routes": routes,
    "record": record,
}


# --- one process a group ------------------------------------------------------------------------------


def in_processes(arguments: argparse.Namespace) -> int:
    """Run each group in a fresh process, without the caller's OTEL_* variables; 1 if any missed a goal."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "PROMETHEUS_"))
    }
    command = [sys.executable, "-m", "benchmarks.http", "--rounds", str(arguments.rounds)]
    written: dict[str, Any] = {}
    statuses = []
    with tempfile.TemporaryDirectory() as folder:
        for group in GROUPS:
            file = Path(folder, f"{group}.json")
            done = subprocess.run(
                [*command, "--only", group, "--json", str(file)], env=environment, check=False
            )
            statuses.append(done.returncode)
            if file.exists():
                written[group] = json.loads(file.read_text())
    harness.write_json(arguments, written)
    return max(statuses)


def main() -> int:
    made = harness.parser(__doc__)
    made.add_argument("--only", choices=tuple(GROUPS), help="one group, in this process")
    made.add_argument("--profile", action="store_true", help="instead, where our own microseconds go")
    arguments = harness.parse(made)
    if arguments.profile:
        return anatomy.run(arguments)
    return GROUPS[arguments.only](arguments) if arguments.only else in_processes(arguments)


if __name__ == "__main__":
    sys.exit(main())
