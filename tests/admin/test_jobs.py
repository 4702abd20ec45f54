"""Long work: done beside the requests, told by any worker, in steps where it changes something."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from restaurant_otel.admin import AdminApp, admin_app
from restaurant_otel.administration import advice, child
from restaurant_otel.administration import jobs as running
from restaurant_otel.administration.caches import process_caches
from restaurant_otel.administration.jobs import FailedError, Job, Jobs, StoppedError
from restaurant_otel.administration.operations import Problem
from restaurant_otel.administration.shared import Shelf
from restaurant_otel.cache import Cache
from restaurant_otel.settings import Settings
from tests.admin.conftest import client
from tests.admin.shop import fill
from tests.admin.tokens import ALL, SECRET, token
from tests.cache.redises import RedisServer
from tests.support import http
from tests.support.processes import free_port
from tests.support.servers import ROOT as CHECKOUT
from tests.support.servers import Server, clean_env
from tests.support.wait import eventually


def api(app: AdminApp, scope: str = ALL, sub: str = "ada") -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token(scope=scope, sub=sub)}"}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api", headers=headers)


def made(**settings: Any) -> AdminApp:
    return admin_app(Settings.resolve({}, admin_key=SECRET, **settings))


# --- jobs --------------------------------------------------------------------------------------------


def ended(jobs: Jobs, job: Job) -> Job:
    return eventually(lambda: found if (found := jobs.get(job.id)) and found.state != "running" else None)


def test_a_job_tells_its_progress_and_its_result() -> None:
    jobs, go_on = Jobs(Shelf()), threading.Event()

    def work(report: running.Report) -> str:
        report(0.5, "half way")
        assert go_on.wait(20)
        return "result"

    job = jobs.start("test", "ada", work)
    eventually(lambda: (found := jobs.get(job.id)) and (found.progress, found.step) == (0.5, "half way"))
    go_on.set()
    done = ended(jobs, job)
    assert (done.state, done.result, done.progress, done.by) == ("done", "result", 1.0, "ada")


def test_a_job_that_fails_says_what_it_may() -> None:
    jobs = Jobs(Shelf())

    def expected(_: running.Report) -> None:
        raise FailedError("the database is away")

    def unexpected(_: running.Report) -> None:
        raise RuntimeError("password=hunter2")

    assert ended(jobs, jobs.start("test", "ada", expected)).error == "the database is away"
    told = ended(jobs, jobs.start("test", "ada", unexpected))
    assert told.state == "failed"
    assert "hunter2" not in str(told)


def test_few_run_at_a_time_and_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "MOST_KEPT", 3)
    jobs, go_on = Jobs(Shelf()), threading.Event()
    busy = [jobs.start("test", "ada", lambda _: go_on.wait(20)) for _ in range(running.MOST_RUNNING)]
    with pytest.raises(Problem, match="Too many"):
        jobs.start("test", "ada", lambda _: None)
    go_on.set()
    for job in busy:
        ended(jobs, job)
    for _ in range(5):
        ended(jobs, jobs.start("test", "ada", lambda _: None))
    assert len(jobs.list()) == 3


def test_a_job_whose_worker_died_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf()
    now = time.time()
    dead = Job("0" * 13 + "-" + "1" * 16, "test", "running", "ada", now - 999, now - 999)
    from dataclasses import asdict

    shelf.put("job-" + dead.id, asdict(dead))
    found = Jobs(shelf).get(dead.id)
    assert found is not None
    assert found.state == "interrupted"
    assert Jobs(shelf).get("../../etc/passwd") is None


def test_caches_of_this_process_are_found_by_name(redis_server: RedisServer) -> None:
    with Cache(redis_server.url, namespace="found", name="by-this-name"):
        assert "by-this-name" in [cache.name for cache in process_caches()]


# --- the index advisor -------------------------------------------------------------------------------

RECOMMENDED = {
    "recommendations": [
        {
            "name": "ix_t_a",
            "index": {
                "table": "t",
                "keys": [{"column": "a", "descending": False, "operators": None}],
                "suffix": "",
            },
        },
        {
            "name": "ix_t_b",
            "index": {
                "table": "t",
                "keys": [{"column": "b", "descending": False, "operators": None}],
                "suffix": "",
            },
        },
    ]
}


def advised(app: AdminApp) -> Job:
    jobs = app.service.jobs
    return ended(jobs, jobs.start("advise", "ada", lambda _: RECOMMENDED))


def test_advice_needs_a_database_and_says_so() -> None:
    async def ask() -> httpx.Response:
        async with api(made()) as asked:
            return await asked.post("/advise", json={})

    answer = asyncio.run(ask())
    assert answer.status_code == 409
    assert "admin_database_url" in answer.text


def test_indexes_are_made_only_with_a_confirmation_for_just_these_by_just_this_person() -> None:
    app = made(admin_database_url="sqlite:////there/is/no/such/folder/db")
    job = advised(app)

    async def ask(sub: str = "ada", scope: str = ALL, **body: Any) -> httpx.Response:
        async with api(app, scope, sub) as asked:
            return await asked.post("/advise/apply", json={"job": job.id, **body})

    async def all_of_it() -> None:
        assert (
            await ask(indexes=["ix_t_a"], scope="performance:read performance:execute")
        ).status_code == 403
        assert (await ask(indexes=["ix_users; DROP TABLE t"])).status_code == 400
        proposal = (await ask(indexes=["ix_t_a"])).json()
        assert proposal["job"] is None
        confirm = proposal["confirm"]
        for wrong in (
            {"indexes": ["ix_t_b"], "confirm": confirm},
            {"indexes": ["ix_t_a"], "confirm": confirm[:-1] + ("0" if confirm[-1] != "0" else "1")},
            {"indexes": ["ix_t_a"], "confirm": "9999999999." + confirm.partition(".")[2]},
            {"indexes": ["ix_t_a"], "confirm": "ä.ä"},
        ):
            assert (await ask(**wrong)).status_code == 409
        assert (await ask(sub="eve", indexes=["ix_t_a"], confirm=confirm)).status_code == 409
        started = await ask(indexes=["ix_t_a"], confirm=confirm)
        assert started.status_code == 200
        done = await asyncio.to_thread(ended, app.service.jobs, Job(**started.json()["job"]))
        assert done.kind == "apply"
        assert done.state == "failed"  # there is no such database
        assert done.error

    asyncio.run(all_of_it())


# --- its process -------------------------------------------------------------------------------------


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A listener that takes connections, as a database would, and says nothing: who asks it waits for minutes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        yield listener


def url_of(silent: socket.socket) -> str:
    return f"postgresql+psycopg://nobody@127.0.0.1:{silent.getsockname()[1]}/none"


def helpers(of: int) -> list[psutil.Process]:
    """The processes that a process has made for its jobs."""
    found = psutil.Process(of).children(recursive=True)
    return [one for one in found if "restaurant_otel.administration.advising" in one.cmdline()]


def over(process: psutil.Process) -> bool:
    """Whether it has ended, though nobody may have asked yet how."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda one: one.name)
