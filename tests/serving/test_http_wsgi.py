"""What one request over WSGI leaves behind, and that the protocol's fine print is kept."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.util import FileWrapper

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from restaurant_otel import WSGIMiddleware, instrument
from tests.support.readings import Readings
from tests.support.spans import Spans
from tests.support.wsgi import wsgi_call

DURATION = "http_server_request_duration_seconds_count"
ACTIVE = "http_server_active_requests"
INTERRUPTED = "restaurant_http_server_interrupted_requests_total"

Added = Callable[[], Readings]


def ok(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def test_the_required_and_recommended_attributes_are_set(spans: Spans) -> None:
    app = WSGIMiddleware(ok, tracer_provider=spans.provider)
    wsgi_call(app, "GET", "/caf%C3%A9", query="x=1", headers=[("user-agent", "curl/8"), ("host", "shop:81")])
    assert dict(spans.server().attributes or {}) == {
        "http.request.method": "GET",
        "url.path": "/café",
        "url.scheme": "http",
        "url.query": "x=1",
        "network.protocol.version": "1.1",
        "server.address": "shop",
        "server.port": 81,
        "client.address": "127.0.0.1",
        "network.peer.address": "127.0.0.1",
        "network.peer.port": 50000,
        "user_agent.original": "curl/8",
        "http.response.status_code": 200,
    }


def test_the_protocol_is_kept() -> None:
    response = wsgi_call(WSGIMiddleware(ok), validate=True)
    assert (response.status, response.body) == (200, b"hello")


def test_the_caller_is_the_parent(spans: Spans) -> None:
    app = WSGIMiddleware(ok, tracer_provider=spans.provider)
    wsgi_call(app, headers=[("traceparent", "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01")])
    parent = spans.server().parent
    assert parent is not None
    assert parent.span_id == int("cd" * 8, 16)


@pytest.mark.parametrize("read", [0, 1, None])
def test_a_thread_is_left_clean_however_much_of_the_body_was_read(
    spans: Spans, added: Added, read: int | None
) -> None:
    def streams(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"a"
        yield b"b"

    app = WSGIMiddleware(streams, tracer_provider=spans.provider)
    wsgi_call(app, headers=[("traceparent", "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01")], read=read)
    assert not trace.get_current_span().get_span_context().is_valid
    wsgi_call(app)
    _, second = spans.of_kind(trace.SpanKind.SERVER)
    assert second.parent is None, "the next request on the thread must not join the trace before it"
    assert added().total(ACTIVE) == 0


def test_the_span_is_current_in_the_app_and_in_each_part_of_its_body(spans: Spans) -> None:
    seen = []

    def streams(environ: Any, start_response: Any) -> Iterator[bytes]:
        seen.append(trace.get_current_span().get_span_context().span_id)
        start_response("200 OK", [])
        yield b"a"
        seen.append(trace.get_current_span().get_span_context().span_id)
        yield b"b"

    wsgi_call(WSGIMiddleware(streams, tracer_provider=spans.provider))
    span_id = spans.server().get_span_context().span_id  # type: ignore[union-attr]
    assert seen == [span_id, span_id]


def test_an_exception_passes_through_and_is_told_once(spans: Spans, added: Added) -> None:
    def broken(environ: Any, start_response: Any) -> list[bytes]:
        raise LookupError("no such table")

    response = wsgi_call(WSGIMiddleware(broken, tracer_provider=spans.provider), catch=True)
    assert isinstance(response.error, LookupError)
    span = spans.server()
    assert span.status.status_code is StatusCode.ERROR
    assert [event.name for event in span.events] == ["exception"]
    assert added().total(DURATION, http_response_status_code="500", error_type="LookupError") == 1
    assert added().total(ACTIVE) == 0


def test_an_error_in_the_middle_of_the_body_is_an_error_with_the_status_that_was_sent(
    spans: Spans, added: Added
) -> None:
    def breaks_off(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"first"
        raise ValueError("second")

    response = wsgi_call(WSGIMiddleware(breaks_off, tracer_provider=spans.provider), catch=True)
    assert isinstance(response.error, ValueError)
    assert added().total(DURATION, http_response_status_code="200", error_type="ValueError") == 1


def test_a_second_start_response_with_exc_info_is_passed_on_and_its_status_counts(added: Added) -> None:
    def changes_its_mind(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        try:
            raise KeyError("x")
        except KeyError as error:
            start_response("500 Oh", [("X-Second", "1")], (KeyError, error, error.__traceback__))
        return [b"sorry"]

    response = wsgi_call(WSGIMiddleware(changes_its_mind))
    assert response.starts == 2
    assert response.exc_infos[1][0] is KeyError
    assert response.header("X-Second") == "1"
    assert added().total(DURATION, http_response_status_code="500", error_type="500") == 1


def test_a_second_start_response_without_exc_info_fails_as_it_does_without_us() -> None:
    def wrong(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        start_response("200 OK", [])
        return []

    with pytest.raises(AssertionError, match="called twice"):
        wsgi_call(WSGIMiddleware(wrong))


@pytest.mark.parametrize("status", ["200", "200 ", "204 No Content"])
def test_a_status_without_a_reason_is_fine(added: Added, status: str) -> None:
    def bare(environ: Any, start_response: Any) -> list[bytes]:
        start_response(status, [])
        return []

    wsgi_call(WSGIMiddleware(bare))
    assert added().total(DURATION, http_response_status_code=status[:3]) == 1


def test_the_number_of_parts_is_kept_where_it_is_known_and_absent_where_not() -> None:
    def streams(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"a"

    assert len(wsgi_call(WSGIMiddleware(ok)).result) == 1
    with pytest.raises(TypeError):
        len(wsgi_call(WSGIMiddleware(streams)).result)


def test_a_file_for_the_server_stays_the_servers_own_kind_and_is_counted_at_its_close(added: Added) -> None:
    closed = []

    class File(io.BytesIO):
        def close(self) -> None:
            closed.append(True)
            super().close()

    def sends_file(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "7")])
        return environ["wsgi.file_wrapper"](File(b"content"))

    response = wsgi_call(WSGIMiddleware(sends_file), environ={"wsgi.file_wrapper": FileWrapper})
    assert type(response.result) is FileWrapper
    assert response.body == b"content"
    assert closed
    assert added().total(DURATION, http_response_status_code="200") == 1
    assert added().total("http_server_response_body_size_bytes_sum") == 7
    assert added().total(ACTIVE) == 0


def test_close_reaches_the_apps_body_once() -> None:
    class Result:
        closed = 0

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"x"])

        def close(self) -> None:
            self.closed += 1

    result = Result()

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return result

    wsgi_call(WSGIMiddleware(app))
    assert result.closed == 1


def test_what_is_written_the_old_way_is_passed_on_and_counted(added: Added) -> None:
    def writes(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [])
        write(b"old ")
        return [b"way"]

    assert wsgi_call(WSGIMiddleware(writes)).body == b"old way"
    assert added().total("http_server_response_body_size_bytes_sum") == 7


def test_a_body_closed_early_is_a_client_that_left(spans: Spans, added: Added) -> None:
    def streams(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield from [b"a"] * 100

    wsgi_call(WSGIMiddleware(streams, tracer_provider=spans.provider), read=2)
    assert (spans.server().attributes or {})["restaurant.outcome"] == "client_disconnect"
    assert added().total(INTERRUPTED, restaurant_outcome="client_disconnect") == 1
    assert added().labels(DURATION, "error_type") == {""}


@pytest.mark.parametrize(("method", "read"), [("HEAD", 0), ("GET", 1)])
def test_a_body_that_was_sent_whole_is_no_interruption_even_if_the_server_stops_asking(
    added: Added, method: str, read: int
) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "5")])
        return iter([b"hello"])

    wsgi_call(WSGIMiddleware(app), method, read=read)
    assert added().total(INTERRUPTED) == 0


def test_a_server_that_never_closes_still_brings_the_gauge_back(added: Added) -> None:
    body = WSGIMiddleware(ok)({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda status, headers: None)
    assert list(body) == [b"hello"]
    del body
    assert added().total(ACTIVE) == 0
    assert added().total(DURATION) == 1


def test_no_start_response_at_all_is_an_incomplete_500(added: Added) -> None:
    wsgi_call(WSGIMiddleware(lambda environ, start_response: []))
    assert added().total(DURATION, http_response_status_code="500", error_type="incomplete") == 1


def test_hooks_see_span_status_and_headers_and_may_raise_without_harm(spans: Spans) -> None:
    seen = []

    def at_request(span: Any, environ: Any) -> None:
        span.set_attribute("tenant", environ["PATH_INFO"])
        raise RuntimeError("hook")

    def at_response(span: Any, environ: Any, status: str, headers: Any) -> None:
        seen.append((status, headers))
        raise RuntimeError("hook")

    app = WSGIMiddleware(
        ok, tracer_provider=spans.provider, request_hook=at_request, response_hook=at_response
    )
    assert wsgi_call(app, path="/acme").body == b"hello"
    assert seen == [("200 OK", [("Content-Type", "text/plain")])]
    assert (spans.server().attributes or {})["tenant"] == "/acme"


def test_headers_are_captured_and_trace_headers_added_when_asked_for(spans: Spans) -> None:
    app = WSGIMiddleware(
        ok,
        tracer_provider=spans.provider,
        http_capture_headers_server_request="x-tenant,cookie",
        http_capture_headers_server_response="content-type",
        trace_response_header=True,
        server_timing=True,
    )
    response = wsgi_call(app, headers=[("x-tenant", "acme"), ("cookie", "a=b")], validate=True)
    attributes = spans.server().attributes or {}
    assert attributes["http.request.header.x-tenant"] == ("acme",)
    assert attributes["http.request.header.cookie"] == ("[REDACTED]",)
    assert attributes["http.response.header.content-type"] == ("text/plain",)
    assert (response.header("traceresponse") or "").startswith("00-")
    assert (response.header("server-timing") or "").startswith("app;dur=")


def test_an_app_that_is_wrapped_twice_is_watched_once(spans: Spans, added: Added) -> None:
    app = instrument(instrument(ok, tracer_provider=spans.provider), tracer_provider=spans.provider)
    wsgi_call(WSGIMiddleware(app, tracer_provider=spans.provider))
    spans.server()
    assert added().total(DURATION) == 1


def test_excluded_paths_are_neither_traced_nor_counted(spans: Spans, added: Added) -> None:
    app = WSGIMiddleware(ok, tracer_provider=spans.provider, excluded_urls="/health")
    wsgi_call(app, path="/health")
    assert spans.all() == []
    assert added().total(DURATION) == 0


@pytest.mark.parametrize(
    "without",
    [["REMOTE_ADDR"], ["SERVER_PORT", "HTTP_HOST"], ["PATH_INFO"], ["SERVER_PROTOCOL"], ["REMOTE_PORT"]],
)
def test_what_a_server_leaves_out_is_left_out(spans: Spans, without: list[str]) -> None:
    assert wsgi_call(WSGIMiddleware(ok, tracer_provider=spans.provider), without=without).body == b"hello"
    spans.server()
