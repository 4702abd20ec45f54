"""Workers add up: whatever happens to them, the scrape equals what was answered, and no counter goes back.

Requests come from `Load`, whose count of answers is exact; `Watch` scrapes all along, from any worker. A
request that was in flight when its worker was killed may be counted or not, and those are told apart: the
`unanswered` ones, and those (one a thread and kill, at most) whose answer was out while the worker had not
finished with them. Every other one must be there, exactly once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from restaurant_otel.metrics.group import default_root
from tests.support.load import Load, Watch, counted, settled
from tests.support.prometheus import Prometheus
from tests.support.servers import Server
from tests.support.wait import eventually
from tests.system.apps.routes import DJANGO, FASTAPI, FLASK, STARLETTE, App

SMALL, LARGE = 300, 20_000
SIZES = [SMALL, pytest.param(LARGE, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]

Serve = Callable[..., Server]


def check(
    server: Server, load: Load, watch: Watch, route: str | None, *, in_flight_at_kills: int = 0
) -> None:
    """The promise of this file."""
    number = settled(server, load.answered - in_flight_at_kills, http_route=route)
    assert load.answered - in_flight_at_kills <= number <= load.answered + load.unanswered, (
        f"{number} counted, {load.answered} answered, {load.unanswered} unanswered"
    )
    watch.until(watch.scrapes + 3)
    assert counted(watch.last, http_route=route) == number, "every worker answers the same"
    assert watch.went_back == []
    assert set(load.by_status) == {200}


def stages(load: Load, total: int, events: int) -> list[int]:
    """Numbers of answers after which an event happens, and the end."""
    return [total * (number + 1) // (events + 1) for number in range(events + 1)]


# --- nothing happens ---------------------------------------------------------------------------------

QUIET = [
    pytest.param("gunicorn", FLASK, (), id="gunicorn-sync"),
    pytest.param("gunicorn", FLASK, ("--preload",), id="gunicorn-sync-preload"),
    pytest.param("gunicorn-gthread", DJANGO, (), id="gunicorn-gthread"),
    pytest.param("gunicorn-gthread", FLASK, ("--preload",), id="gunicorn-gthread-preload"),
    pytest.param("gunicorn-uvicorn", STARLETTE, (), id="gunicorn-uvicorn"),
    pytest.param("gunicorn-uvicorn", FASTAPI, ("--preload",), id="gunicorn-uvicorn-preload"),
    pytest.param("uvicorn", STARLETTE, (), id="uvicorn"),
    pytest.param("hypercorn", FASTAPI, (), id="hypercorn"),
    pytest.param("granian", STARLETTE, (), id="granian"),
    pytest.param("granian-wsgi", FLASK, (), id="granian-wsgi"),
    pytest.param("uwsgi", FLASK, (), id="uwsgi"),
    pytest.param("uwsgi", DJANGO, ("--lazy-apps",), id="uwsgi-lazy"),
]


@pytest.mark.parametrize(("server", "app", "args"), QUIET)
def test_any_workers_scrape_answers_for_all(
    serve: Serve, server: str, app: App, args: tuple[str, ...]
) -> None:
    running = serve(server, app.target, workers=2, args=args)
    with Watch(running) as watch:
        with Load(running.url, ["/items/1", "/items/2", "/query"], connections=6) as load:
            load.until(SMALL)
        assert load.unanswered == 0
        items = load.by_path["/items/1"] + load.by_path["/items/2"]
        assert settled(running, items, http_route=app.item) == items
        assert settled(running, load.by_path["/query"], http_route="/query") == load.by_path["/query"]
        assert watch.went_back == []
        queries = running.scrape().total("db_client_operation_duration_seconds_count", http_route="/query")
        assert queries == load.by_path["/query"]
    assert running.scrape().total("restaurant_telemetry_workers") == 2


# --- workers end and are replaced --------------------------------------------------------------------


@pytest.mark.parametrize("total", SIZES)
@pytest.mark.parametrize(
    ("server", "app", "args"),
    [  # hypercorn and granian do not replace a worker that was killed
        pytest.param("gunicorn", FLASK, (), id="gunicorn-sync"),
        pytest.param("gunicorn", DJANGO, ("--preload",), id="gunicorn-sync-preload", marks=pytest.mark.slow),
        pytest.param("gunicorn-gthread", FLASK, ("--preload",), id="gunicorn-gthread-preload"),
        pytest.param("gunicorn-uvicorn", STARLETTE, (), id="gunicorn-uvicorn"),
        pytest.param("uvicorn", STARLETTE, (), id="uvicorn"),
        pytest.param("uwsgi", FLASK, (), id="uwsgi"),
    ],
)
def test_a_killed_worker_takes_no_count_with_it(
    serve: Serve, server: str, app: App, args: tuple[str, ...], total: int
) -> None:
    workers = 2 if total == SMALL else 4
    threads = 4 if server == "gunicorn-gthread" else 1
    running = serve(server, app.target, workers=workers, args=args)
    with Watch(running) as watch:
        watch.until(2)
        with Load(running.url, ["/items/1"], connections=4) as load:
            *kills, end = stages(load, total, 3)
            for answered in kills:
                load.until(answered)
                # uWSGI takes a second to replace a worker, in which there may be none that can be seen.
                eventually(lambda: serving(running), what="a worker to kill")
                with suppress(ProcessLookupError, IndexError):
                    os.kill(serving(running)[0], signal.SIGKILL)
            load.until(end)
            eventually(lambda: len(serving(running)) >= workers, what="the workers are replaced")
        check(running, load, watch, app.item, in_flight_at_kills=len(kills) * threads)
    assert load.unanswered <= len(kills) * 4, "at most those in flight at a kill"


@pytest.mark.parametrize("total", SIZES)
@pytest.mark.parametrize(
    ("server", "app", "option", "args"),
    [
        pytest.param("gunicorn", FLASK, "--max-requests", ("--preload",), id="gunicorn-sync-preload"),
        pytest.param("gunicorn-uvicorn", STARLETTE, "--max-requests", (), id="gunicorn-uvicorn"),
        pytest.param("hypercorn", STARLETTE, "--max-requests", (), id="hypercorn"),
        pytest.param("gunicorn", FLASK, "--max-requests", (), id="gunicorn-sync", marks=pytest.mark.slow),
        pytest.param("gunicorn-gthread", DJANGO, "--max-requests", (), id="gthread", marks=pytest.mark.slow),
        pytest.param("uvicorn", STARLETTE, "--limit-max-requests", (), id="uvicorn", marks=pytest.mark.slow),
        pytest.param("uwsgi", FLASK, "--max-requests", (), id="uwsgi"),
    ],
)
def test_recycled_workers_keep_their_counts(
    serve: Serve, server: str, app: App, option: str, args: tuple[str, ...], total: int
) -> None:
    limit = str(total // 6)
    running = serve(server, app.target, workers=2 if total == SMALL else 4, args=(option, limit, *args))
    first = set(serving(running))
    with Watch(running) as watch:
        with Load(running.url, ["/items/1"], connections=4) as load:
            load.until(total)
            eventually(lambda: not first & set(serving(running)), within=60, what="all recycled")
        check(running, load, watch, app.item)


@pytest.mark.parametrize("total", SIZES)
@pytest.mark.parametrize(
    ("server", "app", "args"),
    [
        pytest.param("gunicorn", FLASK, ("--preload",), id="gunicorn-sync-preload"),
        pytest.param("gunicorn-gthread", DJANGO, (), id="gunicorn-gthread"),
        pytest.param("gunicorn-uvicorn", STARLETTE, (), id="gunicorn-uvicorn", marks=pytest.mark.slow),
        pytest.param("uvicorn", STARLETTE, (), id="uvicorn"),
        pytest.param("granian", STARLETTE, (), id="granian", marks=pytest.mark.slow),
        pytest.param("granian-wsgi", FLASK, (), id="granian-wsgi", marks=pytest.mark.slow),
        pytest.param("uwsgi", FLASK, (), id="uwsgi"),
    ],
)
def test_a_reload_keeps_all_counts(
    serve: Serve, server: str, app: App, args: tuple[str, ...], total: int
) -> None:
    running = serve(server, app.target, workers=2 if total == SMALL else 4, args=args)
    with Watch(running) as watch:
        watch.until(2)
        with Load(running.url, ["/items/1"], connections=4) as load:
            *reloads, end = stages(load, total, 1 if total == SMALL else 3)
            for answered in reloads:
                load.until(answered)
                old = set(serving(running))
                running.signal(signal.SIGHUP)
                eventually(
                    lambda old=old: not old & set(serving(running)), within=60, what="workers reloaded"
                )
            load.until(max(end, load.answered + SMALL // 3))
        check(running, load, watch, app.item)


@pytest.mark.parametrize("server", ["gunicorn", "gunicorn-gthread"])
def test_more_and_fewer_workers(serve: Serve, server: str) -> None:
    running = serve(server, FLASK.target, workers=2)
    with Watch(running) as watch:
        with Load(running.url, ["/items/1"], connections=4) as load:
            for sign, number in [
                (signal.SIGTTIN, 3),
                (signal.SIGTTIN, 4),
                (signal.SIGTTOU, 3),
                (signal.SIGTTOU, 2),
            ]:
                load.until(load.answered + SMALL // 5)
                running.signal(sign)
                eventually(lambda number=number: len(serving(running)) == number, what=f"{number} workers")
            load.until(load.answered + SMALL // 5)
        check(running, load, watch, FLASK.item)
        eventually(lambda: running.glance().total("restaurant_telemetry_workers") == 2, what="2 workers told")


@pytest.mark.parametrize("args", [(), ("--preload",)], ids=["", "preload"])
def test_gunicorns_own_restart_keeps_the_counts(serve: Serve, args: tuple[str, ...]) -> None:
    running = serve("gunicorn", FLASK.target, workers=2, args=args)
    with Watch(running) as watch:
        with Load(running.url, ["/items/1"], connections=4) as load:
            load.until(SMALL // 3)
            old = set(serving(running))
            running.signal(signal.SIGUSR2)  # a second arbiter, from a fresh exec, on the same socket
            eventually(lambda: len(serving(running)) >= 4, what="a second arbiter with workers")
            load.until(2 * SMALL // 3)
            running.signal(signal.SIGTERM)  # the first one and its workers go
            eventually(lambda: not old & set(serving(running)), what="the first workers are gone")
            load.until(SMALL)
        check(running, load, watch, FLASK.item)


def test_many_kills_in_a_row(serve: Serve) -> None:
    running = serve("gunicorn", FLASK.target, workers=3, args=("--preload",))
    with Watch(running) as watch:
        with Load(running.url, ["/items/1"], connections=3) as load:
            rounds = 8
            for _ in range(rounds):
                load.until(load.answered + 15)
                for pid in serving(running)[:2]:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                eventually(lambda: len(serving(running)) == 3, what="three workers again")
        check(running, load, watch, FLASK.item, in_flight_at_kills=2 * rounds)


# --- what Prometheus makes of it ---------------------------------------------------------------------


def test_prometheus_sees_no_reset_and_no_false_spike(
    serve: Serve, prometheus: Callable[..., Prometheus]
) -> None:
    running = serve("gunicorn", FLASK.target, workers=3, args=("--max-requests", "150", "--preload"))
    asked = prometheus([f"127.0.0.1:{running.port}"])
    selector = f'http_server_request_duration_seconds_count{{http_route="{FLASK.item}"}}'
    with Load(running.url, ["/items/1"], connections=2) as load:
        asked.scrapes(3)
        kills = 2
        for _ in range(kills):
            load.until(load.answered + SMALL)
            with suppress(ProcessLookupError):
                os.kill(serving(running)[0], signal.SIGKILL)
            asked.scrapes(int(asked.value("count_over_time(up[1h])") or 0) + 2)
    number = settled(running, load.answered - kills, http_route=FLASK.item)
    eventually(lambda: asked.value(f"sum({selector})") == number, what="the last scrape has every request")
    assert asked.value(f"sum(resets({selector}[1h]))") == 0
    # increase() extrapolates to the ends of its window, so the raw samples are summed instead, with resets
    # taken as Prometheus takes them: a counter that went back would add its whole value again.
    grown = sum(sum(max(b - a, b if b < a else 0) for a, b in pairwise(s)) for s in asked.history(selector))
    assert grown <= number <= load.answered + load.unanswered


# --- the parts the promise rests on ------------------------------------------------------------------


def test_two_apps_from_one_shell_do_not_share_numbers(serve: Serve) -> None:
    first = serve("gunicorn", FLASK.target, workers=2)
    second = serve("gunicorn", FLASK.target, workers=2)
    for _ in range(10):
        first.get("/items/1")
    settled(first, 10, http_route=FLASK.item)
    assert counted(second.scrape(), http_route=FLASK.item) == 0
    for _ in range(5):
        second.get("/items/1")
    assert settled(second, 5, http_route=FLASK.item) == 5
    assert settled(first, 10, http_route=FLASK.item) == 10


def test_the_gauge_of_requests_in_flight_forgets_those_of_a_killed_worker(serve: Serve) -> None:
    running = serve("gunicorn-gthread", FLASK.target, workers=2)
    with Load(running.url, ["/slow?seconds=2"], connections=4) as load:
        eventually(
            lambda: running.glance().total("http_server_active_requests") >= 3, what="requests in flight"
        )
        for pid in serving(running):
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: load.unanswered >= 3, what="they broke off")
    eventually(lambda: running.glance().total("http_server_active_requests") == 0, what="none in flight")


def test_a_server_leaves_no_files_behind_for_the_next(serve: Serve) -> None:
    root = Path(default_root())

    def ours() -> set[str]:
        return {str(group) for group in root.glob("restaurant-otel-*/*")}

    before = ours()
    first = serve("gunicorn", FLASK.target, workers=2)
    for _ in range(10):
        first.get("/items/1")
    first.stop()
    first.process.kill()
    left = ours() - before
    assert left, "they are to be found there"
    second = serve("gunicorn", FLASK.target, workers=2)
    second.get("/items/1")
    settled(second, 1, http_route=FLASK.item)
    assert not left & ours(), "a dead group is removed by the next that starts"


def serving(server: Server) -> list[int]:
    """Processes that serve requests, oldest first: those below the main process that are no mere helpers.

    uvicorn and hypercorn also start multiprocessing's resource tracker, which never serves; a second
    gunicorn arbiter is a child of the first one with workers of its own.
    """
    found = []
    for pid in server.process.members():
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            line = " ".join(process.cmdline())
            if pid != server.process.pid and "resource_tracker" not in line and not process.children():
                found.append((process.create_time(), pid))
    return [pid for _, pid in sorted(found)]


def test_serving_finds_the_workers(serve: Serve) -> None:
    running = serve("uvicorn", STARLETTE.target, workers=2)
    eventually(lambda: len(serving(running)) == 2)
    asked = set()

    def both_answered() -> bool:
        asked.add(int(running.get("/pid", headers={"connection": "close"}).text))
        return len(asked) == 2

    eventually(both_answered, every=0.01)
    assert asked == set(serving(running))
