"""Whatever a client sends: no exception of ours, the same answer, and a bounded number of series."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute

from restaurant_otel import ASGIMiddleware, WSGIMiddleware, instrument
from tests.serving.test_websocket import echo
from tests.support.asgi import Response, asgi_call, asgi_websocket
from tests.support.readings import Readings, read_registry
from tests.support.spans import Spans
from tests.support.wsgi import make_environ

ERRORS = "restaurant_telemetry_errors_total"
DURATION = "http_server_request_duration_seconds_count"

SURROGATES = st.text(st.characters(), max_size=20)
PATHS = SURROGATES.map(lambda text: f"/{text}")
METHODS = st.one_of(st.sampled_from(["GET", "POST", "get", "", "PRI", "GET\n", "\udcff"]), SURROGATES)
NAMES = st.one_of(
    st.sampled_from(
        [b"host", b"traceparent", b"tracestate", b"baggage", b"user-agent", b"content-length", b"x-a"]
    ),
    st.binary(max_size=10),
)
VALUES = st.one_of(
    st.sampled_from(
        [b"", b"abc", b"-1", b"1" * 400, b"[::1", b"a:b:c", b"h:999999", b"\xff\xfe", b"00-0-0-0", b"=;,"]
    ),
    st.binary(max_size=60),
)
ODD: Any = st.sampled_from(
    [None, (), ("",), ("a", None), ["::1", 1, 2], ("\udc80", 80), "text", (None, None), 5]
)
QUIET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


async def page(request: Request) -> PlainTextResponse:
    await request.body()
    return PlainTextResponse("page")


def an_app() -> Any:
    return Starlette(
        routes=[
            Route("/items/{name:path}", page, methods=["GET", "POST"]),
            Mount("/{tenant}/m", routes=[Route("/", page)]),
        ]
    )


PLAIN = an_app()


def own_errors(since: Readings) -> dict[Any, float]:
    return (read_registry() - since).series(ERRORS)


@QUIET
@given(
    method=METHODS,
    path=st.one_of(
        st.sampled_from(["/items/1", "/x/m/", "//", "/metrics/", "/%00"]), SURROGATES.map(lambda t: f"/{t}")
    ),
    query=st.binary(max_size=30),
    headers=st.lists(st.tuples(NAMES, VALUES), max_size=6),
    fields=st.fixed_dictionaries(
        {},
        optional={
            "client": ODD,
            "server": ODD,
            "http_version": st.sampled_from(["1.1", "", "9", "2"]),
            "scheme": SURROGATES,
            "root_path": st.sampled_from(["", "/root", "/items"]),
        },
    ),
    without=st.lists(
        st.sampled_from(
            ["client", "server", "query_string", "scheme", "raw_path", "http_version", "root_path"]
        ),
        max_size=4,
    ),
)
def test_any_asgi_request_is_answered_as_without_us(spans: Spans, **request: Any) -> None:
    before, fields = read_registry(), request.pop("fields")
    settings = {"http_capture_headers_server_request": ".*", "opt_in_attributes": "all"}
    wrapped = ASGIMiddleware(PLAIN, tracer_provider=spans.provider, **settings)
    spans.clear()
    method, path = request.pop("method"), request.pop("path")
    theirs = asgi_call(PLAIN, method, path, scope=fields, catch=True, **request)
    ours = asgi_call(wrapped, method, path, scope=fields, catch=True, **request)
    assert answer(ours) == answer(theirs)
    assert own_errors(before) == {}
    for value in (spans.server().attributes or {}).values():
        str(value).encode("utf-8")  # what no exporter could encode would cost a whole batch


def answer(response: Response) -> Any:
    return response.messages, type(response.error), str(response.error)


@QUIET
@given(
    status=st.one_of(
        st.sampled_from(["200", "200 OK", "", "abc", "99 x", "600 x", "204", "20"]), st.text(max_size=8)
    ),
    path=SURROGATES,
    environ=st.dictionaries(
        st.sampled_from(
            [
                "REQUEST_METHOD",
                "QUERY_STRING",
                "HTTP_HOST",
                "CONTENT_LENGTH",
                "SERVER_PORT",
                "REMOTE_ADDR",
                "SCRIPT_NAME",
                "HTTP_X_A",
                "HTTP_TRACEPARENT",
                "HTTP_BAGGAGE",
                "HTTP_USER_AGENT",
                "wsgi.url_scheme",
                "SERVER_PROTOCOL",
            ]
        ),
        SURROGATES,
        max_size=6,
    ),
    ports=st.dictionaries(
        st.sampled_from(["REMOTE_PORT", "SERVER_PORT"]), st.one_of(st.integers(), st.none())
    ),
)
def test_any_wsgi_request_is_answered_as_without_us(
    spans: Spans, status: str, path: str, environ: dict[str, Any], ports: dict[str, Any]
) -> None:
    environ = {**environ, **ports}  # werkzeug gives numbers

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response(status, [("X-Answer", "1")])
        return iter([b"a", b"b"])

    before = read_registry()
    wrapped = WSGIMiddleware(app, tracer_provider=spans.provider, http_capture_headers_server_request=".*")
    spans.clear()
    assert exchange(wrapped, path, environ) == exchange(app, path, environ)
    assert own_errors(before) == {}
    for value in (spans.server().attributes or {}).values():
        str(value).encode("utf-8")


def exchange(app: Callable[..., Any], path: str, extra: dict[str, Any]) -> Any:
    started: list[Any] = []

    def start_response(*arguments: Any) -> Callable[[bytes], None]:
        started.append(arguments)
        return started.append

    result = app(make_environ(extra={"PATH_INFO": path, **extra}), start_response)
    body = list(result)
    getattr(result, "close", lambda: None)()
    return started, body


@QUIET
@given(
    path=PATHS,
    headers=st.lists(st.tuples(NAMES, VALUES), max_size=4),
    receives=st.lists(st.text(max_size=5), max_size=3),
    close_code=st.one_of(st.integers(-5, 70000), st.none(), st.just("x")),
)
def test_any_websocket_goes_as_without_us(spans: Spans, path: str, **session: Any) -> None:
    def app() -> Any:
        return Starlette(routes=[WebSocketRoute("/{rest:path}", echo)])

    before = read_registry()
    theirs = asyncio.run(asgi_websocket(app(), path, catch=True, **session))
    ours = asyncio.run(
        asgi_websocket(instrument(app(), tracer_provider=spans.provider), path, catch=True, **session)
    )
    assert answer(ours) == answer(theirs)
    assert own_errors(before) == {}


def test_hostile_requests_add_a_bounded_number_of_series(spans: Spans) -> None:
    """One value for all that matches nothing, one for all unknown methods and schemes, none from headers."""
    before = read_registry()
    app = instrument(an_app(), tracer_provider=spans.provider)
    for n in range(300):
        headers = [(b"host", b"h%d" % n), (b"user-agent", b"u%d" % n), (b"content-length", b"%dx" % n)]
        asgi_call(
            app, f"M{n}", f"/nowhere/{n}", headers=headers, scope={"scheme": f"s{n}", "http_version": f"v{n}"}
        )
        asgi_call(app, "GET", f"/items/{n}", headers=headers)
        asgi_call(app, "GET", f"/t{n}/m/", headers=headers)
    added = read_registry() - before
    assert len(added.series(DURATION)) == 3
    assert added.labels(DURATION, "http_route") == {"", "/items/{name:path}", "/{tenant}/m/"}
    assert len(added.series("http_server_active_requests")) == 0
