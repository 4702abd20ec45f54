"""Real web servers, each by its own command line, on a free loopback port.

    with serve("gunicorn", "tests.system.apps.flask_app:app", workers=2, log=path) as server:
        server.get("/items/1")

Tests use the `serve` fixture of conftest.py, which fills in `log` and stops every server. Which programs
exist is `SERVERS`; what a process is and how it is ended is in `processes`.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support import http
from tests.support.processes import Process, free_port
from tests.support.readings import Readings, parse, skim
from tests.support.wait import eventually

ROOT = Path(__file__).parents[2]
READY_PATH = "/__ready__"  # no app has it: asking does not disturb the count of any route
OPENMETRICS = "application/openmetrics-text; version=1.0.0"

Command = Callable[[str, int, int], list[str]]


def _gunicorn(*options: str) -> Command:
    def command(app: str, port: int, workers: int) -> list[str]:
        return [
            "gunicorn",
            "-b",
            f"127.0.0.1:{port}",
            "-w",
            str(workers),
            "--graceful-timeout",
            "10",
            "--timeout",  # of a worker that does not report; on a busy machine it may take long to load the app
            "60",
            *options,
            app,
        ]

    return command


def _uvicorn(app: str, port: int, workers: int) -> list[str]:
    # The time within which a worker must answer: on a busy machine five seconds may not do to load the app.
    many = ["--workers", str(workers), "--timeout-worker-healthcheck", "60"] if workers > 1 else []
    return ["uvicorn", "--host", "127.0.0.1", "--port", str(port), *many, app]


def _hypercorn(app: str, port: int, workers: int) -> list[str]:
    return ["hypercorn", "-b", f"127.0.0.1:{port}", "-w", str(workers), app]


def _granian(interface: str) -> Command:
    def command(app: str, port: int, workers: int) -> list[str]:
        where = ["--host", "127.0.0.1", "--port", str(port)]
        return ["granian", "--interface", interface, *where, "--workers", str(workers), app]

    return command


def _uwsgi(app: str, port: int, workers: int) -> list[str]:
    where = ["--http-socket", f"127.0.0.1:{port}", "--master", "--processes", str(workers)]
    # Without --die-on-term, SIGTERM means a reload; keep-alive is the http router's, which this goes without.
    return ["uwsgi", *where, "--enable-threads", "--die-on-term", "--need-app", f"--module={app}"]


def _flask(app: str, port: int, workers: int) -> list[str]:
    assert workers == 1, "flask run has one process"
    return ["flask", "--app", app, "run", "--host", "127.0.0.1", "--port", str(port)]


SERVERS: Mapping[str, Command] = {
    "uvicorn": _uvicorn,
    "hypercorn": _hypercorn,
    "granian": _granian("asgi"),
    "granian-wsgi": _granian("wsgi"),
    "gunicorn": _gunicorn("-k", "sync"),
    "gunicorn-gthread": _gunicorn("-k", "gthread", "--threads", "4"),
    "gunicorn-uvicorn": _gunicorn("-k", "uvicorn_worker.UvicornWorker"),
    "uwsgi": _uwsgi,
    "flask": _flask,
}


class Server:
    """A running server. `process` is its main process; `url` has no slash at the end."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        # No kept connections: servers close them after an error, which the next request would stumble over.
        once = httpx.Limits(max_keepalive_connections=0)
        self.client = http.client(self.url, follow_redirects=False, limits=once)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request over a connection of its own; options as httpx has them."""
        return self.client.request(method, path, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET `path`."""
        return self.request("GET", path, **options)

    def scrape(self, accept: str = OPENMETRICS) -> Readings:
        """What /metrics says now, over a connection of its own (so that any worker may answer)."""
        answer = self._metrics(accept)
        return parse(answer.text, answer.headers["content-type"])

    def glance(self) -> Readings:
        """The same for who asks again and again: see `readings.skim`."""
        return skim(self._metrics(OPENMETRICS).text)

    def _metrics(self, accept: str) -> httpx.Response:
        answer = http.get(self.url + "/metrics", headers={"accept": accept})
        assert answer.status_code == 200, f"/metrics answers {answer.status_code}: {answer.text[:300]}"
        return answer

    def workers(self) -> list[int]:
        """Process ids that serve requests: the main process's children, or itself where it has none."""
        return self.process.children() or [self.process.pid]

    def signal(self, number: int) -> None:
        """Send a signal to the main process."""
        self.process.signal(number)

    def output(self) -> str:
        """What the server printed."""
        return self.process.output()

    def stop(self, within: float = 10.0) -> float:
        """End it and all it started; the seconds until it had ended by itself (see Process.stop)."""
        self.client.close()
        return self.process.stop(within)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(
    server: str,
    app: str,
    *,
    log: Path,
    workers: int = 1,
    env: Mapping[str, str] | None = None,
    args: Sequence[str] = (),
    auto: bool = False,
    ready_within: float = 60.0,
) -> Server:
    """Start `server` with `app` ("package.module:name") and wait until it answers.

    `env` is added to a clean environment (no OTEL_* or RESTAURANT_OTEL_* of the caller's); `args` go before
    the app on the command line; `auto` runs it under opentelemetry-instrument. Raises AssertionError with
    the server's output when it ends or does not answer in time.
    """
    port = free_port()
    *command, target = SERVERS[server](app, port, workers)
    if server == "uwsgi":  # a reload starts the interpreter anew, outside of the virtual environment
        env = {"PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}", **(env or {})}
    argv = _program(command[0]) + command[1:]
    argv = [*argv, target, *args] if server == "flask" else [*argv, *args, target]
    if auto:
        argv = [str(Path(sys.executable).with_name("opentelemetry-instrument")), *argv]
    process = Process(argv, env=clean_env(env), cwd=ROOT, log=log)
    started = Server(process, port)
    try:
        eventually(lambda: _answers(started), within=ready_within, what=f"{server} answers")
        if server.startswith("granian"):  # it hangs when told to end while a worker is starting
            all_up = "Started worker-"
            eventually(lambda: process.output().count(all_up) >= workers, within=ready_within, what=all_up)
    except AssertionError as error:
        started.stop(within=1)
        raise AssertionError(f"{server} did not start ({error}):\n{process.output()[-4000:]}") from None
    except BaseException:
        started.stop(within=1)
        raise
    return started


