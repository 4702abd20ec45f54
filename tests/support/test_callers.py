"""The in-process callers behave as servers do, also at bad moments; readings read both sources alike."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from restaurant_otel.catalog import HTTP_SERVER_ACTIVE_REQUESTS, OPERATION_DURATION, TELEMETRY_ERRORS
from restaurant_otel.metrics import Family, registry
from restaurant_otel.metrics.exposition import negotiate, render
from tests.support.asgi import asgi_call, asgi_websocket
from tests.support.readings import from_families, parse, skim
from tests.support.servers import OPENMETRICS
from tests.support.wsgi import wsgi_call


async def talker(scope: Any, receive: Any, send: Any) -> None:
    """Echoes the body's chunks, one message each."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"X-A", b"b")]})
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


def test_an_asgi_call_gives_what_the_app_sent() -> None:
    response = asgi_call(talker, "POST", "/x", body=[b"a", b"b"], headers=[(b"h", b"v")], without=("client",))
    assert (response.status, response.header("x-a"), response.chunks) == (200, "b", [b"a", b"b"])
    assert response.complete
    assert "client" not in response.scope
    assert (b"h", b"v") in response.scope["headers"]


def test_an_asgi_client_may_leave_in_the_middle() -> None:
    response = asgi_call(talker, body=[b"a", b"b", b"c"], disconnect_after=2)
    assert response.chunks == [b"a"]
    assert not response.complete
    failed = asgi_call(talker, body=[b"a", b"b"], fail_send_after=2, catch=True)
    assert isinstance(failed.error, OSError)


def test_an_asgi_request_may_be_cancelled() -> None:
    async def waits(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await asyncio.sleep(3600)

    response = asgi_call(waits, cancel_after=1, catch=True)
    assert isinstance(response.error, asyncio.CancelledError)
    assert response.started


def test_an_asgi_websocket_talks_and_is_closed() -> None:
    async def loud(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            await send({"type": "websocket.send", "text": message["text"].upper()})
        assert message["code"] == 1001

    session = asyncio.run(asgi_websocket(loud, receives=["a", "b"], close_code=1001))
    assert [m.get("text") for m in session.messages] == [None, "A", "B"]


class Body:
    def __init__(self) -> None:
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        yield b"a"
        yield b"b"

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(("read", "body"), [(None, b"ab"), (1, b"a"), (0, b"")])
def test_a_wsgi_body_is_read_as_far_as_asked_and_always_closed(read: int | None, body: bytes) -> None:
    result = Body()

    def app(environ: Any, start_response: Any) -> Body:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return result

    response = wsgi_call(app, read=read, validate=read is None)
    assert (response.body, response.status, result.closed) == (body, 200, 1)


def test_a_second_start_response_needs_exc_info() -> None:
    def twice(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        start_response("500 Oh", [])
        return []

    assert isinstance(wsgi_call(twice, catch=True).error, AssertionError)


def test_the_registry_and_a_scrape_read_alike() -> None:
    numbers = registry()
    numbers.counter(TELEMETRY_ERRORS).bind("test").add(3)
    numbers.counter(HTTP_SERVER_ACTIVE_REQUESTS).bind("GET", "http").add(0)
    numbers.histogram(OPERATION_DURATION).bind("test", None).record_with_exemplar(0.03, 7, 9)
    numbers.histogram(OPERATION_DURATION).bind('"a"\\b\nc', None).record(0.03)
    # Of these alone: other tests have left label values behind that no exposition can show as they are.
    three = {TELEMETRY_ERRORS, HTTP_SERVER_ACTIVE_REQUESTS, OPERATION_DURATION}

    def collect() -> list[Family]:
        return [family for family in numbers.collect() if family.metric in three]

    families = collect()
    text = b"".join(render(families, negotiate(OPENMETRICS))).decode()
    direct, scraped = from_families(families), parse(text, OPENMETRICS)
    for name in (
        "restaurant_telemetry_errors_total",
        "restaurant_operation_duration_seconds_count",
        "restaurant_operation_duration_seconds_sum",
        "restaurant_operation_duration_seconds_bucket",
        "http_server_active_requests",
    ):
        assert direct.samples[name] == scraped.samples[name]
    assert direct.exemplars == {k: v for k, v in scraped.exemplars.items() if k in direct.exemplars} != {}
    assert direct.is_cumulative("restaurant_operation_duration_seconds_bucket")
    assert not direct.is_cumulative("http_server_active_requests")
    assert scraped.went_back(direct) == []
    skimmed = skim(text)
    assert (skimmed.samples, skimmed.types) == (scraped.samples, scraped.types)
    numbers.counter(TELEMETRY_ERRORS).bind("test").add(1)
    later = from_families(collect())
    assert (later - direct).total("restaurant_telemetry_errors_total") == 1
    assert len(direct.went_back(later)) == 1
