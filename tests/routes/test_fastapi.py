"""FastAPI: prefixes of included routers count, whether a version copies their routes or refers to them."""

from __future__ import annotations

import pytest
from fastapi import APIRouter, FastAPI, HTTPException, WebSocket
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles

from restaurant_otel.routes import AsgiRoutes
from tests.routes.asking import answer, ask, ask_websocket


async def page(request):
    return PlainTextResponse("a page")


def items_router(**options):
    router = APIRouter(**options)

    @router.get("/items/{number}")
    async def item(number: int):
        if number == 404:
            raise HTTPException(404)
        return number

    @router.post("/items")
    async def create():
        return 1

    @router.websocket("/live/{number}")
    async def live(websocket: WebSocket, number: int):
        await websocket.accept()
        await websocket.close()

    return router


def test_a_path_operation_is_told_as_declared():
    app = FastAPI()

    @app.get("/users/{number}")
    async def user(number: int):
        return number

    assert ask(app, "/users/1") == "/users/{number}"
    assert answer(app, "/users/one") == (422, "/users/{number}")
    assert answer(app, "/users/1", "PUT") == (405, None)
    assert answer(app, "/users/1", "HEAD") == (405, None)
    assert answer(app, "/users/1/") == (307, None)
    assert answer(app, "/nowhere") == (404, None)
    assert answer(app, "/openapi.json") == (200, "/openapi.json")
    assert answer(app, "/docs") == (200, "/docs")


def test_included_routers_add_their_prefixes():
    inner = items_router(prefix="/shop")
    middle = APIRouter(prefix="/{region}")
    middle.include_router(inner, prefix="/v1")
    app = FastAPI()
    app.include_router(middle, prefix="/api")
    routes = AsgiRoutes(app)
    for _ in range(2):
        assert ask(app, "/api/north/v1/shop/items/1", routes=routes) == "/api/{region}/v1/shop/items/{number}"
        assert answer(app, "/api/north/v1/shop/items/404", routes=routes) == (
            404,
            "/api/{region}/v1/shop/items/{number}",
        )
        assert ask(app, "/api/north/v1/shop/items", "POST", routes=routes) == "/api/{region}/v1/shop/items"
        assert answer(app, "/api/north/v1/shop/items", routes=routes) == (405, None)
        assert answer(app, "/api/north/v1/shop/nowhere", routes=routes) == (404, None)
        assert (
            ask_websocket(app, "/api/north/v1/shop/live/1", routes=routes)
            == "/api/{region}/v1/shop/live/{number}"
        )


def test_one_router_included_twice_is_told_apart():
    router = items_router()
    app = FastAPI()
    app.include_router(router, prefix="/v1")
    app.include_router(router, prefix="/v2/{region}")
    app.include_router(router)
    routes = AsgiRoutes(app)
    for _ in range(2):
        assert ask(app, "/v1/items/1", routes=routes) == "/v1/items/{number}"
        assert ask(app, "/v2/north/items/1", routes=routes) == "/v2/{region}/items/{number}"
        assert ask(app, "/items/1", routes=routes) == "/items/{number}"


def test_a_router_included_again_while_running_is_told_apart():
    router = items_router()
    app = FastAPI()
    app.include_router(router, prefix="/v1")
    routes = AsgiRoutes(app)
    assert ask(app, "/v1/items/1", routes=routes) == "/v1/items/{number}"
    app.include_router(router, prefix="/v2")
    assert ask(app, "/v2/items/1", routes=routes) == "/v2/items/{number}"
    assert ask(app, "/v1/items/1", routes=routes) == "/v1/items/{number}"


def test_what_else_an_included_router_holds_is_told_too(tmp_path):
    (tmp_path / "style.css").write_text("")
    router = items_router()
    router.add_route("/plain/{number}", page)
    router.mount("/static", StaticFiles(directory=tmp_path))
    router.mount("/sub", Starlette(routes=[Route("/{number}", page)]))
    router.routes.append(Host("h.example.org", Router([Route("/hosted/{number}", page)])))
    app = FastAPI()
    app.include_router(router, prefix="/in")
    routes = AsgiRoutes(app)
    status, template = answer(app, "/in/plain/1", routes=routes)
    assert (status, template) == (200, "/in/plain/{number}")
    if answer(app, "/in/static/style.css", routes=routes)[0] == 200:  # versions up to 0.136 drop mounts
        assert ask(app, "/in/static/style.css", routes=routes) == "/in/static/{path}"
        assert ask(app, "/in/sub/1", routes=routes) == "/in/sub/{number}"
        assert ask(app, "/in/hosted/1", routes=routes, host="h.example.org") == "/in/hosted/{number}"


def test_mounted_applications_add_their_mount():
    sub = FastAPI()
    sub.include_router(items_router(), prefix="/v1")
    deep = FastAPI()
    deep.mount("/t/{tenant}", sub)
    app = FastAPI()
    app.mount("/deep", deep)
    app.mount("/sub", sub)
    routes = AsgiRoutes(app)
    assert ask(app, "/sub/v1/items/1", routes=routes) == "/sub/v1/items/{number}"
    assert ask(app, "/deep/t/blue/v1/items/1", routes=routes) == "/deep/t/{tenant}/v1/items/{number}"
    assert ask(app, "/deep/t/blue/docs", routes=routes) == "/deep/t/{tenant}/docs"
    assert answer(app, "/deep/t/blue/v1/items/1", "PUT", routes=routes) == (405, None)
    assert answer(app, "/deep/t/blue/nowhere", routes=routes) == (404, None)
    assert answer(app, "/deep/nowhere", routes=routes) == (404, None)


