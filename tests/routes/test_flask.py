"""Flask: the rule as declared, with the prefixes of blueprints and of a dispatcher's mounts."""

from __future__ import annotations

import gc
import weakref

import pytest
from flask import Blueprint, Flask, Response, abort, redirect, stream_with_context
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from restaurant_otel.routes import WsgiRoutes, prepare, restore
from tests.routes.asking import ask_wsgi
from tests.support.wsgi import wsgi_call


def shop(**options) -> Flask:
    app = Flask("shop", **options)

    @app.get("/")
    def home():
        return "home"

    @app.get("/users/<int:number>/")
    def user(number):
        return "user"

    @app.get("/missing/<name>")
    def missing(name):
        abort(404)

    @app.get("/away/<name>")
    def away(name):
        return redirect("/")

    @app.get("/broken/<name>")
    def broken(name):
        raise ValueError("the handler's own")

    @app.get("/stream/<path:name>")
    def stream(name):
        return Response(stream_with_context(iter(["a", "b"])))

    return app


def test_a_rule_is_told_as_declared():
    app = shop()
    assert ask_wsgi(app, "/") == "/"
    assert ask_wsgi(app, "/users/7/") == "/users/<int:number>/"
    assert ask_wsgi(app, "/users/7/", "HEAD") == "/users/<int:number>/"
    assert ask_wsgi(app, "/users/7/", "OPTIONS") == "/users/<int:number>/"
    assert ask_wsgi(app, "/stream/a/b") == "/stream/<path:name>"
    assert ask_wsgi(app, "/static/missing.css") == "/static/<path:filename>"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/nowhere"), ("GET", "/users/x/"), ("PUT", "/users/7/"), ("GET", "/users/7")]
)
def test_requests_that_match_nothing_have_none(method, path):
    assert ask_wsgi(shop(), path, method) is None


def test_a_handler_that_answers_404_redirects_or_raises_keeps_its_rule():
    app = shop()
    assert ask_wsgi(app, "/missing/x") == "/missing/<name>"
    assert ask_wsgi(app, "/away/x") == "/away/<name>"
    assert ask_wsgi(app, "/broken/x") == "/broken/<name>"


def test_an_exception_that_flask_lets_through_keeps_its_rule():
    app = shop()
    app.config["PROPAGATE_EXCEPTIONS"] = True
    assert ask_wsgi(app, "/broken/x") == "/broken/<name>"


def test_blueprints_add_their_prefixes():
    inner = Blueprint("inner", "inner", url_prefix="/inner")

    @inner.get("/<slug>")
    def page(slug):
        return slug

    outer = Blueprint("outer", "outer", url_prefix="/outer/<int:tenant>")
    outer.register_blueprint(inner)
    app = Flask("app")

    @outer.url_value_preprocessor
    def take(endpoint, values):
        values.pop("tenant")

    app.register_blueprint(outer)
    app.register_blueprint(inner, url_prefix="/again", name="again")
    assert ask_wsgi(app, "/outer/1/inner/x") == "/outer/<int:tenant>/inner/<slug>"
    assert ask_wsgi(app, "/again/x") == "/again/<slug>"


def test_mounted_apps_add_where_the_dispatcher_has_them():
    first, second = shop(), shop()
    app = DispatcherMiddleware(
        first, {"/second": second, "/deep": DispatcherMiddleware(first, {"/er": second})}
    )
    routes = WsgiRoutes(app)
    assert ask_wsgi(app, "/users/1/", routes=routes) == "/users/<int:number>/"
    assert ask_wsgi(app, "/second/users/1/", routes=routes) == "/second/users/<int:number>/"
    assert ask_wsgi(app, "/deep/users/1/", routes=routes) == "/deep/users/<int:number>/"
    assert ask_wsgi(app, "/deep/er/users/1/", routes=routes) == "/deep/er/users/<int:number>/"
    assert ask_wsgi(app, "/second/nowhere", routes=routes) is None


def test_script_names_of_servers_and_clients_are_no_part_of_it():
    app = ProxyFix(DispatcherMiddleware(shop(), {"/in": shop()}), x_prefix=1)
    routes = WsgiRoutes(app)
    for number in range(20):
        forged = [("X-Forwarded-Prefix", f"/forged{number}")]
        assert ask_wsgi(app, "/in/users/1/", routes=routes, headers=forged) == "/in/users/<int:number>/"
        assert ask_wsgi(app, "/users/1/", routes=routes, headers=forged) == "/users/<int:number>/"
    assert ask_wsgi(app, "/users/1/", routes=routes, environ={"SCRIPT_NAME": "/in"}) == "/users/<int:number>/"


def test_wrappers_and_apps_instrumented_in_place_are_found():
    app = shop()
    app.wsgi_app = ProxyFix(app.wsgi_app)
    assert ask_wsgi(ProxyFix(app), "/users/1/") == "/users/<int:number>/"
    assert ask_wsgi(app.wsgi_app, "/users/1/") == "/users/<int:number>/"


def test_an_app_behind_a_closure_tells_its_rule():
    app = shop()

    def wrapped(environ, start_response):
        return app(environ, start_response)

    assert ask_wsgi(wrapped, "/users/1/") == "/users/<int:number>/"


def test_it_may_be_asked_in_the_middle_of_a_request():
    from flask import request

    app = Flask("app")
    seen = []

    @app.get("/users/<int:number>")
    def user(number):
        seen.append(routes.template(request.environ))
        return ""

    routes = WsgiRoutes(app)
    wsgi_call(app, "GET", "/users/1")
    assert seen == ["/users/<int:number>"]


def test_preparing_twice_is_preparing_once_and_restoring_leaves_nothing():
    from flask import got_request_exception

    app = shop()
    app.config["PROPAGATE_EXCEPTIONS"] = True

    def listeners():
        return len(list(got_request_exception.receivers_for(app)))

    prepare(app)
    prepare(app)
    assert listeners() == 1
    restore(app)
    restore(app)
    assert listeners() == 0


def test_a_prepared_app_can_be_collected():
    app = shop()
    routes = WsgiRoutes(app)
    gone = weakref.ref(app)
    del app, routes
    gc.collect()
    assert gone() is None


def test_bare_apps_tell_nothing():
    def app(environ, start_response):
        start_response("200 OK", [])
        return [b""]

    assert ask_wsgi(app, "/anything") is None


@pytest.mark.parametrize(
    "environ", [{}, {"werkzeug.request": 5}, {"werkzeug.request": None, "SCRIPT_NAME": 3}]
)
def test_no_environ_makes_it_raise(environ):
    assert WsgiRoutes(shop()).template(environ) is None


def test_what_is_used_of_flask_is_still_there():
    """Werkzeug documents the key; that it is taken out again when the app returns is why we ask early."""
    seen = []
    app = shop()

    def looking(environ, start_response):
        def starting(*args):
            seen.append(environ["werkzeug.request"].url_rule)
            return start_response(*args)

        return app(environ, starting)

    wsgi_call(looking, "GET", "/users/1/")
    assert [(rule.rule, rule.map) for rule in seen] == [("/users/<int:number>/", app.url_map)]
