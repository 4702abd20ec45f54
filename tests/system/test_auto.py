"""`opentelemetry-instrument <command>` does it all on apps that have no line of ours."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.load import counted, settled
from tests.support.otlp import CLIENT, SERVER, Receiver
from tests.support.servers import Server
from tests.system.apps.routes import DJANGO, FASTAPI, FLASK, STARLETTE, App

# What the command would otherwise also load, so that it is clear whose spans these are: contrib's own
# instrumentations of the same frameworks are tested beside ours further down.
ONLY_OURS = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "asgi,fastapi,starlette,wsgi,flask,django,sqlalchemy"}

CASES = [
    pytest.param(STARLETTE, "uvicorn", 1, (), id="starlette-uvicorn"),
    pytest.param(FASTAPI, "uvicorn", 2, (), id="fastapi-uvicorn-workers"),
    pytest.param(FASTAPI, "hypercorn", 1, (), id="fastapi-hypercorn", marks=pytest.mark.slow),
    pytest.param(FLASK, "gunicorn", 2, (), id="flask-gunicorn", marks=pytest.mark.slow),
    pytest.param(FLASK, "gunicorn", 2, ("--preload",), id="flask-gunicorn-preload"),
    pytest.param(STARLETTE, "gunicorn-uvicorn", 2, (), id="starlette-gunicorn", marks=pytest.mark.slow),
    pytest.param(DJANGO, "gunicorn-gthread", 2, (), id="django-gunicorn"),
    pytest.param(FLASK, "flask", 1, (), id="flask-run"),
]


@pytest.mark.parametrize(("app", "server", "workers", "args"), CASES)
def test_an_app_without_our_line_is_instrumented(
    serve: Callable[..., Server],
    otlp_http: Receiver,
    app: App,
    server: str,
    workers: int,
    args: tuple[str, ...],
) -> None:
    env = otlp_http.env() | ONLY_OURS | {"NO_LINE": "1"}
    running = serve(server, app.target, workers=workers, args=args, env=env, auto=True)
    for number in range(6):
        assert running.get(f"/items/{number}").status_code == 200
    assert running.get("/query").text == "soup"
    assert settled(running, 6, http_route=app.item) == 6
    assert counted(running.scrape(), http_route="/query") == 1
    otlp_http.wait_for_spans(1, CLIENT)
    otlp_http.wait_for_spans(7, SERVER)
    running.stop()
    names = [span.name for span in otlp_http.spans(SERVER)]
    assert names.count(f"GET {app.item}") == 6
    (query,) = [span for span in otlp_http.spans(SERVER) if span.name == "GET /query"]
    assert [s.parent_id for s in otlp_http.spans(CLIENT) if s.trace_id == query.trace_id] == [query.span_id]


@pytest.mark.parametrize(
    ("app", "server"),
    [pytest.param(FASTAPI, "uvicorn", id="fastapi"), pytest.param(FLASK, "gunicorn", id="flask")],
)
@pytest.mark.parametrize("line", ["0", "1"], ids=["with our line too", "without our line"])
def test_beside_contribs_own_instrumentations_there_is_one_server_span_and_one_count(
    serve: Callable[..., Server], otlp_http: Receiver, app: App, server: str, line: str
) -> None:
    running = serve(server, app.target, env=otlp_http.env() | {"NO_LINE": line}, auto=True)
    for number in range(5):
        assert running.get(f"/items/{number}").status_code == 200
    assert running.get("/query").text == "soup"
    assert settled(running, 5, http_route=app.item) == 5
    otlp_http.wait_for_spans(6, SERVER)
    running.stop()
    spans = otlp_http.spans(SERVER)
    items = [span for span in spans if "/items/" in str(span.attributes.get("url.path") or span.attributes)]
    assert len(items) == 5
    (query,) = [span for span in spans if "/query" in span.name]
    selects = [span for span in otlp_http.spans(CLIENT) if span.trace_id == query.trace_id]
    assert len(selects) == 1, "one span a query"