def test_an_app_that_ends_does_not_wait_for_a_job_and_leaves_nothing_behind(
    serve: Callable[..., Server], silent: socket.socket, tmp_path: Path, number: signal.Signals
) -> None:
    url = f"sqlite:///{tmp_path}/shop.sqlite3"
    fill(url)
    env = {"TEST_DATABASE_URL": url, "TEST_ADVISED_URL": url_of(silent)}
    server = serve("uvicorn", "tests.admin.shop:app", env=env)
    assert server.get("/staff").status_code == 200
    with client(server) as everything:
        assert everything.post("/advise", json={}).status_code == 202
        connection, _ = silent.accept()  # now it waits
    with connection:
        (helper,) = helpers(server.process.pid)
        server.signal(number)
        server.process.wait(30)
        eventually(lambda: over(helper), within=30)


def test_a_job_of_an_app_that_is_let_go_is_interrupted(silent: socket.socket) -> None:
    app = made(admin_database_url=url_of(silent))
    jobs = app.service.jobs
    task = {"url": url_of(silent), "statements": []}
    job = jobs.start("advise", "ada", lambda report: advice._run(task, report, None))
    connection, _ = silent.accept()
    with connection:
        (helper,) = helpers(os.getpid())
        app.service.close()
        found = jobs.get(job.id)
        assert found is not None
        assert found.state == "interrupted"
        eventually(lambda: over(helper), within=30)
        assert ended(jobs, job).state == "interrupted"


