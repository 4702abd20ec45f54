"""In WSGI alone; `used` is the same app after it has served a request at import."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from restaurant_otel import instrument
from tests.resources import apps

PAGES: dict[str, Callable[[], str]] = {
    "/wait": apps.wait,
    "/garbage": apps.garbage,
    "/observed": lambda: json.dumps(apps.observed()),
}


def pages(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    page = PAGES.get(environ["PATH_INFO"])
    start_response("200 OK" if page else "404 Not Found", [("Content-Type", "text/plain")])
    return [page().encode() if page else b"no such page"]


app = instrument(pages)


def __getattr__(name: str) -> Any:
    if name == "used":
        from tests.support.wsgi import wsgi_call

        assert wsgi_call(app, path="/garbage").status == 200
        return app
    raise AttributeError(name)
