"""A bare WSGI callable: no framework, so no routes; it answers by path."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.system.apps.pages import CHUNKS, FILE, HELLO, Boom, with_one_line


def pages(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """The pages."""
    path = environ["PATH_INFO"]
    if path == "/boom":
        raise Boom("asked for")
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return iter(CHUNKS)
    if path == "/file":
        start_response(
            "200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(FILE.stat().st_size))]
        )
        return environ["wsgi.file_wrapper"](FILE.open("rb"))
    status, body = ("200 OK", HELLO) if path == "/" else ("404 Not Found", b"no such page")
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]


app = with_one_line(pages)
