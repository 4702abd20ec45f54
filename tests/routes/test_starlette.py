"""Starlette: the template is the declared path with the prefixes of all it lies in, or none."""

from __future__ import annotations

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Host, Match, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles

from restaurant_otel.routes import AsgiRoutes
from tests.routes.asking import answer, ask, ask_websocket
from tests.support.asgi import asgi_request, http_scope


async def page(request):
    return PlainTextResponse("a page")


async def other(request):
    return PlainTextResponse("another page")


async def socket(websocket):
    await websocket.accept()
    await websocket.close()


class Plate(HTTPEndpoint):
    async def get(self, request):
        return PlainTextResponse("a plate")


class Kitchen(WebSocketEndpoint):
    pass


async def opaque(scope, receive, send):
    await PlainTextResponse("from an app of its own")(scope, receive, send)


def test_a_route_is_told_as_declared():
    app = Starlette(
        routes=[Route("/", page), Route("/users/{id:int}", page), Route("/files/{path:path}", page)]
    )
    assert ask(app, "/") == "/"
    assert ask(app, "/users/7") == "/users/{id:int}"
    assert ask(app, "/files/a/b/c") == "/files/{path:path}"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/users/x", 404),
        ("DELETE", "/users/7", 405),
        ("BREW", "/users/7", 405),
        ("DELETE", "/plate", 405),
        ("GET", "/users/7/", 307),
        ("GET", "/in/nowhere", 404),
        ("DELETE", "/in/side", 405),
        ("GET", "/in/side/", 307),
        ("GET", "/in", 307),
    ],
)
def test_requests_that_match_nothing_have_none(method, path, status):
    inside = Mount("/in", routes=[Route("/side", page)])
    app = Starlette(routes=[Route("/users/{id:int}", page), Route("/plate", Plate), inside])
    assert answer(app, path, method) == (status, None)


def test_methods_of_one_path_may_be_routes_of_their_own():
    app = Starlette(routes=[Route("/users", page), Route("/users", other, methods=["POST"])])
    assert ask(app, "/users", "HEAD") == "/users"
    assert ask(app, "/users", "POST") == "/users"
    assert answer(app, "/users", "PUT") == (405, None)


def test_a_handler_that_answers_404_or_raises_keeps_its_route():
    async def missing(request):
        raise HTTPException(404)

    async def broken(request):
        raise ValueError("the handler's own")

    app = Starlette(routes=[Route("/items/{id}", missing), Route("/broken/{id}", broken)])
    assert answer(app, "/items/7") == (404, "/items/{id}")
    assert answer(app, "/broken/7") == (500, "/broken/{id}")


def test_mounts_add_their_declared_path_not_what_the_client_sent():
    tenant = Starlette(routes=[Route("/", page), Route("/orders/{id}", page)])
    app = Starlette(routes=[Mount("/api", routes=[Mount("/t/{tenant}", tenant), Route("/up", page)])])
    assert ask(app, "/api/up") == "/api/up"
    assert ask(app, "/api/t/blue/") == "/api/t/{tenant}/"
    assert ask(app, "/api/t/blue/orders/9") == "/api/t/{tenant}/orders/{id}"


def test_one_app_mounted_at_two_places_is_told_apart():
    shop = Starlette(routes=[Route("/items/{id}", page)])
    app = Starlette(
        routes=[
            Mount("/v1", shop),
            Mount("/v2/{region}", shop),
            Mount("/deep", routes=[Mount("/v1", shop)]),
        ]
    )
    routes = AsgiRoutes(app)
    for _ in range(2):
        assert ask(app, "/v1/items/1", routes=routes) == "/v1/items/{id}"
        assert ask(app, "/v2/north/items/1", routes=routes) == "/v2/{region}/items/{id}"
        assert ask(app, "/deep/v1/items/1", routes=routes) == "/deep/v1/items/{id}"
        assert answer(app, "/v1/items/1", "PUT", routes=routes) == (405, None)


def test_one_function_at_two_paths_is_told_apart():
    app = Starlette(
        routes=[Route("/a/{x}", page), Route("/b/{y}", page), Mount("/in", routes=[Route("/a", page)])]
    )
    assert [ask(app, path) for path in ("/a/1", "/b/1", "/in/a")] == ["/a/{x}", "/b/{y}", "/in/a"]


