"""The wait before the app is told by the proxy's header, in any of its spellings, and by nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from restaurant_otel.middleware import ASGIMiddleware, WSGIMiddleware
from restaurant_otel.serving.queueing import waited
from tests.support.asgi import asgi_call
from tests.support.readings import Readings
from tests.support.wsgi import wsgi_call


@pytest.mark.parametrize(
    "header", ["t=1700000000.5", "1700000000500", "t=1700000000500000", "1, 1700000000.5"]
)
def test_every_spelling_is_read(header: str) -> None:
    assert waited(header, 1700000002.5) == pytest.approx(2.0)


@pytest.mark.parametrize("header", ["", "now", "t=", "1600000000", "1800000000", "9" * 40, "-1700000000"])
def test_nonsense_is_ignored(header: str) -> None:
    assert waited(header, 1700000002.5) is None


def test_a_clock_ahead_counts_as_no_wait() -> None:
    assert waited("1700000003.0", 1700000002.5) == 0.0


def test_a_request_with_the_header_is_counted(added: Callable[[], Readings]) -> None:
    async def app(scope, receive, send):  # type: ignore[no-untyped-def]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    asgi_call(ASGIMiddleware(app), headers=[(b"x-request-start", b"t=%.3f" % (time.time() - 3))])
    assert added().total("restaurant_http_server_queue_duration_seconds_sum") == pytest.approx(3.0, abs=1.5)


def test_it_is_counted_under_wsgi_too_and_nonsense_is_not(added: Callable[[], Readings]) -> None:
    def app(environ, start_response):  # type: ignore[no-untyped-def]
        start_response("200 OK", [])
        return [b""]

    watched = WSGIMiddleware(app)
    for stamp in (f"t={(time.time() - 3) * 1000:.0f}", f"{time.time() + 3600:.3f}", "soon"):
        assert wsgi_call(watched, headers=[("X-Queue-Start", stamp)]).status == 200
    counted = added()
    assert counted.total("restaurant_http_server_queue_duration_seconds_count") == 1
    assert counted.total("restaurant_http_server_queue_duration_seconds_sum") == pytest.approx(3.0, abs=1.5)
