"""What one HTTP request over ASGI leaves behind: one span, one count, and nothing in the app's way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from restaurant_otel import ASGIMiddleware, instrument
from tests.support.asgi import asgi_call, asgi_request
from tests.support.readings import Readings
from tests.support.spans import Spans

DURATION = "http_server_request_duration_seconds_count"
ACTIVE = "http_server_active_requests"
INTERRUPTED = "restaurant_http_server_interrupted_requests_total"

Added = Callable[[], Readings]


async def start(send: Any, status: int = 200, headers: Any = (), **more: Any) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers), **more})


async def body(send: Any, data: bytes = b"", more_body: bool = False) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more_body})


async def ok(scope: Any, receive: Any, send: Any) -> None:
    await start(send)
    await body(send, b"hello")


def answering(status: Any) -> Any:
    """An app that answers each request with this status, and no body."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, status)
        await body(send)

    return app


def test_headers_that_can_be_read_but_once_reach_the_app_too(spans: Spans, added: Added) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(scope["headers"])
        await ok(scope, receive, send)

    sent = [(b"host", b"shop.example"), (b"user-agent", b"curl/8")]
    target = ASGIMiddleware(app, tracer_provider=spans.provider)

    async def once(scope: Any, receive: Any, send: Any) -> None:
        await target({**scope, "headers": iter(sent)}, receive, send)

    asgi_call(once)
    assert seen == sent
    assert (spans.server().attributes or {})["server.address"] == "shop.example"


@pytest.mark.parametrize("status", [HTTPStatus.CREATED, 201])
def test_a_status_is_told_as_a_number_however_the_app_says_it(
    spans: Spans, added: Added, status: int
) -> None:
    target = ASGIMiddleware(answering(status), tracer_provider=spans.provider)
    for _ in range(2):  # the first finds its series, the second has it
        asgi_call(target)
    assert added().total(DURATION, http_response_status_code="201") == 2
    said = [(span.attributes or {})["http.response.status_code"] for span in spans.all()]
    assert [(type(each), each) for each in said] == [(int, 201)] * 2


@pytest.mark.parametrize("status", ["200", None, 0, 99, 600, 10**30, True, 2.5])
def test_a_status_that_is_none_is_left_out_and_the_request_counted(
    spans: Spans, added: Added, status: Any
) -> None:
    target = ASGIMiddleware(answering(status), tracer_provider=spans.provider)
    for _ in range(2):
        response = asgi_call(target)
        assert response.messages[0]["status"] == status
    assert added().total(DURATION) == 2
    assert added().labels(DURATION, "http_response_status_code") == {""}
    assert [(span.attributes or {}).get("http.response.status_code") for span in spans.all()] == [None, None]
    assert added().total("restaurant_telemetry_errors_total") == 0


def test_the_required_and_recommended_attributes_are_set(spans: Spans) -> None:
    app = ASGIMiddleware(ok, tracer_provider=spans.provider)
    asgi_call(
        app,
        "GET",
        "/a/b",
        query=b"x=1&sig=secret",
        headers=[(b"user-agent", b"curl/8")],
        scope={"http_version": "2", "server": ("10.0.0.1", 8443)},
    )
    span = spans.server()
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "url.path": "/a/b",
        "url.scheme": "http",
        "url.query": "x=1&sig=REDACTED",
        "network.protocol.version": "2",
        "server.address": "testserver",
        "server.port": 8443,
        "client.address": "127.0.0.1",
        "network.peer.address": "127.0.0.1",
        "network.peer.port": 50000,
        "user_agent.original": "curl/8",
        "http.response.status_code": 200,
    }
    assert span.name == "GET"
    assert span.status.status_code is StatusCode.UNSET


def test_opt_in_attributes_are_there_when_asked_for(spans: Spans) -> None:
    app = ASGIMiddleware(ok, tracer_provider=spans.provider, opt_in_attributes="all")
    asgi_call(app, "POST", "/", body=b"12345678", headers=[(b"content-length", b"8")])
    attributes = spans.server().attributes or {}
    assert attributes["http.request.body.size"] == 8
    assert attributes["http.response.body.size"] == 5
    assert attributes["client.port"] == 50000
    assert attributes["network.local.address"] == "testserver"
    assert attributes["network.local.port"] == 80
    assert attributes["network.transport"] == "tcp"