def test_the_servers_root_path_is_no_part_of_it():
    shop = Starlette(routes=[Route("/items/{id}", page)])
    app = Starlette(routes=[Route("/up", page), Mount("/v1", shop), Mount("/v2", shop)])
    under = {"scope": {"root_path": "/proxy/x"}}
    assert ask(app, "/proxy/x/up", **under) == "/up"
    assert ask(app, "/proxy/x/v1/items/1", **under) == "/v1/items/{id}"
    assert ask(app, "/proxy/x/v2/items/1", **under) == "/v2/items/{id}"


def test_hosts_add_nothing():
    api = Router(routes=[Route("/users/{id}", page)])
    app = Starlette(routes=[Host("{sub}.example.org", api, name="api"), Route("/users/{name}", other)])
    assert ask(app, "/users/1", host="a.example.org:8000") == "/users/{id}"
    assert ask(app, "/users/1", host="else.test") == "/users/{name}"


def test_mounts_of_files_and_of_foreign_apps_have_one_template_each(tmp_path):
    (tmp_path / "style.css").write_text("")
    app = Starlette(
        routes=[
            Mount("/static", StaticFiles(directory=tmp_path)),
            Mount("/t/{tenant}", routes=[Mount("/foreign", opaque)]),
        ]
    )
    assert answer(app, "/static/style.css") == (200, "/static/{path}")
    assert answer(app, "/static/missing.css") == (404, "/static/{path}")
    assert ask(app, "/t/blue/foreign/a/b") == "/t/{tenant}/foreign/{path}"


@pytest.mark.filterwarnings("ignore:starlette.middleware.wsgi is deprecated")
def test_wsgi_apps_under_a_mount_have_one_template():
    def legacy(environ, start_response):
        start_response("200 OK", [])
        return [b"old"]

    adapter = pytest.importorskip("starlette.middleware.wsgi", reason="Starlette gave its adapter away")
    app = Starlette(routes=[Mount("/old", adapter.WSGIMiddleware(legacy))])
    assert ask(app, "/old/a/b") == "/old/{path}"


def test_websockets_have_their_routes():
    app = Starlette(
        routes=[
            Route("/both", page),
            WebSocketRoute("/both", socket),
            Mount("/t/{tenant}", routes=[WebSocketRoute("/kitchen/{id}", Kitchen)]),
        ]
    )
    assert ask_websocket(app, "/both") == "/both"
    assert ask_websocket(app, "/t/blue/kitchen/4") == "/t/{tenant}/kitchen/{id}"
    assert ask_websocket(app, "/nowhere") is None


def test_endpoint_classes_have_their_routes():
    app = Starlette(routes=[Route("/plates/{id}", Plate)])
    assert ask(app, "/plates/1") == "/plates/{id}"
    assert ask(app, "/plates/1", "HEAD") == "/plates/{id}"


def test_routes_added_while_running_are_seen():
    app = Starlette(routes=[Route("/first", page), Mount("/in", routes=[Route("/first", page)])])
    routes = AsgiRoutes(app)
    assert ask(app, "/first", routes=routes) == "/first"
    app.router.routes.append(Route("/second/{id}", page))
    app.router.routes[1].routes.append(Route("/second/{id}", page))
    assert ask(app, "/second/1", routes=routes) == "/second/{id}"
    assert ask(app, "/in/second/1", routes=routes) == "/in/second/{id}"
    assert ask(app, "/first", routes=routes) == "/first"


@pytest.mark.parametrize("in_place", [True, False])
def test_swapped_routes_are_seen(in_place):
    shop = Starlette(routes=[Route("/items/{id}", page)])
    app = Starlette(routes=[Mount("/v1", shop), Route("/up", page)])
    routes = AsgiRoutes(app)
    assert ask(app, "/v1/items/1", routes=routes) == "/v1/items/{id}"
    swapped = [Mount("/v2", shop), Route("/down", page)]
    if in_place:
        app.router.routes[:] = swapped
    else:
        app.router.routes = swapped
    assert ask(app, "/v2/items/1", routes=routes) == "/v2/items/{id}"
    assert ask(app, "/down", routes=routes) == "/down"
    assert answer(app, "/v1/items/1", routes=routes) == (404, None)


