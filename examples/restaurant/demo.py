"""``make demo``: the app, its clients, and what its one line tells, live.

Starts the app on a database of its own, traffic, and Prometheus where it is installed; shows figures read
from /metrics; ends after DURATION seconds, or at Ctrl-C or SIGTERM, with a summary, and leaves nothing
behind. The exit status is 0 only if the app answered as it should and every answer was counted, which
makes it a smoke test too. Settings are environment variables: see `Options`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import httpx
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateSchema, DropSchema

from examples.restaurant import bulk, figures, show
from examples.restaurant.database import database_url, make_engine
from examples.restaurant.figures import Figures
from examples.restaurant.parts import DemoError, Part, free_port, running
from examples.restaurant.seed import seed
from examples.restaurant.traffic import Traffic

WINDOW_SECONDS = 5
LINE_EVERY_SECONDS = 5
SCRAPE_SECONDS = 2
SETTLE_SECONDS = 10.0
"""How long the last numbers may take to arrive in /metrics, and in Prometheus."""
GRAPH = "sum by (http_route) (rate(http_server_request_duration_seconds_count[30s]))"


@dataclass(frozen=True)
class Options:
    """The demo's settings, each from the environment variable of its name in capitals."""

    duration: float | None = None
    """Seconds of traffic; until Ctrl-C where it is not set."""
    port: int = 0
    """The app's port on 127.0.0.1; 0: a free one."""
    workers: int = 1
    """The app's processes."""
    rate: float = 15.0
    """Visits a second; each makes one to three requests."""
    scale: int = 1
    """Size of the data, in times of the smallest."""
    size: str = ""
    """``real``: 200,000 users and 1,000,000 shifts as well."""
    indexes: str = "app"
    """``none``: users and schedules have none but the unique ones, for `restaurant-otel advise` to find the others."""
    database_url: str = ""
    """A PostgreSQL database, in which a schema is made and dropped; SQLite in a temporary file otherwise."""

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Options:
        """The settings; DemoError names the one that makes no sense."""
        kinds = {"duration": float, "port": int, "workers": int, "rate": float, "scale": int}
        values: dict[str, float | int] = {}
        for name, kind in kinds.items():
            if text := env.get(name.upper()):
                try:
                    values[name] = kind(text)
                except ValueError:
                    raise DemoError(f"{name.upper()}={text}: not a number") from None
        words = {name: env.get(name.upper()) or getattr(cls, name) for name in ("size", "indexes")}
        options = cls(**values, **words, database_url=env.get("DATABASE_URL", ""))  # type: ignore[arg-type]
        if options.size not in {"", "real"} or options.indexes not in {"app", "none"}:
            raise DemoError("SIZE is 'real' or not set, INDEXES 'app' or 'none'")
        if options.indexes == "none" and options.size != "real":
            raise DemoError("INDEXES=none goes with SIZE=real")
        if not (options.workers >= 1 and options.rate > 0 and options.scale >= 1 and options.port >= 0):
            raise DemoError("WORKERS, RATE and SCALE are positive numbers")
        if options.database_url and not options.database_url.startswith("postgres"):
            raise DemoError("DATABASE_URL: give a PostgreSQL database, or none to use SQLite")
        return options


async def demo(options: Options, stop: asyncio.Event) -> None:
    """Run the demo until `stop` is set; DemoError when a part fails or the numbers are not right."""
    port = free_port(options.port)
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="restaurant-demo-") as folder:
        env = _environment(options, Path(folder))
        async with contextlib.AsyncExitStack() as stack:
            rows = await stack.enter_async_context(_database(env, options, stop))
            app = await stack.enter_async_context(_app(env, Path(folder), port, options.workers))
            await app.answers(f"{url}/metrics", stop)  # which is not counted, as a page would be
            prometheus = await stack.enter_async_context(_prometheus(Path(folder), port, stop))
            if stop.is_set():
                return
            print(f"app         {url}  ({rows} rows, {options.workers} worker(s))")
            print(f"metrics     {url}/metrics")
            if options.size == "real":
                print(f"advise      restaurant-otel advise --database-url {advised(env)} \\")
                print("                --from examples/restaurant/workload.sql")
            print(
                f"Prometheus  {prometheus.graph if prometheus else 'not installed: left out'}\n", flush=True
            )
            parts = [app, prometheus.part] if prometheus else [app]
            try:
                asked = await _watch(url, Traffic(url, options.rate), parts, options.duration, stop)
            except* DemoError:
                await asyncio.sleep(0.5)  # if it is because a part ended, that is noticed by then
                for part in parts:
                    part.check()
                raise
            if asked and prometheus:
                await prometheus.has_scraped()


