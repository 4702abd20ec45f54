"""Django: the route of the resolver's match, through include()d URL confs, under WSGI and ASGI."""

from __future__ import annotations

import sys
from functools import partial
from types import ModuleType

import django
import pytest
from django.conf import settings
from starlette.applications import Starlette
from starlette.routing import Mount
from werkzeug.middleware.dispatcher import DispatcherMiddleware

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="tests_routes_django_urls",
        SECRET_KEY="only for tests",
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    )
    django.setup(set_prefix=False)

from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.test.utils import override_settings
from django.urls import include, path, re_path
from django.views.decorators.http import require_GET

from restaurant_otel.routes import AsgiRoutes, WsgiRoutes, prepare, restore
from restaurant_otel.routes.django import readable
from tests.routes.asking import answer, ask, ask_wsgi
from tests.support.wsgi import wsgi_call


def page(request, **captured):
    return HttpResponse("a page")


async def async_page(request, **captured):
    return HttpResponse("an async page")


def stream(request):
    return StreamingHttpResponse(iter([b"a", b"b"]))


def missing(request, **captured):
    raise Http404


def broken(request, **captured):
    raise ValueError("the view's own")


def switched(request):
    request.urlconf = "tests_routes_django_other"
    return HttpResponse("")


branch = [
    path("", page),
    path("menu/<slug:dish>/", page),
    re_path(r"^schedules/(?P<year>[0-9]{4})/(\d+)/$", page),
]
urls = ModuleType("tests_routes_django_urls")
urls.urlpatterns = [
    path("", page),
    path("async/<int:id>/", async_page),
    path("stream/", stream),
    path("missing/<str:name>/", missing),
    path("broken/<str:name>/", broken),
    path("get/", require_GET(page)),
    path("branches/<int:branch>/", include(branch)),
    re_path(r"^old/", include(branch)),
]
sys.modules[urls.__name__] = urls


@pytest.fixture(autouse=True)
def _urls():
    with override_settings(ROOT_URLCONF=urls.__name__, ALLOWED_HOSTS=["*"]):
        yield


TEMPLATES = [
    ("/", "/"),
    ("/async/7/", "/async/<int:id>/"),
    ("/stream/", "/stream/"),
    ("/branches/7/", "/branches/<int:branch>/"),
    ("/branches/7/menu/soup/", "/branches/<int:branch>/menu/<slug:dish>/"),
    ("/branches/7/schedules/2024/11/", "/branches/<int:branch>/schedules/<year>/<var>/"),
    ("/old/schedules/2024/11/", "/old/schedules/<year>/<var>/"),
    ("/missing/x/", "/missing/<str:name>/"),
    ("/broken/x/", "/broken/<str:name>/"),
    ("/nowhere/", None),
    ("/async/x/", None),
    ("/async/7", None),
]


@pytest.mark.parametrize(("path", "template"), TEMPLATES)
def test_under_wsgi_the_route_is_told_as_declared(path, template):
    assert ask_wsgi(WSGIHandler(), path) == template


@pytest.mark.parametrize(("path", "template"), TEMPLATES)
def test_under_asgi_the_route_is_told_as_declared(path, template):
    assert ask(ASGIHandler(), path) == template


def test_a_view_that_refuses_the_method_keeps_its_route():
    """Unlike the other frameworks, Django matches whatever the method: the 405 is the view's own answer."""
    assert answer(ASGIHandler(), "/get/", "PUT") == (405, "/get/")


def test_a_dispatcher_adds_where_it_has_the_handler():
    app = DispatcherMiddleware(WSGIHandler(), {"/site": WSGIHandler()})
    routes = WsgiRoutes(app)
    assert ask_wsgi(app, "/site/async/7/", routes=routes) == "/site/async/<int:id>/"
    assert ask_wsgi(app, "/async/7/", routes=routes) == "/async/<int:id>/"


def test_a_starlette_mount_adds_its_path():
    app = Starlette(routes=[Mount("/t/{tenant}", ASGIHandler())])
    routes = AsgiRoutes(app)
    assert ask(app, "/t/blue/async/7/", routes=routes) == "/t/{tenant}/async/<int:id>/"
    assert answer(app, "/t/blue/nowhere/", routes=routes) == (404, "/t/{tenant}/{path}")


class Protocols:
    """As Channels' ProtocolTypeRouter keeps its apps."""

    def __init__(self, mapping):
        self.application_mapping = mapping

    async def __call__(self, scope, receive, send):
        await self.application_mapping[scope["type"]](scope, receive, send)


def test_wrappers_are_seen_through():
    assert ask(Protocols({"http": ASGIHandler()}), "/async/7/") == "/async/<int:id>/"

    class Wrapper:
        def __init__(self, application):
            self.application = application

        def __call__(self, environ, start_response):
            return self.application(environ, start_response)

    assert ask_wsgi(Wrapper(WSGIHandler()), "/async/7/") == "/async/<int:id>/"


def test_a_handler_called_by_its_method_is_found():
    handler = WSGIHandler()
    assert ask_wsgi(partial(WSGIHandler.__call__, handler), "/async/7/") == "/async/<int:id>/"
    assert ask_wsgi(WSGIHandler().__call__, "/async/7/") == "/async/<int:id>/"


def test_preparing_twice_is_preparing_once_and_restoring_leaves_nothing():
    handler = WSGIHandler()
    before = dict(vars(handler))
    prepare(handler)
    once = handler.resolve_request
    prepare(handler)
    assert handler.resolve_request is once
    assert ask_wsgi(handler, "/async/7/") == "/async/<int:id>/"
    restore(handler)
    restore(handler)
    assert vars(handler) == before
    assert wsgi_call(handler, "GET", "/async/7/").status == 200


def test_whoever_wrapped_the_handler_before_us_stays():
    handler = WSGIHandler()
    calls = []
    original = handler.resolve_request

    def theirs(request):
        calls.append(request)
        return original(request)

    handler.resolve_request = theirs
    prepare(handler)
    assert ask_wsgi(handler, "/async/7/") == "/async/<int:id>/"
    restore(handler)
    assert handler.resolve_request is theirs
    assert len(calls) == 1


def test_what_is_used_of_django_is_still_there():
    """The handler's method carries no promise: should it go, Django's requests lose their templates."""
    handler = WSGIHandler()
    seen = []
    original = handler.resolve_request

    def looking(request):
        seen.append(request.environ)
        match = original(request)
        seen.append(match.route)
        return match

    handler.resolve_request = looking
    response = wsgi_call(handler, "GET", "/async/7/")
    assert seen == [response.environ, "async/<int:id>/"]


@pytest.mark.parametrize(
    ("route", "template"),
    [
        ("", "/"),
        ("/", "/"),
        ("users/<int:id>/", "/users/<int:id>/"),
        ("^users/(?P<id>[0-9]+)/$", "/users/<id>/"),
        (r"^files/(?P<name>[^/()]+\.(?:js|css))/?$", "/files/<name>/"),
        (r"^(?:en|de)/x\.html\Z", "/en|de/x.html"),
        (r"^a/(b(c)(d))/[()]/\(x\)$", "/a/<var>/[()]/(x)"),
        (r"^(?i:x)(?!y)z$", "/z"),
        (r"^broken/(?P<name", "/broken/<name>"),
        (r"^broken/(\d", "/broken/<var>"),
        ("^tail\\", "/tail\\"),
        ("^[", "/["),
    ],
)
def test_patterns_become_readable(route, template):
    assert readable(route) == template


def test_templates_have_bounded_length():
    assert len(readable("x" * 10_000)) == 255
