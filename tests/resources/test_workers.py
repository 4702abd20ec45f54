"""The observer in real servers: who reads the host, how late, and what is seen of pools, queues and pauses."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from restaurant_otel.metrics.group import default_root
from tests.resources.apps import RELEASE
from tests.resources.apps.kitchen import THREADS
from tests.support.load import Load
from tests.support.processes import free_port
from tests.support.readings import Readings, parse
from tests.support.servers import OPENMETRICS, Server
from tests.support.wait import eventually

KITCHEN, COUNTER = "tests.resources.apps.kitchen:app", "tests.resources.apps.counter:app"
USED = "tests.resources.apps.counter:used"
EVERY_SECOND = {"RESTAURANT_OTEL_RESOURCES_INTERVAL": "1"}
SAMPLER = "restaurant-otel-resources"

Serve = Callable[..., Server]


@pytest.fixture
def release(tmp_path: Path) -> Iterator[Path]:
    """The file whose coming ends all waiting."""
    yield tmp_path / "release"
    (tmp_path / "release").touch()


@contextmanager
def waiting(server: Server, number: int, path: str = "/wait") -> Iterator[None]:
    """So many requests for `path` at once, whose answers nobody waits for."""
    with ExitStack() as stack:
        for _ in range(number):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n".encode())
        yield


# --- one reads the host for all -----------------------------------------------------------------------


def elected(server: Server) -> int | None:
    """The worker that holds the lock on the group's file, as the kernel tells."""
    files = Path(default_root()).glob("restaurant-otel-*/*/sampler")
    inodes = {str(file.stat().st_ino) for file in files}
    workers = set(server.workers())
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if "FLOCK" in fields and "->" not in fields and fields[-3].rpartition(":")[2] in inodes:
            pid = int(fields[fields.index("FLOCK") + 3])
            if pid in workers:
                return pid
    return None


@pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="the kernel does not tell who holds a lock")
@pytest.mark.parametrize("args", [(), ("--preload",)], ids=["", "preload"])
def test_the_host_is_read_by_one_worker_whoever_dies(serve: Serve, args: tuple[str, ...]) -> None:
    running = serve("gunicorn", COUNTER, workers=3, env=EVERY_SECOND, args=args)
    eventually(lambda: running.scrape().total("restaurant_worker_starts_total") == 3, what="all have begun")
    scrapes: list[tuple[float, Readings]] = []

    def look(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            scrapes.append((time.monotonic(), running.scrape()))

    for deaths in (1, 2):
        look(0.5)
        pid = eventually(lambda: elected(running), what="a worker that reads the host")
        os.kill(pid, signal.SIGKILL)
        look(0.5)
        eventually(
            lambda pid=pid: elected(running) not in (None, pid), within=10, what="the next one takes over"
        )
        look(1.5)
        eventually(
            lambda deaths=deaths: running.scrape().total("restaurant_worker_starts_total") == 3 + deaths,
            what="a replacement",
        )
    ages = running.scrape().series("process_uptime_seconds")
    assert len(ages) == 3, "one of each worker that lives"
    assert max(ages.values()) > min(ages.values()) + 1, "the first are older than the replacements"

    missing_since: float | None = None
    for at, readings in scrapes:
        series = readings.series("system_memory_limit_bytes")
        assert len(series) <= 1, "never two of the host"
        missing_since = None if series else missing_since or at
        assert missing_since is None or at - missing_since < 3, "and never none for long"
    assert missing_since is None
    for (_, before), (_, after) in pairwise(scrapes):
        back = [line for line in after.went_back(before) if line.startswith(("system_", "restaurant_worker"))]
        # The next reader does not know by how much the last one was ahead of the kernel's mending of these two.
        assert [line for line in back if "'idle'" not in line and "'iowait'" not in line] == []


def test_each_worker_has_its_sampler_and_all_have_one_history(serve: Serve) -> None:
    """Also where the app was in use before the fork: its sampler is not the workers'."""
    running = serve("gunicorn", USED, workers=2, env=EVERY_SECOND, args=("--preload",))
    seen: dict[int, list[dict[str, list[list[float]]]]] = {}

    def all_seen_twice() -> bool:
        told = running.get("/observed").json()
        seen.setdefault(told["pid"], []).append(told)
        assert told["threads"].count(SAMPLER) == 1
        ready = [pid for pid, all_told in seen.items() if min(len(all_told), len(told["host"])) >= 3]
        return len(ready) == 2

    eventually(all_seen_twice, within=30, what="both workers asked, again and again")
    first, second = (all_told[-1] for all_told in seen.values())
    times = [[at for at, _ in told["host"]] for told in (first, second)]
    assert set(times[0]) & set(times[1]), "the same readings, whoever is asked"
    for of_one in times:
        assert of_one == sorted(set(of_one))
        assert all(later - earlier > 0.5 for earlier, later in pairwise(of_one)), "read by one, once a second"
    readings = running.scrape()
    assert len(readings.series("process_uptime_seconds")) == 2
    assert len(readings.series("system_memory_limit_bytes")) == 1


# --- how late -----------------------------------------------------------------------------------------


@pytest.mark.serial
@pytest.mark.parametrize("path", ["/burn?seconds=2", "/hold?seconds=0.5"], ids=["burning", "held up"])
def test_no_sample_is_a_second_late_however_busy_the_loop(serve: Serve, path: str) -> None:
    running = serve("uvicorn", KITCHEN, env=EVERY_SECOND)

    def on_time() -> bool:
        """The latest five; another five get their chance, should the whole machine have stood still."""
        readings = running.get("/observed").json()["process"][-6:]
        assert len(readings) == 6
        late = max(later - earlier - 1 for (earlier, _), (later, _) in pairwise(readings))
        assert late < 1, f"{late:.3f} s late"
        lags = [lag for _, lag in readings[1:]]
        assert max(lags) > (0.2 if path.startswith("/hold") else 0.001), lags
        return True

    with Load(running.url, [path], connections=1) as load:
        load.until(2)
        eventually(on_time, within=60, every=1, what="five samples on time")


# --- pools, queues, pauses ----------------------------------------------------------------------------


def pool(readings: Readings, name: str) -> tuple[float, float, float]:
    """The pool's threads, share that is busy, and tasks that wait."""
    values = [
        readings.total(f"restaurant_thread_pool_{what}", restaurant_thread_pool_name=name)
        for what in ("limit", "utilization_ratio", "waiting")
    ]
    return values[0], values[1], values[2]


@pytest.mark.parametrize("args", [(), ("-k", "trio")], ids=["asyncio", "trio"])
def test_a_full_pool_of_anyio_is_seen(serve: Serve, release: Path, args: tuple[str, ...]) -> None:
    running = serve("hypercorn", KITCHEN, env={**EVERY_SECOND, RELEASE: str(release)}, args=args)
    assert running.get("/few-threads").status_code == 200
    with waiting(running, THREADS + 2):
        eventually(lambda: pool(running.scrape(), "anyio") == (THREADS, 1.0, 2), what="full, and two wait")
        release.touch()
        eventually(lambda: pool(running.scrape(), "anyio") == (THREADS, 0.0, 0), what="empty again")


def test_full_threads_of_gunicorn_are_seen(serve: Serve, release: Path) -> None:
    """Scraped by a port of its own, since no thread is left to answer."""
    port = free_port()
    env = {**EVERY_SECOND, RELEASE: str(release), "RESTAURANT_OTEL_METRICS_PORT": str(port)}
    running = serve("gunicorn-gthread", COUNTER, env=env)

    def scraped() -> Readings:
        return scrape(port)

    for _ in range(2):  # after the first time the executor's own count of idle threads is wrong
        with waiting(running, 6):
            eventually(lambda: pool(scraped(), "gunicorn") == (4, 1.0, 2), what="full, and two wait")
            release.touch()
            eventually(lambda: pool(scraped(), "gunicorn") == (4, 0.0, 0), what="empty again")
        release.unlink()


def scrape(port: int) -> Readings:
    import httpx

    answer = httpx.get(f"http://127.0.0.1:{port}/metrics", headers={"accept": OPENMETRICS}, timeout=30)
    return parse(answer.text, answer.headers["content-type"])


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="the platform does not tell")
@pytest.mark.parametrize(("server", "app"), [("gunicorn", COUNTER), ("uvicorn", KITCHEN)])
def test_connections_that_wait_to_be_accepted_are_seen(
    serve: Serve, release: Path, server: str, app: str
) -> None:
    port = free_port()
    env = {**EVERY_SECOND, RELEASE: str(release), "RESTAURANT_OTEL_METRICS_PORT": str(port)}
    running = serve(server, app, env=env, args=("--backlog", "17"))

    def queue() -> tuple[float, float]:
        readings = scrape(port)
        return (
            readings.total("restaurant_server_backlog", server_port=str(running.port)),
            readings.total("restaurant_server_backlog_limit", server_port=str(running.port)),
        )

    eventually(lambda: queue() == (0, 17), what="an empty queue, also where it is opened after the start")
    if server == "gunicorn":
        with waiting(running, 1), waiting(running, 5):
            eventually(lambda: queue() == (5, 17), what="one is served, five wait")
            release.touch()
        eventually(lambda: queue() == (0, 17), what="all accepted")


def test_pauses_of_the_garbage_collector_are_timed(serve: Serve) -> None:
    running = serve("gunicorn", COUNTER, env=EVERY_SECOND)
    before = running.scrape()
    for _ in range(3):
        assert running.get("/garbage").status_code == 200
    eventually(
        lambda: (running.scrape() - before).total("cpython_gc_collected_objects_total") >= 3000,
        what="as many objects as were made",
    )
    added = running.scrape() - before
    oldest = {"cpython_gc_generation": "2"}
    assert added.total("restaurant_gc_pause_duration_seconds_count", **oldest) >= 3
    assert added.total("cpython_gc_collections_total", **oldest) >= 3
    assert 0 < added.total("restaurant_gc_pause_duration_seconds_sum", **oldest) < 30


def test_an_operators_signal_traces_memory_and_then_tells_what_has_grown(serve: Serve) -> None:
    running = serve("uvicorn", KITCHEN, env={"RESTAURANT_OTEL_LEAK_SNAPSHOT_SIGNAL": "USR1"})
    running.signal(signal.SIGUSR1)
    eventually(lambda: "tracing memory from now on" in running.output(), what="tracing has begun")
    assert running.get("/keep").text == "kept"
    running.signal(signal.SIGUSR1)
    eventually(lambda: "tests/resources/apps/kitchen.py:" in running.output(), what="the line that keeps")
    assert "grown in" in running.output()
    assert running.get("/observed").status_code == 200