def _environment(options: Options, folder: Path) -> dict[str, str]:
    """What the app is started with; whatever it leaves in its temporary folder goes with ours."""
    env = {**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
    env.setdefault("OTEL_SERVICE_NAME", "restaurant")
    env.pop("REDIS_URL", None)  # values of an earlier run's data would live on there
    if options.database_url:
        env["DATABASE_SCHEMA"] = f"restaurant_demo_{os.getpid()}"
    else:
        env["DATABASE_URL"] = f"sqlite:///{folder / 'restaurant.sqlite3'}"
        env.pop("DATABASE_SCHEMA", None)
    return env


def advised(env: Mapping[str, str]) -> str:
    """The database, as a shell's word; not with its password, which the reader's shell knows."""
    if (schema := env.get("DATABASE_SCHEMA")) is None:
        return env["DATABASE_URL"]
    mark = "&" if "?" in env["DATABASE_URL"] else "?"
    return f'"$DATABASE_URL{mark}options=-csearch_path%3D{schema},public"'


@contextlib.asynccontextmanager
async def _database(env: Mapping[str, str], options: Options, stop: asyncio.Event) -> AsyncIterator[int]:
    """A database full of data, dropped again; yields how many rows it has."""
    engine = make_engine(env)
    schema = env.get("DATABASE_SCHEMA")
    try:
        if schema:
            async with engine.begin() as connection:
                await connection.execute(CreateSchema(schema))
    except (OSError, SQLAlchemyError) as error:
        await engine.dispose()
        raise DemoError(f"DATABASE_URL: {error}") from error
    try:
        rows = await seed(engine, options.scale)
        await engine.dispose()  # no connection idles here while the app uses the database
        if options.size == "real":
            print("loading 200,000 users and 1,000,000 shifts ...", flush=True)
            rows += await asyncio.to_thread(_extend, env, options.indexes == "app", stop)
        yield rows
    finally:
        if schema:
            async with engine.begin() as connection:
                await connection.execute(DropSchema(schema, cascade=True))
        await engine.dispose()


def _extend(env: Mapping[str, str], indexes: bool, stop: asyncio.Event) -> int:
    try:
        engine = bulk.sync_engine(database_url(env), env.get("DATABASE_SCHEMA"))
    except ImportError:
        raise DemoError("SIZE=real on PostgreSQL needs psycopg: pip install 'psycopg[binary]'") from None
    try:
        return bulk.extend(engine, indexes=indexes, ended=stop.is_set)
    finally:
        engine.dispose()


def _app(
    env: Mapping[str, str], folder: Path, port: int, workers: int
) -> contextlib.AbstractAsyncContextManager[Part]:
    command = [sys.executable, "-m", "uvicorn", "examples.restaurant.app:app"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    command += ["--log-level", "warning", "--timeout-graceful-shutdown", "3"]
    return running("the app", command, env, folder / "app.log")


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that scrapes the app."""

    part: Part
    url: str

    @property
    def graph(self) -> str:
        """A page that shows requests a second by route."""
        query = {"g0.expr": GRAPH, "g0.tab": "0", "g0.range_input": "5m"}
        return f"{self.url}/graph?{urlencode(query)}"

    async def has_scraped(self) -> None:
        """DemoError when it has not got the app's numbers within SETTLE_SECONDS."""
        query = {"query": "sum(http_server_request_duration_seconds_count) > 0"}
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as http:
            for _ in range(int(SETTLE_SECONDS / 0.2)):
                self.part.check()
                with contextlib.suppress(httpx.TransportError):
                    answer = await http.get("/api/v1/query", params=query)
                    if answer.status_code == 200 and answer.json()["data"]["result"]:
                        return
                await asyncio.sleep(0.2)
        raise self.part.error("has no numbers of the app")


@contextlib.asynccontextmanager
async def _prometheus(folder: Path, app_port: int, stop: asyncio.Event) -> AsyncIterator[Prometheus | None]:
    """A Prometheus that scrapes the app; None where it is not installed."""
    program = shutil.which("prometheus")
    if program is None or stop.is_set():
        yield None
        return
    job = {"job_name": "restaurant", "static_configs": [{"targets": [f"127.0.0.1:{app_port}"]}]}
    config = {"global": {"scrape_interval": f"{SCRAPE_SECONDS}s"}, "scrape_configs": [job]}
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    port = free_port()
    command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/prometheus"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage"]
    url = f"http://127.0.0.1:{port}"
    async with running("Prometheus", command, os.environ, folder / "prometheus.log") as part:
        await part.answers(f"{url}/-/ready", stop)
        yield Prometheus(part, url)


async def _watch(
    url: str, traffic: Traffic, parts: list[Part], duration: float | None, stop: asyncio.Event
) -> bool:
    """Make traffic and show figures until `stop` is set; then the summary, checked against the traffic.

    False when it was ended by hand before anything was asked.
    """
    async with httpx.AsyncClient(base_url=url, timeout=10.0, trust_env=False) as http:
        before = await _scrape(http)
        if duration is not None:
            asyncio.get_running_loop().call_later(duration, stop.set)
        async with asyncio.TaskGroup() as together:
            together.create_task(traffic.run(stop))
            together.create_task(_show_live(http, before, parts, duration, stop))
        if not traffic.answered and not traffic.surprises:
            if duration is not None and _now() >= before.at + duration:
                raise DemoError(f"DURATION={duration:g}: too short for even one request")
            return False
        whole = await _final(http, before, traffic.answered)
    print("\n" + "\n".join(show.summary(whole)) + "\n", flush=True)
    _judge(whole, traffic)
    print(f"all {traffic.answered} requests were answered as they should be, and counted once")
    return True


async def _show_live(
    http: httpx.AsyncClient, first: Figures, parts: list[Part], duration: float | None, stop: asyncio.Event
) -> None:
    screen = show.Screen() if sys.stdout.isatty() else None
    seen = deque([first], maxlen=WINDOW_SECONDS + 1)
    printed = first.at
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 1.0)
        for part in parts:
            part.check()
        seen.append(await _scrape(http))
        now = seen[-1] - seen[0]
        if screen:
            screen.draw(show.live(now, seen[-1].at - first.at, duration))
        elif seen[-1].at - printed >= LINE_EVERY_SECONDS:
            print(show.line(now), flush=True)
            printed = seen[-1].at


