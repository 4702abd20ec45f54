"""The pages in Django, the items in an included URL conf; `app` for WSGI, `asgi` for ASGI."""

from __future__ import annotations

import os
import time
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, Http404, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from tests.system.apps.pages import CHUNKS, FILE, HELLO, Boom, database, first_item, with_one_line

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DEBUG=False,
        ROOT_URLCONF=__name__,
        SECRET_KEY="of the tests",
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        LOGGING_CONFIG=None,
    )
    django.setup()

engine = database()


def hello(request: Any) -> HttpResponse:
    return HttpResponse(HELLO, content_type="text/plain")


def item(request: Any, id: str) -> HttpResponse:  # noqa: A002 - the page's parameter has this name in every app
    if id == "none":
        raise Http404
    return HttpResponse(f"item {id}", content_type="text/plain")


def stream(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(iter(CHUNKS), content_type="text/plain")


def file(request: Any) -> FileResponse:
    return FileResponse(FILE.open("rb"), content_type="text/plain")


def boom(request: Any) -> HttpResponse:
    raise Boom("asked for")


def redirect(request: Any) -> HttpResponse:
    return HttpResponseRedirect("/")


def query(request: Any) -> HttpResponse:
    return HttpResponse(first_item(engine), content_type="text/plain")


def slow(request: Any) -> HttpResponse:
    time.sleep(float(request.GET.get("seconds", "0.2")))
    return HttpResponse("at last", content_type="text/plain")


def pid(request: Any) -> HttpResponse:
    return HttpResponse(str(os.getpid()), content_type="text/plain")


@csrf_exempt
def echo(request: Any) -> HttpResponse:
    return HttpResponse(request.body, content_type="application/octet-stream")


urlpatterns = [
    path("", hello),
    path("items/", include([path("<str:id>", item)])),
    path("stream", stream),
    path("file", file),
    path("boom", boom),
    path("redirect", redirect),
    path("query", query),
    path("slow", slow),
    path("pid", pid),
    path("echo", echo),
]

app = with_one_line(get_wsgi_application())
asgi = with_one_line(get_asgi_application())