def daemon(name: str, argv: Sequence[str], folder: Path, ready: Callable[[], bool]) -> Process:
    """Start something that is no app of ours in `folder`, and wait until it is `ready`; else what it said is told."""
    process = Process(argv, env=clean_env(), cwd=folder, log=folder / f"{name}.log")
    try:
        eventually(ready, within=20, what=f"{name} is ready")
    except BaseException as error:
        process.stop(within=5)
        raise AssertionError(f"{name} did not start: {error}\n{process.output()[-2000:]}") from error
    return process


def clean_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without telemetry and server settings, with `extra` added."""
    foreign = (
        "OTEL_",
        "RESTAURANT_OTEL_",
        "GUNICORN_",
        "PROMETHEUS_",
        "PYTEST_",
        "UVICORN_",
        "WEB_CONCURRENCY",
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    env.update(
        PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1", PYTHONDONTWRITEBYTECODE="1", TMPDIR=tempfile.gettempdir()
    )
    env.update(extra or {})
    return env


def _program(name: str) -> list[str]:
    return [str(Path(sys.executable).with_name(name))]  # the one of this virtual environment


def _answers(server: Server) -> bool:
    if not server.process.running:
        raise RuntimeError(
            f"the server ended with status {server.process.exit_status}:\n{server.output()[-4000:]}"
        )
    return http.answers(server.url + READY_PATH, None, timeout=5.0)
