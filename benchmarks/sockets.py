"""Requests per second through real servers with two workers: the bare app, ours, and the peers.

`wrk` loads uvicorn (Starlette) and gunicorn (Flask) over loopback, one variant after the other, in another
order each round. All servers stay up throughout; the idle ones cost nothing. Beside the rate stands the CPU
time that the processes of a server spent on a request: less noisy where the machine is shared.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from benchmarks import harness, peers
from benchmarks.harness import Summary

ROOT = Path(__file__).parent.parent
WORKERS = 2
CONNECTIONS = 128
"""So many that the processors are busy even on asyncio's own loop, where uvicorn's workers leave TCP_NODELAY off
and a keep-alive answer can wait 40 ms for the client's delayed ACK (uvloop always sets it)."""
VARIANT = "BENCHMARK_VARIANT"

PROMETHEUS = ("prometheus-fastapi-instrumentator", "starlette_exporter", "prometheus-flask-exporter")
"""Peers that must be told where their workers meet, or each answers for itself only."""

ASGI = (
    "bare",
    "ours 100 %",
    "ours 0 %",
    "contrib 100 %",
    "contrib 0 %",
    "starlette 100 %, no metrics",
    "prometheus-fastapi-instrumentator",
)
WSGI = ("bare", "ours 100 %", "ours 0 %", "contrib 100 %", "contrib 0 %", "prometheus-flask-exporter")


def asgi() -> peers.ASGIApp:
    """What each uvicorn worker loads."""
    return peers.ASGI[os.environ[VARIANT]]().app


def wsgi() -> peers.WSGIApp:
    """What each gunicorn worker loads."""
    return peers.FLASK[os.environ[VARIANT]]().app


def _uvicorn(port: int) -> list[str]:
    quiet = ["--no-access-log", "--log-level", "warning"]
    load = ["benchmarks.sockets:asgi", "--factory"]
    return ["uvicorn", *load, "--workers", str(WORKERS), "--host", "127.0.0.1", "--port", str(port), *quiet]


def _gunicorn(port: int) -> list[str]:
    kind = ["--worker-class", "gthread", "--threads", "8", "--log-level", "warning"]
    return ["gunicorn", "benchmarks.sockets:wsgi()", "-w", str(WORKERS), "-b", f"127.0.0.1:{port}", *kind]


# --- servers ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its port and its leading process."""

    port: int
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """What all its processes have used so far."""
        total = 0.0
        for process in (self.process, *self.process.children(recursive=True)):
            times = process.cpu_times()
            total += times.user + times.system
        return total


@contextmanager
def serve(variant: str, command: Callable[[int], list[str]], folder: Path) -> Iterator[Server]:
    """A server of that variant, up on entry and gone, with all its workers, on exit."""
    port = _free_port()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    environment[VARIANT] = variant
    if variant in PROMETHEUS:
        meeting = folder / f"prometheus-{port}"
        meeting.mkdir()
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(meeting)
    process = subprocess.Popen(
        [sys.executable, "-m", *command(port)], cwd=ROOT, env=environment, start_new_session=True
    )
    try:
        _wait_until_answering(port, process)
        yield Server(port, psutil.Process(process.pid))
    finally:
        _stop(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_answering(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(f"GET {peers.PATH} HTTP/1.0\r\n\r\n".encode())
            if connection.recv(12).endswith(b" 200"):
                return
        time.sleep(0.1)
    raise RuntimeError("the server did not answer within a minute")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and whatever is left of its session."""
    for number, patience in ((signal.SIGTERM, 15), (signal.SIGKILL, 5)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)


# --- load ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk saw: requests a second, and CPU microseconds that the server spent on each."""

    rate: float
    cpu: float


def load(server: Server, seconds: int) -> Load:
    headers = [
        option for name, value in peers.HEADERS if name != "host" for option in ("-H", f"{name}: {value}")
    ]
    url = f"http://127.0.0.1:{server.port}{peers.PATH}"
    before = server.cpu_seconds()
    done = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", *headers, url],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    spent = server.cpu_seconds() - before
    if "Non-2xx" in done or "Socket errors" in done:
        raise RuntimeError(f"not every request was answered well:\n{done}")
    requests = int(_found(r"(\d+) requests in", done))
    return Load(float(_found(r"Requests/sec:\s+([\d.]+)", done)), spent / requests * 1e6)


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"wrk said something else:\n{text}")
    return match[1]


def rounds(servers: Mapping[str, Server], number: int, seconds: int) -> dict[str, list[Load]]:
    """Load every server once a round, each round in another order."""
    shuffle = random.Random(1).shuffle
    loads: dict[str, list[Load]] = {name: [] for name in servers}
    for server in servers.values():  # warm up, both workers of each
        load(server, 1)
    for _ in range(number):
        order = list(servers)
        shuffle(order)
        for name in order:
            loads[name].append(load(servers[name], seconds))
    return loads


def compare(
    title: str, names: tuple[str, ...], command: Callable[[int], list[str]], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Run one server's variants, print their table, and return it."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers = {name: stack.enter_context(serve(name, command, Path(folder))) for name in names}
        loads = rounds(servers, arguments.rounds, 1 if arguments.quick else 3)
    rates = {name: [one.rate for one in seen] for name, seen in loads.items()}
    ratios = {
        name: [rate / bare for rate, bare in zip(seen, rates["bare"], strict=True)]
        for name, seen in rates.items()
    }
    summary = {
        name: {
            "requests_per_second": Summary.of(rates[name]).median,
            "to_bare": Summary.of(ratios[name]).median,
            "to_bare_low": Summary.of(ratios[name]).low,
            "to_bare_high": Summary.of(ratios[name]).high,
            "cpu_microseconds": Summary.of([one.cpu for one in loads[name]]).median,
        }
        for name in names
    }
    rows = [
        (
            name,
            f"{row['requests_per_second']:.0f}",
            f"{row['to_bare']:.2f}",
            f"{row['to_bare_low']:.2f} .. {row['to_bare_high']:.2f}",
            f"{row['cpu_microseconds']:.0f}",
        )
        for name, row in summary.items()
    ]
    print(f"\n{title}, {WORKERS} workers, {CONNECTIONS} connections\n")
    harness.table(("", "requests/s", "to bare", "quartiles", "CPU us/request"), rows)
    return summary


def main() -> int:
    if shutil.which("wrk") is None:
        print("benchmarks.sockets needs wrk (Debian: apt install wrk)", file=sys.stderr)
        return 2
    arguments = harness.options(__doc__, rounds=9)
    fast = all(find_spec(name) for name in ("uvloop", "httptools"))
    parts = "uvloop and httptools" if fast else "asyncio and h11; uvicorn[standard] brings faster ones"
    results = {
        "uvicorn": compare(f"Starlette on uvicorn ({parts})", ASGI, _uvicorn, arguments),
        "gunicorn": compare("Flask on gunicorn, gthread", WSGI, _gunicorn, arguments),
    }
    harness.write_json(arguments, {"packages": harness.packages(), "servers": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
