"""The admin API beside an app: nothing of it is left when the app is given back, or dropped."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Callable
from typing import Any

import flask
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from restaurant_otel import instrument, uninstrument
from tests.admin.tokens import ROOT, SECRET, token
from tests.support.asgi import asgi_call
from tests.support.processes import free_port
from tests.support.wait import eventually
from tests.support.wsgi import wsgi_call

ITS_THREADS = {"restaurant-otel-settings", "restaurant-otel-watch"}


def starlette() -> Starlette:
    return Starlette(routes=[Route("/hello", lambda _: PlainTextResponse("hello"))])


def a_flask() -> flask.Flask:
    app = flask.Flask("shop")
    app.add_url_rule("/hello", view_func=lambda: "hello")
    return app


def a_function() -> Any:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("404 Not Found" if environ["PATH_INFO"] != "/hello" else "200 OK", [])
        return [b"hello"]

    return app


def status(app: Any, path: str) -> int:
    """What it answers somebody with a good token."""
    credential = f"Bearer {token()}"
    if isinstance(app, Starlette):
        return int(asgi_call(app, path=path, headers=[(b"authorization", credential.encode())]).status)
    return int(str(wsgi_call(app, path=path, headers=[("Authorization", credential)]).status).split()[0])


@pytest.mark.parametrize("leave", [uninstrument, lambda _: None], ids=["given back", "dropped"])
@pytest.mark.parametrize("make", [starlette, a_flask, a_function])
def test_nothing_is_left_of_it(make: Callable[[], Any], leave: Callable[[Any], Any]) -> None:
    before = set(threading.enumerate())

    def names() -> set[str]:
        return {thread.name for thread in threading.enumerate() if thread not in before}

    for _ in range(2):  # and then it can be had again
        app = instrument(make(), admin=ROOT, admin_key=SECRET)
        assert status(app, f"{ROOT}/metrics/summary") == 200
        its = ITS_THREADS | (set() if isinstance(app, Starlette) else {"restaurant-otel-admin"})
        assert its <= names()
        app = leave(app)
        if app is not None:
            assert status(app, "/hello") == 200
            assert status(app, f"{ROOT}/metrics/summary") == 404
        del app
        # More than once: the answer is there a moment before the task that has made it ends.
        eventually(lambda: gc.collect() >= 0 and not names() & (ITS_THREADS | {"restaurant-otel-admin"}))


def test_the_port_of_metrics_is_given_back_as_well() -> None:
    port = free_port()
    app = instrument(starlette(), metrics_port=port)
    status(app, "/hello")
    socket.create_connection(("127.0.0.1", port), timeout=10).close()
    uninstrument(app)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=10)


def test_what_is_asked_of_it_afterwards_is_served_all_the_same() -> None:
    """By who still holds the middleware: a server that has not been told."""
    app = instrument(a_function(), admin=ROOT, admin_key=SECRET)
    assert status(app, f"{ROOT}/score") == 200
    uninstrument(app)
    assert status(app, f"{ROOT}/score") == 200
    uninstrument(app)