def test_starlette_and_fastapi_may_hold_each_other():
    sub = FastAPI()
    sub.include_router(items_router(), prefix="/v1")
    app = Starlette(routes=[Mount("/api", sub), Route("/up", page)])
    assert ask(app, "/api/v1/items/1") == "/api/v1/items/{number}"
    assert ask(app, "/api/docs") == "/api/docs"
    assert answer(app, "/api/nowhere") == (404, None)
    outer = FastAPI()
    outer.mount("/outer", app)
    assert ask(outer, "/outer/api/v1/items/1") == "/outer/api/v1/items/{number}"
    assert ask(outer, "/outer/up") == "/outer/up"


def test_the_root_path_is_no_part_of_it():
    app = FastAPI(root_path="/behind/proxy")
    app.include_router(items_router(), prefix="/v1")
    app.include_router(items_router(), prefix="/v2")
    app.mount("/sub", Starlette(routes=[Route("/{number}", page)]))
    for prefix in ("", "/behind/proxy"):
        assert ask(app, prefix + "/v1/items/1") == "/v1/items/{number}"
        assert ask(app, prefix + "/sub/1") == "/sub/{number}"


def test_route_classes_of_the_apps_own_keep_their_template():
    class Versioned(APIRoute):
        def matches(self, scope):
            return super().matches(scope)

        def get_route_handler(self):
            return super().get_route_handler()

    app = FastAPI()
    app.include_router(items_router(route_class=Versioned), prefix="/v1")
    assert ask(app, "/v1/items/1") == "/v1/items/{number}"


def test_a_copied_scope_does_not_hide_the_route():
    app = FastAPI(root_path="/proxy")
    app.include_router(items_router(), prefix="/v1")
    sub = FastAPI()
    app.mount("/sub", sub)

    class Copying:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            await self.app(dict(scope), receive, send)

    copied = Copying(app)
    routes = AsgiRoutes(copied)
    assert ask(copied, "/v1/items/1", routes=routes) == "/v1/items/{number}"
    assert ask(copied, "/proxy/v1/items/1", routes=routes) == "/v1/items/{number}"
    assert answer(copied, "/v1/items/1", "PUT", routes=routes) == (405, None)
    sub.include_router(items_router(), prefix="/late")
    assert ask(copied, "/sub/late/items/1", routes=routes) == "/sub/late/items/{number}"
    assert answer(copied, "/sub/late/nowhere", routes=routes) == (404, None)


def test_routes_added_to_an_included_router_while_running_are_seen():
    router = items_router()
    app = FastAPI()
    app.include_router(router, prefix="/v1")
    routes = AsgiRoutes(app)
    assert ask(app, "/v1/items/1", routes=routes) == "/v1/items/{number}"

    @router.get("/late/{number}")
    async def late(number: int):
        return number

    status, template = answer(app, "/v1/late/1", routes=routes)
    # Versions up to 0.136 copy an included router's routes, and answer 404 to later ones.
    assert template == ("/v1/late/{number}" if status == 200 else None)


@pytest.fixture
def site(tmp_path):
    if not hasattr(FastAPI, "frontend"):
        pytest.skip("this version of FastAPI serves no front ends")
    (tmp_path / "index.html").write_text("<p>index")
    (tmp_path / "app.js").write_text("")
    return tmp_path


def test_front_ends_have_one_template_each(site):
    sub = FastAPI()
    sub.frontend("/ui", directory=site)
    router = APIRouter(prefix="/in")
    router.frontend("/ui", directory=site)
    app = FastAPI()
    app.include_router(items_router(), prefix="/v1")
    app.include_router(router)
    app.mount("/t/{tenant}", sub)
    app.frontend("/admin", directory=site)
    app.frontend("/", directory=site)
    routes = AsgiRoutes(app)
    for path, template in [
        ("/", "/{path}"),
        ("/app.js", "/{path}"),
        ("/admin/app.js", "/admin/{path}"),
        ("/admin/", "/admin/{path}"),
        ("/in/ui/app.js", "/in/ui/{path}"),
        ("/t/blue/ui/app.js", "/t/{tenant}/ui/{path}"),
        ("/v1/items/1", "/v1/items/{number}"),
    ]:
        assert (path, answer(app, path, routes=routes)) == (path, (200, template))
    assert answer(app, "/admin/app.js", "POST", routes=routes) == (405, None)


def test_what_is_used_of_included_routers_is_still_there():
    """Names without promises: should one go, the templates of included routers go with it."""
    router = items_router()
    app = FastAPI()
    app.include_router(router, prefix="/v1")
    included = [route for route in app.routes if not hasattr(route, "path")]
    if not included:
        pytest.skip("this version of FastAPI copies the routes of included routers")
    assert [route.original_router for route in included] == [router]
    contexts = list(included[0].effective_route_contexts())
    assert [(context.starlette_route or context).path for context in contexts] == [
        "/v1/items/{number}",
        "/v1/items",
        "/v1/live/{number}",
    ]
    assert [context.original_route for context in contexts] == router.routes


def test_what_is_used_of_front_ends_is_still_there(site):
    """A name without promise: should it go, the templates of front ends go with it."""
    app = FastAPI()
    app.frontend("/ui", directory=site)
    seen = {}

    async def looking(scope, receive, send):
        await app(scope, receive, send)
        seen.update(scope)

    assert answer(looking, "/ui/app.js")[0] == 200
    assert seen["fastapi"]["frontend_path"] == "app.js"