def test_the_index_advisor_tells_how_far_it_is(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.sqlite3"
    fill(url)
    texts = [f"SELECT id FROM users WHERE {column} = ?" for column in ("id", "email", "branch_id")]
    task = {"url": url, "statements": [{"text": text, "calls": 9, "routes": []} for text in texts]}
    told: list[tuple[float, str]] = []
    found = advice._run(task, lambda *said: told.append(said), None)
    assert "ix_users_email" in [one["name"] for one in found["recommendations"]]
    shares, steps = [share for share, _ in told], {step for _, step in told}
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(set(shares)) > 5
    assert len(steps) > 3
    told.clear()
    assert advice._run(
        {"url": url, "indexes": [one["index"] for one in found["recommendations"]]},
        lambda *said: told.append(said),
        None,
    )["applied"][0]["done"]
    assert (0.0, f"making {found['recommendations'][0]['name']}") in told


STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stdin.readline()
print('{"progress": 0.5, "step": "reading"}', flush=True)
time.sleep(600)
"""


def test_a_process_that_does_not_end_when_told_to_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "GRACE", 0.2)

    def report(progress: float, step: str) -> None:
        if step:
            assert (progress, step) == (0.5, "reading")
            seen.extend(one for one in psutil.Process().children() if "-c" in one.cmdline())
            raise StoppedError

    seen: list[psutil.Process] = []
    with pytest.raises(StoppedError):
        child.converse([sys.executable, "-c", STUBBORN], {}, report, None)
    assert seen
    assert all(over(one) for one in seen)


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("print('gibberish'); print('[1]')", "without an answer"),
        ("""print('{"outcome": {"error": "the database is away"}}')""", "the database is away"),
        ("import time; time.sleep(600)", "more than 0 s"),
        ("while True: print('x' * 65_536)", "too much"),
    ],
)
def test_whatever_the_process_says_the_job_ends(
    program: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0.0 if "sleep" in program else None
    with pytest.raises(FailedError, match=told):
        child.converse([sys.executable, "-c", program], {}, lambda *_: None, most)


# --- alone -------------------------------------------------------------------------------------------


def test_it_can_be_served_alone_beside_the_app(
    serve: Callable[..., Server], redis_server: RedisServer, tmp_path: Path
) -> None:
    folder = tmp_path / "workers"
    folder.mkdir(mode=0o700)
    shared = {"RESTAURANT_OTEL_WORKERS_DIR": str(folder), "RESTAURANT_OTEL_ADMIN_KEY": SECRET}
    server = serve("uvicorn", "tests.system.apps.starlette_app:app", env=shared, workers=2)
    server.get("/items/1")
    port = free_port()
    program = [str(Path(sys.executable).with_name("restaurant-otel")), "admin", "--port", str(port)]
    alone = subprocess.Popen(
        [*program, "--cache-url", redis_server.url, "--cache-namespace", "shop"],
        env=clean_env(shared), cwd=CHECKOUT, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        headers = {"Authorization": f"Bearer {token()}"}
        base = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            with suppress(httpx.TransportError):
                return http.get(f"{base}/health").status_code == 200
            return False

        eventually(answers, within=30)
        found = http.get(f"{base}/endpoints", headers=headers).json()
        assert found["total"] >= 1
        assert http.get(f"{base}/score").status_code == 401
        cleared = http.request("DELETE", f"{base}/cache?name=shop", headers=headers).json()
        assert cleared["redis"] == "told"
    finally:
        alone.terminate()
        alone.communicate(timeout=20)


def test_alone_it_must_know_which_app(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from restaurant_otel.cli import main

    monkeypatch.delenv("RESTAURANT_OTEL_WORKERS_DIR", raising=False)
    monkeypatch.delenv("RESTAURANT_OTEL_GROUP", raising=False)
    assert main(["admin"]) == 2
    assert "--workers-dir" in capsys.readouterr().err
