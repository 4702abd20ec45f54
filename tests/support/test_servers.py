"""The support keeps its own promises: every server starts, answers, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import psutil
import pytest

from tests.support.servers import Server
from tests.support.wait import eventually

EVERY_SERVER = [
    ("uvicorn", "starlette_app:app", 2),
    ("hypercorn", "bare_asgi:app", 2),
    ("granian", "fastapi_app:app", 2),
    ("granian-wsgi", "flask_app:app", 2),
    ("gunicorn", "django_app:app", 2),
    ("gunicorn-gthread", "bare_wsgi:app", 1),
    ("gunicorn-uvicorn", "django_app:asgi", 1),
    ("flask", "flask_app:app", 1),
]


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and waits for its parent to notice does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(("server", "app", "workers"), EVERY_SERVER)
def test_a_server_answers_and_leaves_no_process(
    serve: Callable[..., Server], server: str, app: str, workers: int
) -> None:
    running = serve(server, f"tests.system.apps.{app}", workers=workers, env={"NO_LINE": "1"})
    assert running.get("/").content == b"hello from the restaurant\n"
    members = running.process.members()
    assert os.getpid() not in members
    running.stop()
    assert not any(alive(pid) for pid in members)


def test_a_server_that_ignores_sigterm_is_killed_with_its_children(serve: Callable[..., Server]) -> None:
    running = serve("gunicorn", "tests.system.apps.bare_wsgi:app", workers=2, env={"NO_LINE": "1"})
    eventually(lambda: len(running.process.members()) == 3, what="the arbiter and its two workers")
    members = running.process.members()
    os.kill(running.process.pid, signal.SIGSTOP)
    running.stop(within=0.2)
    assert not any(alive(pid) for pid in members)


def test_a_server_that_cannot_start_says_why(serve: Callable[..., Server]) -> None:
    with pytest.raises((AssertionError, RuntimeError), match="no_such_module"):
        serve("uvicorn", "tests.system.apps.no_such_module:app")