def test_an_unknown_method_is_other_in_labels_and_original_on_the_span(spans: Spans, added: Added) -> None:
    app = ASGIMiddleware(ok, tracer_provider=spans.provider)
    asgi_call(app, "FROBNICATE", "/")
    span = spans.server()
    assert span.name == "HTTP"
    assert (span.attributes or {})["http.request.method_original"] == "FROBNICATE"
    assert added().labels(DURATION, "http_request_method") == {"_OTHER"}


def test_the_standard_methods_are_known(added: Added) -> None:
    methods = {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
    for method in methods:
        asgi_call(ASGIMiddleware(ok), method)
    assert added().labels(DURATION, "http_request_method") == methods


def test_the_caller_is_the_parent(spans: Spans) -> None:
    app = ASGIMiddleware(ok, tracer_provider=spans.provider)
    headers = [(b"traceparent", b"00-" + b"ab" * 16 + b"-" + b"cd" * 8 + b"-01"), (b"tracestate", b"x=1,y=2")]
    asgi_call(app, headers=headers)
    span = spans.server()
    assert span.parent is not None
    assert span.parent.trace_id == int("ab" * 16, 16)
    assert span.parent.is_remote
    assert span.get_span_context().trace_state.to_header() == "x=1,y=2"  # type: ignore[union-attr]


def test_a_span_left_in_the_context_by_others_is_not_the_parent(spans: Spans) -> None:
    app = ASGIMiddleware(ok, tracer_provider=spans.provider)
    with spans.provider.get_tracer("t").start_as_current_span("left over"):
        asgi_call(app)
    assert spans.server().parent is None


def test_inside_another_server_span_there_is_no_second_one_and_one_count(spans: Spans, added: Added) -> None:
    app = ASGIMiddleware(ok, tracer_provider=spans.provider)
    with spans.provider.get_tracer("t").start_as_current_span("outer", kind=trace.SpanKind.SERVER):
        asgi_call(app)
    assert spans.server().name == "outer"
    assert added().total(DURATION) == 1


def test_an_app_that_is_wrapped_twice_is_watched_once(spans: Spans, added: Added) -> None:
    settings = {"tracer_provider": spans.provider}
    app = ASGIMiddleware(ASGIMiddleware(ok, **settings), **settings)
    asgi_call(app)
    spans.server()
    assert added().total(DURATION) == 1


def test_the_span_is_current_while_the_app_runs_and_not_afterwards(spans: Spans) -> None:
    seen = []

    async def look(scope: Any, receive: Any, send: Any) -> None:
        seen.append(trace.get_current_span().get_span_context())
        await ok(scope, receive, send)

    async def request() -> None:
        await ASGIMiddleware(look, tracer_provider=spans.provider)(
            {"type": "http", "method": "GET", "path": "/", "headers": []}, None, _nowhere
        )
        seen.append(trace.get_current_span().get_span_context())

    asyncio.run(request())
    assert seen[0].span_id == spans.server().get_span_context().span_id  # type: ignore[union-attr]
    assert not seen[1].is_valid


async def _nowhere(message: Any) -> None:
    pass


def test_an_exception_passes_through_and_is_told_once(spans: Spans, added: Added) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("no such table")

    response = asgi_call(ASGIMiddleware(broken, tracer_provider=spans.provider), catch=True)
    assert isinstance(response.error, LookupError)
    span = spans.server()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "LookupError"
    assert (span.attributes or {})["http.response.status_code"] == 500
    assert [event.name for event in span.events] == ["exception"]
    labels = {"http_response_status_code": "500", "error_type": "LookupError"}
    assert added().total(DURATION, **labels) == 1
    assert added().total(ACTIVE) == 0


def test_the_exception_behind_starlettes_500_is_told(spans: Spans, added: Added) -> None:
    async def boom(request: Request) -> Any:
        raise ZeroDivisionError("x")

    app = instrument(Starlette(routes=[Route("/boom", boom)]), tracer_provider=spans.provider)
    response = asgi_call(app, path="/boom", catch=True)
    assert response.status == 500
    assert isinstance(response.error, ZeroDivisionError)
    span = spans.server()
    assert (span.attributes or {})["error.type"] == "ZeroDivisionError"
    assert [event.name for event in span.events] == ["exception"]
    assert added().total(DURATION, http_route="/boom", error_type="ZeroDivisionError") == 1


@pytest.mark.parametrize("status", [500, 503, 599])
def test_a_5xx_without_an_exception_has_its_status_as_error_type(
    spans: Spans, added: Added, status: int
) -> None:
    asgi_call(ASGIMiddleware(answering(status), tracer_provider=spans.provider))
    assert spans.server().status.status_code is StatusCode.ERROR
    assert added().total(DURATION, error_type=str(status)) == 1


@pytest.mark.parametrize("status", [400, 404, 499])
def test_a_4xx_is_not_an_error_of_the_server(spans: Spans, added: Added, status: int) -> None:
    asgi_call(ASGIMiddleware(answering(status), tracer_provider=spans.provider))
    assert spans.server().status.status_code is StatusCode.UNSET
    assert added().labels(DURATION, "error_type") == {""}


def test_an_error_after_the_response_began_is_an_error_with_the_status_that_was_sent(
    spans: Spans, added: Added
) -> None:
    async def breaks_off(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await body(send, b"first", more_body=True)
        raise ValueError("second")

    response = asgi_call(ASGIMiddleware(breaks_off, tracer_provider=spans.provider), catch=True)
    assert isinstance(response.error, ValueError)
    assert spans.server().status.status_code is StatusCode.ERROR
    labels = {"http_response_status_code": "200", "error_type": "ValueError"}
    assert added().total(DURATION, **labels) == 1


def test_no_response_at_all_is_an_incomplete_500(spans: Spans, added: Added) -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        return

    asgi_call(ASGIMiddleware(silent, tracer_provider=spans.provider))
    assert added().total(DURATION, http_response_status_code="500", error_type="incomplete") == 1
    assert added().total(INTERRUPTED, restaurant_outcome="incomplete") == 1
    assert added().total(ACTIVE) == 0


@pytest.mark.parametrize(
    "how",
    [
        {
            "disconnect_after": 2,
            "scope": {"asgi": {"version": "3.0", "spec_version": "2.3"}},
        },  # told by receive()
        {"fail_send_after": 2},  # told by send(), from version 2.4 of the protocol on
    ],
)
def test_a_client_that_leaves_a_stream_is_an_outcome_of_its_own_and_no_error(
    spans: Spans, added: Added, how: dict[str, Any]
) -> None:
    async def endless(request: Request) -> StreamingResponse:
        async def parts() -> Any:
            for _ in range(1000):
                yield b"part"

        return StreamingResponse(parts())

    app = instrument(Starlette(routes=[Route("/feed", endless)]), tracer_provider=spans.provider)
    asgi_call(app, path="/feed", catch=True, **how)
    span = spans.server()
    assert (span.attributes or {})["restaurant.outcome"] == "client_disconnect"
    assert span.status.status_code is StatusCode.UNSET
    assert added().total(INTERRUPTED, restaurant_outcome="client_disconnect", http_route="/feed") == 1
    assert added().labels(DURATION, "error_type") == {""}
    assert added().total(ACTIVE) == 0


def test_a_cancelled_request_is_cancelled_and_the_cancellation_goes_on(spans: Spans, added: Added) -> None:
    async def waits(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    response = asgi_call(ASGIMiddleware(waits, tracer_provider=spans.provider), cancel_after=0, catch=True)
    assert isinstance(response.error, asyncio.CancelledError)
    assert (spans.server().attributes or {})["restaurant.outcome"] == "cancelled"
    assert added().total(INTERRUPTED, restaurant_outcome="cancelled") == 1
    assert added().labels(DURATION, "error_type") == {""}
    assert added().total(ACTIVE) == 0


def test_a_stream_is_timed_to_its_end_and_its_first_byte_apart(added: Added) -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        for _ in range(3):
            await asyncio.sleep(0.05)
            await body(send, b"x", more_body=True)
        await body(send)

    asgi_call(ASGIMiddleware(slow))
    readings = added()
    assert readings.total("http_server_request_duration_seconds_sum") >= 0.14
    assert readings.total("restaurant_http_server_time_to_first_byte_seconds_sum") < 0.05
    assert readings.total("http_server_response_body_size_bytes_sum") == 3


def test_background_tasks_do_not_count_as_latency(added: Added) -> None:
    async def work() -> None:
        await asyncio.sleep(0.2)

    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("done", background=BackgroundTask(work))

    asgi_call(instrument(Starlette(routes=[Route("/", page)])))
    assert added().total("http_server_request_duration_seconds_sum") < 0.2


def test_an_error_in_a_background_task_passes_through_and_the_request_has_succeeded(added: Added) -> None:
    async def fails() -> None:
        raise RuntimeError("later")

    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse("done", background=BackgroundTask(fails))

    response = asgi_call(instrument(Starlette(routes=[Route("/", page)])), catch=True)
    assert isinstance(response.error, RuntimeError)
    assert added().total(DURATION, http_response_status_code="200") == 1
    assert added().labels(DURATION, "error_type") == {""}


def test_trailers_end_a_response_that_announced_them(added: Added) -> None:
    async def trailing(scope: Any, receive: Any, send: Any) -> None:
        await start(send, trailers=True)
        await body(send, b"data")
        await asyncio.sleep(0.05)
        await send({"type": "http.response.trailers", "headers": [], "more_trailers": False})

    asgi_call(ASGIMiddleware(trailing))
    assert added().total("http_server_request_duration_seconds_sum") >= 0.05
    assert added().total(INTERRUPTED) == 0


def test_early_hints_are_passed_on_and_are_not_the_response(spans: Spans) -> None:
    async def hinting(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
        await ok(scope, receive, send)

    response = asgi_call(ASGIMiddleware(hinting, tracer_provider=spans.provider))
    assert response.messages[0]["type"] == "http.response.early_hint"
    assert (spans.server().attributes or {})["http.response.status_code"] == 200


def test_body_sizes_come_from_the_header_or_from_what_was_read(added: Added) -> None:
    async def reads(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await ok(scope, receive, send)

    app = ASGIMiddleware(reads)
    asgi_call(app, "POST", body=b"x" * 10, headers=[(b"content-length", b"10")])
    asgi_call(app, "POST", body=[b"x" * 20, b"y" * 5], headers=[(b"transfer-encoding", b"chunked")])
    asgi_call(app, "GET")
    assert added().total("http_server_request_body_size_bytes_sum") == 35
    assert added().total("http_server_request_body_size_bytes_count") == 2, "a GET without a body has no size"
    assert added().total("http_server_response_body_size_bytes_count") == 3


def test_two_requests_at_once_do_not_mix(spans: Spans) -> None:
    gate = asyncio.Event

    async def run() -> None:
        opened = gate()

        async def waits(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/slow":
                await start(send, 202)
                await opened.wait()
                await body(send, b"slow answer")
            else:
                await ok(scope, receive, send)
                opened.set()

        app = ASGIMiddleware(
            waits, tracer_provider=spans.provider, opt_in_attributes="http.response.body.size"
        )
        await asyncio.gather(asgi_request(app, path="/slow"), asgi_request(app, path="/fast"))

    asyncio.run(run())
    found = {(s.attributes or {})["url.path"]: s.attributes for s in spans.all()}
    assert found["/slow"]["http.response.status_code"] == 202  # type: ignore[index]
    assert found["/slow"]["http.response.body.size"] == 11  # type: ignore[index]
    assert found["/fast"]["http.response.status_code"] == 200  # type: ignore[index]


@pytest.mark.parametrize("excluded", ["/health", "health", "^/health$"])
def test_excluded_paths_are_neither_traced_nor_counted_and_their_namesakes_are(
    spans: Spans, added: Added, excluded: str
) -> None:
    app = ASGIMiddleware(ok, tracer_provider=spans.provider, excluded_urls=excluded)
    asgi_call(app, path="/health")
    assert spans.all() == []
    asgi_call(app, path="/healthcare", query=b"health", headers=[(b"host", b"health")])
    assert added().total(DURATION) == 1


def test_headers_are_captured_by_name_and_secrets_are_redacted(spans: Spans) -> None:
    async def answers(scope: Any, receive: Any, send: Any) -> None:
        await start(send, headers=[(b"X-Answer", b"42"), (b"set-cookie", b"session=1")])
        await body(send)

    app = ASGIMiddleware(
        answers,
        tracer_provider=spans.provider,
        http_capture_headers_server_request=["x-.*", "authorization"],
        http_capture_headers_server_response="x-answer,set-cookie",
        http_capture_headers_sanitize_fields=["x-secret"],
    )
    asgi_call(
        app,
        headers=[
            (b"x-a", b"1"),
            (b"x-a", b"2"),
            (b"x-secret", b"s"),
            (b"authorization", b"Bearer t"),
            (b"y", b"no"),
        ],
    )
    attributes = {k: v for k, v in (spans.server().attributes or {}).items() if ".header." in k}
    assert attributes == {
        "http.request.header.x-a": ("1", "2"),
        "http.request.header.x-secret": ("[REDACTED]",),
        "http.request.header.authorization": ("[REDACTED]",),
        "http.response.header.x-answer": ("42",),
        "http.response.header.set-cookie": ("[REDACTED]",),
    }


def test_baggage_becomes_attributes_for_allowed_keys_only(spans: Spans) -> None:
    seen = []

    async def look(scope: Any, receive: Any, send: Any) -> None:
        seen.append(baggage.get_baggage("other"))
        await ok(scope, receive, send)

    app = ASGIMiddleware(look, tracer_provider=spans.provider, baggage_attributes=["tenant"])
    asgi_call(app, headers=[(b"baggage", b"tenant=acme,other=hidden,http.request.method=FORGED")])
    attributes = spans.server().attributes or {}
    assert attributes["tenant"] == "acme"
    assert "other" not in attributes
    assert attributes["http.request.method"] == "GET"
    assert seen == ["hidden"], "the app itself sees all of the baggage"


def test_hooks_see_span_and_messages_and_may_raise_without_harm(spans: Spans, added: Added) -> None:
    calls = []

    def at_start(span: Any, scope: Any) -> None:
        span.set_attribute("tenant", scope["path"])
        calls.append("server")
        raise RuntimeError("hook")

    def at_receive(span: Any, scope: Any, message: Any) -> None:
        calls.append(message["type"])
        raise RuntimeError("hook")

    def at_send(span: Any, scope: Any, message: Any) -> None:
        calls.append(message["type"])
        raise RuntimeError("hook")

    async def reads(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await ok(scope, receive, send)

    app = ASGIMiddleware(
        reads,
        tracer_provider=spans.provider,
        server_request_hook=at_start,
        client_request_hook=at_receive,
        client_response_hook=at_send,
    )
    assert asgi_call(app, path="/acme").body == b"hello"
    assert calls == ["server", "http.request", "http.response.start", "http.response.body"]
    assert (spans.server().attributes or {})["tenant"] == "/acme"
    assert added().total("restaurant_telemetry_errors_total", restaurant_telemetry_part="hook") == 4


def test_span_details_of_the_apps_own_name_the_span(spans: Spans) -> None:
    app = ASGIMiddleware(
        ok,
        tracer_provider=spans.provider,
        default_span_details=lambda scope: (f"mine {scope['path']}", {"a": 1}),
    )
    asgi_call(app, path="/x")
    assert spans.server().name == "mine /x"
    assert (spans.server().attributes or {})["a"] == 1


def test_trace_and_timing_headers_are_added_when_asked_for_and_the_apps_message_is_left_alone(
    spans: Spans,
) -> None:
    headers = [(b"x-app", b"1")]

    async def answers(scope: Any, receive: Any, send: Any) -> None:
        await start(send, headers=headers)
        await send({"type": "http.response.body", "body": b""})

    app = ASGIMiddleware(
        answers, tracer_provider=spans.provider, trace_response_header=True, server_timing=True
    )
    response = asgi_call(app)
    context = spans.server().get_span_context()
    assert context is not None
    assert response.header("traceresponse") == f"00-{context.trace_id:032x}-{context.span_id:016x}-03"
    assert (response.header("server-timing") or "").startswith("app;dur=")
    assert headers == [(b"x-app", b"1")]


def test_without_settings_nothing_is_added_to_a_response() -> None:
    assert asgi_call(ASGIMiddleware(ok)).headers == []


def test_an_unsampled_request_is_counted_and_its_context_goes_on(added: Added) -> None:
    unsampled = Spans(ALWAYS_OFF)
    seen = []

    async def look(scope: Any, receive: Any, send: Any) -> None:
        seen.append(trace.get_current_span().get_span_context())
        await ok(scope, receive, send)

    asgi_call(
        ASGIMiddleware(look, tracer_provider=unsampled.provider),
        headers=[(b"traceparent", b"00-" + b"ab" * 16 + b"-" + b"cd" * 8 + b"-01")],
    )
    assert unsampled.all() == []
    assert seen[0].trace_id == int("ab" * 16, 16)
    assert not seen[0].trace_flags.sampled
    assert added().total(DURATION) == 1


def test_a_sampled_request_leaves_an_exemplar(spans: Spans, added: Added) -> None:
    # A method of its own: a bucket takes an exemplar a second, and may have taken one just now.
    asgi_call(ASGIMiddleware(ok, tracer_provider=spans.provider), "TRACE")
    context = spans.server().get_span_context()
    assert context is not None
    held = {
        e["trace_id"]
        for (name, _), e in added().exemplars.items()
        if name.startswith("http_server_request_dur")
    }
    assert f"{context.trace_id:032x}" in held


def test_a_slow_request_leaves_its_exemplar_whatever_came_just_before(spans: Spans, added: Added) -> None:
    async def waits(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(float(scope["path"][1:]))
        await ok(scope, receive, send)

    app = ASGIMiddleware(waits, tracer_provider=spans.provider)
    for seconds in ("0", "0", "0.06", "0"):
        asgi_call(app, "CONNECT", f"/{seconds}")
    traces = [f"{span.get_span_context().trace_id:032x}" for span in spans.all()]
    held = [
        exemplar["trace_id"]
        for (name, labels), exemplar in added().exemplars.items()
        if name.startswith("http_server_request_dur") and dict(labels)["http_request_method"] == "CONNECT"
    ]
    assert traces[2] in held
    assert traces[3] not in held


def test_lifespan_and_unknown_scopes_pass_through() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.startup.complete"})

    async def run() -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        wrapped = ASGIMiddleware(app)
        await wrapped({"type": "lifespan"}, None, send)
        await wrapped({"type": "telepathy"}, None, send)
        return sent

    assert asyncio.run(run()) == [{"type": "lifespan.startup.complete"}]
    assert seen == ["lifespan", "telepathy"]


def test_starlettes_own_instrumentation_inside_ours_steps_back(spans: Spans) -> None:
    own = pytest.importorskip("starlette.middleware.opentelemetry")

    async def page(request: Request) -> JSONResponse:
        return JSONResponse({})

    app = Starlette(routes=[Route("/", page)])
    app.add_middleware(own.OpenTelemetryMiddleware, tracer_provider=spans.provider)
    asgi_call(instrument(app, tracer_provider=spans.provider))
    assert spans.server().instrumentation_scope.name == "restaurant_otel"  # type: ignore[union-attr]


def test_starlettes_own_instrumentation_around_ours_keeps_its_span(spans: Spans, added: Added) -> None:
    own = pytest.importorskip("starlette.middleware.opentelemetry")
    app = own.OpenTelemetryMiddleware(
        ASGIMiddleware(ok, tracer_provider=spans.provider), tracer_provider=spans.provider
    )
    asgi_call(app)
    assert spans.server().instrumentation_scope.name == "starlette"  # type: ignore[union-attr]
    assert added().total(DURATION) == 1


def test_the_sdk_switched_off_leaves_the_app_alone(monkeypatch: pytest.MonkeyPatch, added: Added) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    app = ASGIMiddleware(ok)
    assert asgi_call(app).body == b"hello"
    assert added().total(DURATION) == 0
