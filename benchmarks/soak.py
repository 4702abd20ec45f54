"""Many hostile requests in one process: memory flat, files flat, series bounded, and nobody's answer changed.

Every request goes through the bare app and through ours; both must end alike, exceptions included, and our
count of requests must be exact. Routes are 1,000; methods, paths, hosts, queries, headers, and what the client
does meanwhile are drawn at random from a fixed seed. Ends with status 1 when a bound is broken.

Besides, in processes of their own: what 1,000 series weigh, in resident memory, over the bare app.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import random
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from benchmarks import harness, peers
from benchmarks.harness import Figure
from restaurant_otel import ASGIMiddleware, catalog
from restaurant_otel.metrics import Family, HistogramPoint, registry

MOUNTS, EACH = 25, 40  # 1,000 routes; mounts keep Starlette's own search short
MIB = 1024 * 1024


# --- the app ------------------------------------------------------------------------------------------


class AppError(Exception):
    """The app's own failure, which must reach whoever called the app."""


async def _fine(request: Request) -> Response:
    return PlainTextResponse("fine")


async def _fails(request: Request) -> Response:
    raise AppError


async def _refuses(request: Request) -> Response:
    raise HTTPException(418)


async def _reads(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def _streams(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"piece"

    return StreamingResponse(pieces())


async def _breaks(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"piece"
        raise AppError

    return StreamingResponse(pieces())


async def _talks(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        pass


ENDPOINTS = (_fine, _fine, _fine, _fine, _fails, _refuses, _reads, _reads, _streams, _breaks)


def app() -> Starlette:
    def routes() -> Iterator[BaseRoute]:
        for place in range(EACH):
            endpoint = ENDPOINTS[place % len(ENDPOINTS)]
            yield Route(f"/r{place}/{{item}}", endpoint, methods=["GET", "POST"])

    mounts = [Mount(f"/m{n}", routes=list(routes())) for n in range(MOUNTS)]
    return Starlette(routes=[*mounts, WebSocketRoute("/ws/{room}", _talks)])


TEMPLATES = {f"/m{n}/r{place}/{{item}}" for n in range(MOUNTS) for place in range(EACH)} | {"/ws/{room}"}


# --- the requests -------------------------------------------------------------------------------------

METHODS = ("GET", "POST", "HEAD", "OPTIONS", "DELETE", "PATCH", "PUT", "TRACE", "QUERY")


@dataclass(frozen=True, slots=True)
class Sent:
    """One request: what the server passes to the app, and what the client then does."""

    scope: dict[str, Any]
    incoming: tuple[dict[str, Any] | type[BaseException], ...]
    patience: int
    """Messages that the client takes before it is gone and `send` raises."""


def draw(dice: random.Random) -> Sent:
    """One request in twenty is a WebSocket; of the others half are well formed."""
    if dice.random() < 0.05:
        return _websocket(dice)
    hostile = dice.random() < 0.5
    path = _hostile_path(dice) if hostile and dice.random() < 0.7 else _good_path(dice)
    scope = peers.asgi_scope(path="/", method=_method(dice) if hostile else dice.choice(("GET", "POST")))
    scope["path"] = path
    scope["raw_path"] = path.encode("utf-8", "surrogateescape") if path.isprintable() else None
    if hostile:
        _spoil(scope, dice)
    return Sent(scope, _incoming(dice), patience=dice.choice((0, 1, 2, 99, 99, 99, 99, 99)))


def _good_path(dice: random.Random) -> str:
    return f"/m{dice.randrange(MOUNTS)}/r{dice.randrange(EACH)}/{dice.randrange(10**9)}"


def _hostile_path(dice: random.Random) -> str:
    alphabet = "/abc%.\x00\n\r\t\"'\\{}\u202e\u00e9\udcff\U0001f600 ;?#"
    return "/" + "".join(dice.choices(alphabet, k=dice.choice((0, 3, 30, 3000))))


def _method(dice: random.Random) -> str:
    if dice.random() < 0.5:
        return dice.choice(METHODS)
    return dice.choice(("", "get", f"M{dice.randrange(10**6)}", "X" * 3000, "G\u00c9T", "GET\n"))


def _noise(dice: random.Random, most: int) -> bytes:
    return dice.randbytes(dice.randrange(most))


def _spoil(scope: dict[str, Any], dice: random.Random) -> None:
    """Make of a good request what a hostile client, or an odd server, makes of it."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    headers[0] = (
        b"host",
        dice.choice((b"", _noise(dice, 30), f"h{dice.random()}.example:99999".encode(), b"[::1")),
    )
    headers.append((b"content-length", dice.choice((b"abc", b"-1", b"1e9", b"9" * 400, b"", b"\xb2"))))
    headers.append(
        (b"traceparent", dice.choice((b"", _noise(dice, 60), b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01")))
    )
    headers.append((b"baggage", _noise(dice, 200)))
    headers.append((_noise(dice, 20).lower(), _noise(dice, 200)))
    dice.shuffle(headers)
    scope["query_string"] = _noise(dice, 100)
    scope["http_version"] = dice.choice(("1.0", "1.1", "2", "3", "9.9"))
    scope["scheme"] = dice.choice(("http", "https", "gopher", ""))
    for absent in dice.sample(("server", "client", "raw_path", "state"), k=dice.randrange(4)):
        scope[absent] = None
        if dice.random() < 0.5:
            del scope[absent]


def _incoming(dice: random.Random) -> tuple[dict[str, Any] | type[BaseException], ...]:
    body = {"type": "http.request", "body": _noise(dice, 100), "more_body": False}
    part = {**body, "more_body": True}
    gone = {"type": "http.disconnect"}
    return dice.choice(((body, gone), (part, body, gone), (part, gone), (gone,), (asyncio.CancelledError,)))


def _websocket(dice: random.Random) -> Sent:
    scope = peers.asgi_scope()
    scope.update(
        type="websocket",
        scheme="ws",
        subprotocols=[],
        path=dice.choice(("/ws/1", "/ws/2/", "/no", "/ws/\udcff")),
    )
    del scope["method"]
    said = {"type": "websocket.receive", "text": "hello"}
    incoming: tuple[dict[str, Any] | type[BaseException], ...] = (
        {"type": "websocket.connect"},
        *[said] * dice.randrange(4),
        dice.choice(
            ({"type": "websocket.disconnect", "code": dice.randrange(1000, 5000)}, asyncio.CancelledError)
        ),
    )
    return Sent(scope, incoming, patience=dice.choice((0, 2, 99, 99)))


Outcome = tuple[list[str], str | None]


def _copy(scope: dict[str, Any]) -> dict[str, Any]:
    return {key: value.copy() if isinstance(value, dict | list) else value for key, value in scope.items()}


async def play(target: peers.ASGIApp, sent: Sent) -> Outcome:
    """Send it; what the client saw, as text, and the type of what the app raised."""
    incoming = iter(sent.incoming)
    seen: list[str] = []

    async def receive() -> dict[str, Any]:
        step = next(incoming, {"type": "http.disconnect"})
        if isinstance(step, type):
            raise step
        return dict(step)

    async def send(message: peers.Message) -> None:
        if len(seen) >= sent.patience:
            raise OSError("the client is gone")
        seen.append(repr(sorted(message.items())))

    try:
        await target(_copy(sent.scope), receive, send)
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it is, it is compared
        return seen, type(error).__qualname__
    return seen, None


# --- the soak -----------------------------------------------------------------------------------------


class Lines(logging.Handler):
    """Counts what is logged, by logger, and keeps the first line of each: a client must not fill the log."""

    def __init__(self) -> None:
        super().__init__()
        self.by_logger: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        self.by_logger[record.name] += 1
        if self.by_logger[record.name] == 1:
            print(f"  first line of {record.name}: {record.getMessage()!r:.200}", flush=True)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the process holds: bytes resident, files open, threads, series."""

    resident: int
    files: int
    threads: int
    series: int


def read() -> Reading:
    gc.collect()
    process = psutil.Process()
    series = sum(len(family.points) for family in registry().collect())
    return Reading(process.memory_info().rss, process.num_fds(), process.num_threads(), series)


async def soak(total: int, pipeline: peers.Pipeline) -> tuple[list[Reading], int, list[str]]:
    """Play `total` requests; readings along the way, how many were HTTP, and how ours differed, if it did."""
    bare = app()
    ours = ASGIMiddleware(app(), tracer_provider=pipeline.tracer_provider)
    dice = random.Random(1)
    readings: list[Reading] = []
    different: list[str] = []
    requests = 0
    for number in range(total):
        sent = draw(dice)
        requests += sent.scope["type"] == "http"
        due, got = await play(bare, sent), await play(ours, sent)
        if got != due and len(different) < 10:
            different.append(f"request {number}, {sent}: {got} instead of {due}"[:2000])
        if number % 500 == 499:
            pipeline.flush()
            for _ in range(3):  # the loop closes abandoned generators only when something lets it run
                await asyncio.sleep(0)
        if (number + 1) % (total // 20) == 0:
            readings.append(read())
            last = readings[-1]
            print(
                f"  {number + 1:>8} requests   {last.resident / MIB:7.1f} MiB   {last.files:3} files"
                f"   {last.threads:3} threads   {last.series:6} series",
                flush=True,
            )
    return readings, requests, different


def _points(families: list[Family], metric: catalog.Metric) -> list[HistogramPoint]:
    return [
        point
        for family in families
        if family.metric.name == metric.name
        for point in family.points
        if isinstance(point, HistogramPoint)
    ]


def _unknown_labels(families: list[Family]) -> int:
    """Label values of the request's histogram that no code of the app or the server contains."""
    attributes = catalog.HTTP_SERVER_REQUEST_DURATION.attributes
    known: dict[str, set[Any]] = {
        "http.route": TEMPLATES,
        "http.request.method": {*METHODS, "CONNECT", "_OTHER"},
        "url.scheme": {"http", "https", "_OTHER"},
        "network.protocol.version": {"1.0", "1.1", "2", "3", "_OTHER"},
    }
    strange = set()
    for point in _points(families, catalog.HTTP_SERVER_REQUEST_DURATION):
        for name, value in zip(attributes, point.values, strict=True):
            if value is not None and not point.overflow and value not in known.get(name, {value}):
                strange.add((name, value))
    unmatched = {value for name, value in strange if name == "http.route"}
    if len(unmatched) == 1:  # the one bounded value that all unmatched requests share
        strange = {pair for pair in strange if pair[0] != "http.route"}
    for name, value in sorted(strange, key=repr)[:10]:
        print(f"  strange label: {name}={value!r:.100}")
    return len(strange)


def figures_of(readings: list[Reading], requests: int, different: list[str], lines: Lines) -> list[Figure]:
    warm, last = readings[len(readings) // 2], readings[-1]
    families = registry().collect()
    counted = sum(point.count for point in _points(families, catalog.HTTP_SERVER_REQUEST_DURATION))
    active = sum(
        abs(point.value)
        for family in families
        if family.metric in (catalog.HTTP_SERVER_ACTIVE_REQUESTS, catalog.WEBSOCKET_ACTIVE_CONNECTIONS)
        for point in family.points
        if not isinstance(point, HistogramPoint)
    )
    survived = sum(
        point.value
        for family in families
        if family.metric is catalog.TELEMETRY_ERRORS
        for point in family.points
        if not isinstance(point, HistogramPoint)
    )
    most = max((len(family.points) for family in families), default=0)
    return [
        Figure("answers that differ from the bare app's", len(different), 0, unit=""),
        Figure("requests counted, minus sent", abs(counted - requests), 0, unit=""),
        Figure("requests still active at the end", active, 0, unit=""),
        Figure("errors of our own that had to be survived", survived, 0, unit=""),
        Figure("lines logged (the bare app logs none)", lines.by_logger.total(), 100, unit=""),
        Figure(
            "resident memory gained in the second half", (last.resident - warm.resident) / MIB, 2, unit="MiB"
        ),
        Figure("files opened in the second half", last.files - warm.files, 0, unit=""),
        Figure("threads started in the second half", last.threads - warm.threads, 0, unit=""),
        Figure("series of the largest metric", most, 2001, unit=""),
        Figure("label values that only a client can have made", _unknown_labels(families), 0, unit=""),
    ]


# --- the weight of series -----------------------------------------------------------------------------


async def weigh(kind: str) -> dict[str, int]:
    """Request every route once; the bytes and the series that this added to the process."""
    target: peers.ASGIApp = app()
    if kind == "ours":
        target = ASGIMiddleware(target, tracer_provider=peers.Pipeline(sampled=False).tracer_provider)
    paths = [f"/m{n}/r{place}/1" for place in range(EACH) for n in range(MOUNTS)]
    body = {"type": "http.request", "body": b"", "more_body": False}
    for path in paths[:MOUNTS]:
        await play(target, Sent(peers.asgi_scope(path), (body,), 99))
    before = read()
    for path in paths[MOUNTS:]:
        await play(target, Sent(peers.asgi_scope(path), (body,), 99))
    after = read()
    return {"bytes": after.resident - before.resident, "series": after.series - before.series}


def weight() -> Figure:
    """MiB a thousand series, each kind in a fresh process, the bare app's own growth taken off."""

    def weighed(kind: str) -> dict[str, int]:
        command = [sys.executable, "-m", "benchmarks.soak", "--weigh", kind]
        root = Path(__file__).parent.parent
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
        found: dict[str, int] = json.loads(done.stdout)
        return found

    bare, ours = weighed("bare"), weighed("ours")
    mib = (ours["bytes"] - bare["bytes"]) / MIB / ours["series"] * 1000
    return Figure(f"resident memory per 1,000 series ({ours['series']} series)", mib, 1, unit="MiB")


def main() -> int:
    made = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    made.add_argument("--requests", type=int, default=200_000, metavar="N", help="how many (%(default)s)")
    made.add_argument("--quick", action="store_true", help="a tenth of them")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    made.add_argument("--weigh", choices=("bare", "ours"), help=argparse.SUPPRESS)
    arguments = made.parse_args()
    if arguments.weigh:
        print(json.dumps(asyncio.run(weigh(arguments.weigh))))
        return 0
    lines = Lines()
    logging.getLogger().addHandler(lines)
    pipeline = peers.Pipeline(sampled=True)
    total = arguments.requests // (10 if arguments.quick else 1)
    readings, requests, different = asyncio.run(soak(total, pipeline))
    for difference in different:
        print(f"  {difference}")
    figures = [*figures_of(readings, requests, different, lines), weight()]
    return harness.report(f"Soak: {total} requests, 1,000 routes", None, figures, arguments)


if __name__ == "__main__":
    sys.exit(main())
