"""The app that the admin API's tests serve: two routes, caches, and the API with one secret."""

from __future__ import annotations

import logging
import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from restaurant_otel import instrument
from restaurant_otel.cache import AsyncCache, Cache
from tests.admin import lag
from tests.admin.tokens import ROOT, SECRET

logging.getLogger("restaurant_otel.audit").addHandler(logging.StreamHandler())


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.path_params["name"])


def broken(_: Request) -> None:
    raise RuntimeError("broken on purpose")


caches: list[Cache | AsyncCache] = [Cache("memory://", namespace="menu")]
if url := os.environ.get("TEST_REDIS_URL"):
    caches += [Cache(url, namespace="shop", timeout=5.0), AsyncCache(url, namespace="bar", timeout=5.0)]

app = instrument(
    Starlette(routes=[Route("/hello/{name}", hello), Route("/broken", broken)], lifespan=lag.watched),
    admin=ROOT,
    admin_key=SECRET,
    admin_origins=os.environ.get("TEST_ORIGIN", "https://grafana.example.org"),
    admin_database_url=os.environ.get("TEST_DATABASE_URL"),
)


def wsgi(environ, start_response):  # type: ignore[no-untyped-def]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


wsgi_app = instrument(wsgi, admin=ROOT, admin_key=SECRET)
