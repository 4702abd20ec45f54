"""`instrument`: one line for any kind of app, in place where the app is an object; twice is once; and undone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import django
import flask
import pytest
from django.conf import settings as django_settings
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from restaurant_otel import ASGIMiddleware, SettingsError, WSGIMiddleware, instrument, uninstrument
from tests.support.asgi import asgi_call
from tests.support.readings import Readings
from tests.support.spans import Spans
from tests.support.wsgi import wsgi_call

DURATION = "http_server_request_duration_seconds_count"

Added = Callable[[], Readings]


async def page(request: Request) -> PlainTextResponse:
    return PlainTextResponse("page")


def a_starlette() -> Starlette:
    return Starlette(routes=[Route("/items/{n}", page)])


def a_fastapi() -> FastAPI:
    app = FastAPI()

    @app.get("/items/{n}")
    async def read(n: int) -> int:
        return n

    return app


def a_flask() -> flask.Flask:
    app = flask.Flask("shop")

    @app.get("/items/<int:n>")
    def read(n: int) -> str:
        return str(n)

    return app


@pytest.mark.parametrize("make", [a_starlette, a_fastapi])
def test_an_asgi_app_object_is_instrumented_in_place(make: Any, spans: Spans, added: Added) -> None:
    app = make()
    assert instrument(app, tracer_provider=spans.provider) is app
    assert asgi_call(app, path="/items/5").status == 200
    assert spans.server().name == "GET /items/{n}"
    assert added().total(DURATION, http_route="/items/{n}") == 1


@pytest.mark.parametrize("make", [a_starlette, a_fastapi, lambda: asgi_function])
def test_servers_still_take_it_for_an_asgi_3_app(make: Any) -> None:
    from uvicorn.config import Config

    config = Config(instrument(make()), log_config=None)
    config.load()
    assert config.interface == "asgi3"


def test_a_flask_app_object_is_instrumented_in_place(spans: Spans, added: Added) -> None:
    app = a_flask()
    assert instrument(app, tracer_provider=spans.provider) is app
    assert wsgi_call(app, path="/items/5").body == b"5"
    assert spans.server().name == "GET /items/<int:n>"


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_a_django_handler_is_instrumented_in_place(kind: str, spans: Spans, added: Added) -> None:
    if not django_settings.configured:
        django_settings.configure(
            ROOT_URLCONF="tests.system.apps.django_app", ALLOWED_HOSTS=["*"], SECRET_KEY="x"
        )
    django.setup()
    from django.core.handlers.asgi import ASGIHandler
    from django.core.handlers.wsgi import WSGIHandler

    app: Any = WSGIHandler() if kind == "wsgi" else ASGIHandler()
    assert instrument(app, tracer_provider=spans.provider) is app
    assert isinstance(app, WSGIHandler if kind == "wsgi" else ASGIHandler)
    (wsgi_call if kind == "wsgi" else asgi_call)(app, path="/no-such-page")
    spans.server()
    uninstrument(app)
    assert type(app) in (WSGIHandler, ASGIHandler)


async def asgi_function(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


class AsgiObject:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await asgi_function(scope, receive, send)


class Asgi2:
    def __init__(self, scope: Any) -> None:
        self.scope = scope

    async def __call__(self, receive: Any, send: Any) -> None:
        await asgi_function(self.scope, receive, send)


def wsgi_function(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"ok"]


class WsgiObject:
    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return wsgi_function(environ, start_response)


def kind(app: Any) -> str:
    """A name for a case: the same in every process, which an address in memory is not."""
    return type(app).__name__


@pytest.mark.parametrize("app", [asgi_function, AsgiObject(), partial(asgi_function), Asgi2], ids=kind)
def test_any_asgi_callable_is_returned_wrapped(app: Any, added: Added) -> None:
    wrapped = instrument(app)
    assert isinstance(wrapped, ASGIMiddleware)
    assert asgi_call(wrapped).body == b"ok"
    assert added().total(DURATION) == 1


@pytest.mark.parametrize("app", [wsgi_function, WsgiObject(), partial(wsgi_function)], ids=kind)
def test_any_wsgi_callable_is_returned_wrapped(app: Any, added: Added) -> None:
    wrapped = instrument(app)
    assert isinstance(wrapped, WSGIMiddleware)
    assert wsgi_call(wrapped).body == b"ok"
    assert added().total(DURATION) == 1


@pytest.mark.parametrize("app", [None, 5, "app:app", lambda: None, lambda a, b, c, d: None], ids=kind)
def test_what_is_no_application_is_refused_with_the_way_out(app: Any) -> None:
    with pytest.raises(TypeError, match=r"neither an ASGI.*ASGIMiddleware or restaurant_otel.WSGIMiddleware"):
        instrument(app)


@pytest.mark.parametrize(
    "make", [a_starlette, a_fastapi, a_flask, lambda: asgi_function, lambda: wsgi_function]
)
def test_twice_is_once(make: Any, spans: Spans, added: Added) -> None:
    app = instrument(instrument(make(), tracer_provider=spans.provider), tracer_provider=spans.provider)
    call: Any = wsgi_call if isinstance(app, (flask.Flask, WSGIMiddleware)) else asgi_call
    call(app, path="/items/5")
    spans.server()
    assert added().total(DURATION) == 1


def test_a_mistake_in_the_second_calls_settings_is_told_too() -> None:
    app = instrument(a_starlette())
    with pytest.raises(SettingsError):
        instrument(app, no_such_setting=1)


@pytest.mark.parametrize(
    "make", [a_starlette, a_fastapi, a_flask, lambda: asgi_function, lambda: wsgi_function]
)
def test_uninstrument_brings_the_app_back(make: Any, spans: Spans, added: Added) -> None:
    app = instrument(make(), tracer_provider=spans.provider)
    call: Any = wsgi_call if isinstance(app, (flask.Flask, WSGIMiddleware)) else asgi_call
    call(app, path="/items/5")
    app = uninstrument(app)
    call(app, path="/items/5")
    assert added().total(DURATION) == 1
    assert uninstrument(app) is app
    again = instrument(app, tracer_provider=spans.provider)
    call(again, path="/items/5")
    assert added().total(DURATION) == 2


def test_an_app_that_has_already_served_can_be_instrumented(added: Added) -> None:
    app = a_starlette()
    asgi_call(app, path="/items/1")
    instrument(app)
    asgi_call(app, path="/items/1")
    assert added().total(DURATION) == 1


def test_middleware_added_afterwards_still_counts_and_stays_inside(spans: Spans) -> None:
    class Stops:
        def __init__(self, app: Any) -> None: ...

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await asgi_function(scope, receive, send)

    app = instrument(a_starlette(), tracer_provider=spans.provider)
    app.add_middleware(Stops)
    assert asgi_call(app, path="/items/1").body == b"ok"
    spans.server()


@pytest.mark.parametrize("make", [a_starlette, a_fastapi])
def test_the_middleware_can_be_added_the_usual_way(make: Any, spans: Spans, added: Added) -> None:
    app = make()
    app.add_middleware(ASGIMiddleware, tracer_provider=spans.provider)
    asgi_call(app, path="/items/5")
    assert spans.server().name == "GET /items/{n}"


def test_flasks_usual_way_works_too(spans: Spans) -> None:
    app = a_flask()
    app.wsgi_app = WSGIMiddleware(app.wsgi_app, tracer_provider=spans.provider)  # type: ignore[method-assign]
    wsgi_call(app, path="/items/5")
    assert spans.server().name == "GET /items/<int:n>"


def test_an_instrumented_app_can_be_collected() -> None:
    import gc
    import weakref

    app = instrument(a_starlette())
    asgi_call(app, path="/items/1")
    gone = weakref.ref(app)
    del app
    gc.collect()
    assert gone() is None


def test_the_limit_of_series_reaches_the_registry(added: Added) -> None:
    from restaurant_otel.metrics.registry import registry

    before = registry().limit
    try:
        ASGIMiddleware(asgi_function, series_limit=before + 1)
        assert registry().limit == before + 1
    finally:
        registry().limit = before