async def _scrape(http: httpx.AsyncClient) -> Figures:
    try:
        answer = await http.get("/metrics")
    except httpx.HTTPError as error:
        raise DemoError(f"/metrics: {error or type(error).__name__}") from error
    if answer.status_code != 200:
        raise DemoError(f"/metrics answers {answer.status_code}: the app is not instrumented")
    try:
        return figures.read(answer.text, answer.headers.get("content-type", ""), _now())
    except ValueError as error:
        raise DemoError(f"/metrics is not what Prometheus can read: {error}") from error


async def _final(http: httpx.AsyncClient, before: Figures, answered: int) -> Figures:
    """The whole run. A request is counted when the app is done with it, a moment after the client is."""
    deadline = _now() + SETTLE_SECONDS
    while True:
        whole = await _scrape(http) - before
        if whole.all_requests.count >= answered or _now() > deadline:
            return whole
        await asyncio.sleep(0.1)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _judge(whole: Figures, traffic: Traffic) -> None:
    """DemoError when the app or its numbers are not what they should be."""
    if traffic.surprises:
        listed = "\n".join(f"{times:6} x {what}" for what, times in traffic.surprises.most_common(10))
        raise DemoError(f"the app did not answer as it should:\n{listed}")
    counted = whole.all_requests.count
    if not traffic.answered <= counted <= traffic.answered + traffic.attacks:
        made = f"{traffic.answered} requests were answered, and {traffic.attacks} attacks made"
        raise DemoError(f"{made}, but /metrics counted {counted:.0f}")
    if not whole.all_queries.count:
        raise DemoError("/metrics counted no SQL query")


def _reasons(error: BaseException) -> list[BaseException]:
    """The errors that a group holds, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        return [reason for inner in error.exceptions for reason in _reasons(inner)]
    return [error]


async def _main() -> int:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    try:
        await demo(Options.from_environment(os.environ), stop)
    except* DemoError as errors:
        for reason in _reasons(errors):
            print(f"\ndemo failed: {reason}", file=sys.stderr)
        return_status = 1
    else:
        return_status = 0
    return return_status


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
