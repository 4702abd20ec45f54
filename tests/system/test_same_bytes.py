"""The same app answers the same bytes with and without the middleware, compared server to server.

What differs from one answer to the next anyway (Date, the boundary of a multipart body) is made equal first.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable

import pytest

from tests.support.servers import Server
from tests.system.apps.routes import BARE_ASGI, BARE_WSGI, DJANGO, DJANGO_ASGI, FASTAPI, FLASK, STARLETTE, App

REQUESTS = {
    "greeting": b"GET / HTTP/1.1\r\n\r\n",
    "http/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "head": b"HEAD / HTTP/1.1\r\n\r\n",
    "item": b"GET /items/7 HTTP/1.1\r\n\r\n",
    "item not there": b"GET /items/none HTTP/1.1\r\n\r\n",
    "stream": b"GET /stream HTTP/1.1\r\n\r\n",
    "stream head": b"HEAD /stream HTTP/1.1\r\n\r\n",
    "file": b"GET /file HTTP/1.1\r\n\r\n",
    "file head": b"HEAD /file HTTP/1.1\r\n\r\n",
    "file range": b"GET /file HTTP/1.1\r\nRange: bytes=1000-1999\r\n\r\n",
    "file end": b"GET /file HTTP/1.1\r\nRange: bytes=-10\r\n\r\n",
    "file ranges": b"GET /file HTTP/1.1\r\nRange: bytes=0-9,100-109\r\n\r\n",
    "file beyond its end": b"GET /file HTTP/1.1\r\nRange: bytes=99999999-\r\n\r\n",
    "redirect": b"GET /redirect HTTP/1.1\r\n\r\n",
    "slash redirect": b"GET /items/7/ HTTP/1.1\r\n\r\n",
    "error": b"GET /boom HTTP/1.1\r\n\r\n",
    "not found": b"GET /nowhere HTTP/1.1\r\n\r\n",
    "wrong method": b"DELETE /items/7 HTTP/1.1\r\n\r\n",
    "unknown method": b"BREW /items/7 HTTP/1.1\r\n\r\n",
    "options": b"OPTIONS / HTTP/1.1\r\n\r\n",
    "post": b"POST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    "post chunked": b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    "post nothing": b"POST /echo HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "post to a page": b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    "bytes in the path": b"GET /items/%ff%fe HTTP/1.1\r\n\r\n",
    "bytes in the query": b"GET /items/7?a=%ff&b=\xc3\xa9 HTTP/1.1\r\n\r\n",
    "bytes in a header": b"GET /items/7 HTTP/1.1\r\nX-Name: \xff\xfe\r\n\r\n",
    "broken traceparent": b"GET /items/7 HTTP/1.1\r\ntraceparent: 00-zz-zz-01\r\n\r\n",
    "metrics through a proxy": b"GET /metrics HTTP/1.1\r\nX-Forwarded-For: 10.0.0.9\r\n\r\n",
}

CASES = [
    (STARLETTE, "uvicorn"),
    (FASTAPI, "hypercorn"),
    (DJANGO_ASGI, "uvicorn"),
    (FLASK, "gunicorn"),
    (DJANGO, "gunicorn-gthread"),
    (BARE_WSGI, "gunicorn"),
]
MORE = [
    (STARLETTE, "hypercorn"),
    (STARLETTE, "granian"),
    (FASTAPI, "uvicorn"),
    (BARE_ASGI, "hypercorn"),
    (BARE_ASGI, "uvicorn"),
    (FLASK, "granian-wsgi"),
    (BARE_WSGI, "gunicorn-gthread"),
]


def _named(app: App, server: str, *marks: pytest.MarkDecorator) -> object:
    return pytest.param(app, server, id=f"{app.name}-{server}", marks=marks)


@pytest.mark.parametrize(
    ("app", "server"),
    [_named(*case) for case in CASES] + [_named(*case, pytest.mark.slow) for case in MORE],
)
def test_every_answer_is_the_same_with_and_without_the_line(
    serve: Callable[..., Server], app: App, server: str
) -> None:
    seed = {"PYTHONHASHSEED": "1"}  # Starlette writes Allow in the order of a set
    with_line = serve(server, app.target, env=seed)
    without = serve(server, app.target, env=seed | {"NO_LINE": "1"})
    different = {}
    for name, request in REQUESTS.items():
        ours, theirs = answer(with_line, request), answer(without, request)
        if ours != theirs:
            different[name] = (ours[:400], theirs[:400])
    assert not different
    assert answer(with_line, b"GET /metrics HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200"), (
        "the line is there"
    )
    assert not answer(without, b"GET /metrics HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200"), (
        "and here it is not"
    )


def answer(server: Server, request: bytes) -> bytes:
    """All bytes of the answer to a raw request on a connection of its own, made comparable."""
    first, rest = request.split(b"\r\n", 1)
    head = b"%s\r\nHost: testhost\r\nConnection: close\r\n%s" % (first, rest)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(head)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    return comparable(received)


def comparable(received: bytes) -> bytes:
    """`received` without what changes from answer to answer."""
    received = re.sub(rb"(?mi)^date: [^\r\n]*\r\n", b"", received, count=1)
    if found := re.search(rb"boundary=([0-9A-Za-z]+)", received):
        received = received.replace(found[1], b"BOUNDARY")
    return received


def test_comparable_hides_dates_and_boundaries_and_nothing_else() -> None:
    assert (
        comparable(b"HTTP/1.1 200\r\nDate: now\r\nA: b\r\n\r\nDate: x\r\n")
        == b"HTTP/1.1 200\r\nA: b\r\n\r\nDate: x\r\n"
    )
    assert comparable(b"x; boundary=abc1\r\n\r\n--abc1\r\n") == b"x; boundary=BOUNDARY\r\n\r\n--BOUNDARY\r\n"