def test_a_second_place_for_a_known_app_is_seen():
    shop = Starlette(routes=[Route("/items/{id}", page)])
    app = Starlette(routes=[Mount("/v1", shop)])
    routes = AsgiRoutes(app)
    assert ask(app, "/v1/items/1", routes=routes) == "/v1/items/{id}"
    app.router.routes.append(Mount("/v2", shop))
    assert ask(app, "/v2/items/1", routes=routes) == "/v2/items/{id}"
    assert ask(app, "/v1/items/1", routes=routes) == "/v1/items/{id}"


class Copying:
    """Middleware that hands on a copy of the scope, so that nothing written to it comes back."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        await self.app(dict(scope), receive, send)


class CopyingWithSlots:
    __slots__ = ("app",)
    __init__, __call__ = Copying.__init__, Copying.__call__


@pytest.mark.parametrize("copying", [Copying, CopyingWithSlots])
def test_a_copied_scope_does_not_hide_the_route(copying):
    tenant = copying(Starlette(routes=[Route("/orders/{id}", page)]))
    host = Host("api.example.org", Router(routes=[Route("/h/{id}", page)]))
    inner = Starlette(routes=[host, Route("/users/{id:int}", page), Mount("/t/{tenant}", tenant)])
    for app in (inner, copying(inner), copying(copying(inner))):
        routes = AsgiRoutes(app)
        assert ask(app, "/users/1", routes=routes) == "/users/{id:int}"
        assert ask(app, "/t/blue/orders/1", routes=routes) == "/t/{tenant}/orders/{id}"
        assert ask(app, "/h/1", host="api.example.org:80", routes=routes) == "/h/{id}"
        assert answer(app, "/h/1", routes=routes) == (404, None)
        assert answer(app, "/t/blue/nowhere", routes=routes) == (404, None)
        assert answer(app, "/nowhere", routes=routes) == (404, None)
        assert answer(app, "/users/1", "PUT", routes=routes) == (405, None)
        assert answer(app, "/users/1/", routes=routes) == (307, None)


def test_routes_added_behind_a_copied_scope_are_seen():
    inner = Starlette(routes=[Mount("/in", routes=[Route("/first", page)])])
    app = Copying(inner)
    routes = AsgiRoutes(app)
    assert ask(app, "/in/first", routes=routes) == "/in/first"
    inner.router.routes[0].routes.append(Route("/second", page))
    assert ask(app, "/in/second", routes=routes) == "/in/second"


def test_middleware_between_us_and_the_router_changes_nothing():
    async def dispatch(request, call_next):
        return await call_next(request)

    app = Starlette(
        routes=[
            Mount("/in", Starlette(routes=[Route("/{id}", page)], middleware=[Middleware(CORSMiddleware)]))
        ],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=dispatch), Middleware(CORSMiddleware)],
    )
    assert ask(app, "/in/1") == "/in/{id}"


def test_a_middleware_that_answers_itself_is_told_by_the_route_it_kept_from():
    class Guard:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            await PlainTextResponse("no", status_code=401)(scope, receive, send)

    app = Guard(Starlette(routes=[Route("/users/{id}", page)]))
    assert answer(app, "/users/1") == (401, "/users/{id}")
    assert answer(app, "/etc/passwd") == (401, None)


def test_an_app_behind_a_closure_is_found():
    shop = Starlette(routes=[Route("/items/{id}", page), Mount("/t/{tenant}", routes=[Route("/x", page)])])

    async def wrapped(scope, receive, send):
        await shop(scope, receive, send)

    app = Starlette(routes=[Route("/up", page), Mount("/shop", wrapped)])
    for outer in (app, wrapped):
        prefix = "/shop" if outer is app else ""
        routes = AsgiRoutes(outer)
        assert ask(outer, prefix + "/items/1", routes=routes) == prefix + "/items/{id}"
        assert ask(outer, prefix + "/t/blue/x", routes=routes) == prefix + "/t/{tenant}/x"


def test_our_middleware_inside_the_app_sees_the_whole_template():
    seen = []

    class Ours:
        def __init__(self, app):
            self.app, self.routes = app, AsgiRoutes(app)

        async def __call__(self, scope, receive, send):
            await self.app(scope, receive, send)
            if scope["type"] == "http":
                seen.append(self.routes.template(scope))

    inner = Starlette(routes=[Route("/{id}", page)], middleware=[Middleware(Ours)])
    app = Starlette(routes=[Mount("/in", inner), Route("/up", page)], middleware=[Middleware(Ours)])
    ask(app, "/in/1")
    ask(app, "/up")
    assert seen == ["/in/{id}", "/in/{id}", "/up"]


def test_it_may_be_asked_in_the_middle_of_a_request():
    seen = []

    async def asking(request):
        seen.append(routes.template(request.scope))
        return PlainTextResponse("")

    app = Starlette(routes=[Mount("/t/{tenant}", routes=[Route("/{id}", asking)])])
    routes = AsgiRoutes(app)
    ask(app, "/t/blue/1")
    assert seen == ["/t/{tenant}/{id}"]


def test_a_route_class_of_the_apps_own_is_told_by_its_path():
    class Exactly(BaseRoute):
        path = "/exactly"

        def matches(self, scope):
            found = scope["type"] == "http" and scope["path"] == self.path
            return (Match.FULL, {"endpoint": self}) if found else (Match.NONE, {})

        async def handle(self, scope, receive, send):
            await PlainTextResponse("")(scope, receive, send)

    app = Starlette(routes=[Exactly(), Route("/up", page)])
    routes = AsgiRoutes(app)
    response = asyncio.run(asgi_request(app, "GET", "/exactly"))
    # Versions before 1.7 do not say which route matched, and this one's endpoint is no route's.
    assert routes.template(response.scope) == ("/exactly" if "route" in response.scope else None)
    assert ask(app, "/up", routes=routes) == "/up"


def test_bare_apps_tell_nothing():
    assert ask(opaque, "/anything") is None
    assert ask(Copying(opaque), "/anything") is None


def test_an_app_mounted_in_itself_or_wrapped_in_itself_ends():
    app = Starlette(routes=[Route("/x", page)])
    app.router.routes.append(Mount("/again", app))
    assert ask(app, "/x") == "/x"
    assert ask(app, "/again/again/x") == "/again/again/x"
    app.router.routes.append(
        Mount("/{name}/once/more", app)
    )  # twice in itself: two to the power of the depth
    assert ask(app, "/x") == "/x"
    loop = Copying(None)
    loop.app = loop
    assert AsgiRoutes(loop).template(http_scope()) is None


@pytest.mark.parametrize(
    "scope",
    [
        {},
        {"type": "http"},
        {"type": "lifespan"},
        {"type": "http", "path": None, "router": 1, "route": 2, "endpoint": 3},
        {"type": "http", "path": "/", "router": Starlette(), "route": object(), "endpoint": object()},
        {"type": "http", "path": "/\n\ud800", "root_path": "/\udcff", "headers": None},
        {"type": "websocket", "path": "/", "fastapi": 5},
    ],
)
def test_no_scope_makes_it_raise(scope):
    app = Starlette(routes=[Host("a", Router([Route("/{x}", page)])), Route("/users/{id}", page)])
    assert AsgiRoutes(app).template(scope) is None


def test_routes_that_raise_when_looked_at_do_not_take_the_others_with_them():
    class Nasty(BaseRoute):
        def matches(self, scope):
            return Match.NONE, {}

        @property
        def path(self):
            raise RuntimeError("no")

    app = Starlette(routes=[Nasty(), Route("/up", page)])
    assert ask(app, "/up") == "/up"


def test_the_memory_of_many_routers_is_bounded():
    routes = AsgiRoutes(opaque)
    for _ in range(200):
        app = Starlette(routes=[Route("/x/{id}", page)])
        assert ask(app, "/x/1", routes=routes) == "/x/{id}"
    assert len(routes._trees) <= 64
