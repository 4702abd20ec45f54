"""Which routes are pages: told once, by the first successful answer, and again where a fork has emptied the gauge."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, Response
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response as StarletteResponse
from starlette.routing import Route

from restaurant_otel import ASGIMiddleware, WSGIMiddleware
from tests.support.asgi import asgi_call
from tests.support.readings import Readings
from tests.support.servers import ROOT, clean_env
from tests.support.wsgi import wsgi_call

PAGE = "restaurant_http_server_page"
DURATION = "http_server_request_duration_seconds_count"

Added = Callable[[], Readings]
Ask = Callable[..., Any]


def asgi(path: str, status: int, content_type: str) -> Ask:
    async def answer(request: Request) -> StarletteResponse:
        return StarletteResponse("<p>", status, {"Content-Type": content_type})

    app = ASGIMiddleware(Starlette(routes=[Route(path, answer, methods=["GET", "POST"])]))
    return lambda method="GET": asgi_call(app, method, path)


def wsgi(path: str, status: int, content_type: str) -> Ask:
    def answer() -> Response:
        return Response("<p>", status, content_type=content_type)

    app = Flask("pages")
    app.add_url_rule(path, view_func=answer, methods=["GET", "POST"])
    made = WSGIMiddleware(app.wsgi_app)
    app.wsgi_app = made  # type: ignore[method-assign]
    return lambda method="GET": wsgi_call(app, method, path)


both = pytest.mark.parametrize("serve", [asgi, wsgi])


def routes(added: Added) -> set[str]:
    return added().labels(PAGE, "http_route")


@both
@pytest.mark.parametrize(
    "content_type", ["text/html", "TEXT/HTML; charset=utf-8", "application/xhtml+xml ;charset=utf-8"]
)
def test_a_route_that_answers_a_get_with_html_is_a_page(
    serve: Callable[..., Ask], content_type: str, added: Added
) -> None:
    path = f"/page/{serve.__name__}/{len(content_type)}"
    ask = serve(path, 200, content_type)
    for _ in range(3):
        ask()
    assert added().series(PAGE) == {frozenset({("http_route", path)}): 1.0}


@both
@pytest.mark.parametrize(
    ("method", "status", "content_type"),
    [
        ("POST", 200, "text/html"),
        ("HEAD", 200, "text/html"),
        ("GET", 404, "text/html"),
        ("GET", 500, "text/html"),
        ("GET", 304, "text/html"),
        ("GET", 200, "application/json"),
        ("GET", 200, "text/html-not"),
    ],
)
def test_other_answers_are_no_pages(
    serve: Callable[..., Ask], method: str, status: int, content_type: str, added: Added
) -> None:
    serve(f"/other/{serve.__name__}/{method}/{status}/{len(content_type)}", status, content_type)(method)
    assert added().total(DURATION) == 1
    assert routes(added) == set()


def test_an_answer_without_a_route_is_no_page(added: Added) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/html")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"<p>"})

    asgi_call(ASGIMiddleware(app), path="/x")
    assert added().total(DURATION) == 1
    assert routes(added) == set()


@pytest.mark.parametrize("headers", [[(b"content-type",)], [(None, None)], None, 5])
def test_headers_that_are_none_cost_no_count(headers: Any, added: Added) -> None:
    class Rude:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b""})

    path = f"/rude/{headers!r}"
    app = ASGIMiddleware(Starlette(routes=[Route(path, Rude())]))
    asgi_call(app, path=path)
    assert added().total(DURATION) == 1
    assert routes(added) == set()


FORKS = """
import os
from restaurant_otel.metrics import registry
from tests.serving.test_pages import PAGE, asgi, wsgi
from tests.support.readings import from_families

def told():
    return from_families(registry().collect_own()).labels(PAGE, "http_route")

asked = [serve(f"/{serve.__name__}", 200, "text/html") for serve in (asgi, wsgi)]
for ask in asked:
    ask()
child = os.fork()
if child == 0:
    assert not told()
for ask in asked:
    ask()
assert told() == {"/asgi", "/wsgi"}
if child:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_after_a_fork_both_say_it_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS], cwd=ROOT, env=clean_env(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
