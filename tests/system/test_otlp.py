"""OTLP is sent where the standard variables say, over HTTP and gRPC, and decodes to what happened."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.support.collector import Collector
from tests.support.load import Load, settled
from tests.support.otlp import CLIENT, SERVER, Receiver
from tests.support.servers import Server
from tests.support.wait import eventually
from tests.system.apps.routes import FASTAPI, FLASK, STARLETTE, App

DURATION = "http.server.request.duration"
APPS = [
    pytest.param(STARLETTE, "uvicorn", id="asgi"),
    pytest.param(FASTAPI, "hypercorn", id="fastapi"),  # it has OpenTelemetry metrics and spans of its own
    pytest.param(FLASK, "gunicorn-gthread", id="wsgi"),
]


@pytest.mark.parametrize(("app", "server"), APPS)
def test_spans_and_metrics_arrive_and_agree(
    serve: Callable[..., Server], otlp: Receiver, app: App, server: str
) -> None:
    running = serve(server, app.target, env=otlp.env() | {"OTEL_RESOURCE_ATTRIBUTES": "team=kitchen"})
    for number in range(4):
        running.get(f"/items/{number}")
    running.get("/query")
    otlp.wait_for_spans(1, CLIENT)

    def pushed(route: str | None) -> float:
        return sum(p.value for p in otlp.points(DURATION) if p.attributes.get("http.route") == route)

    eventually(lambda: pushed(app.item) >= 4 and pushed("/query") >= 1, what="the metrics pushed")
    assert (pushed(app.item), pushed("/query")) == (4, 1), "each request once, whoever else counts"
    items = [span for span in otlp.wait_for_spans(5, SERVER) if span.name == f"GET {app.item}"]
    assert len(items) == 4
    (select,) = otlp.spans(CLIENT)
    (query,) = [span for span in otlp.spans(SERVER) if span.name == "GET /query"]
    assert select.trace_id == query.trace_id

    (point,) = [p for p in otlp.points(DURATION) if p.attributes.get("http.route") == app.item]
    assert (point.unit, point.kind, point.delta) == ("s", "histogram", False)
    assert 0.2 in point.bounds
    assert point.attributes["http.request.method"] == "GET"
    assert point.attributes["http.response.status_code"] == 200
    # Each exemplar is pushed once: with the first push after it was measured.
    exemplars = {
        trace
        for each in otlp.all_points(DURATION)
        if each.attributes.get("http.route") == app.item
        for trace in each.exemplar_traces
    }
    assert exemplars
    assert exemplars <= {span.trace_id for span in items}
    for resource in (items[0].resource, point.resource):
        assert resource["service.name"] == "shop"
        assert resource["team"] == "kitchen"
        assert resource["service.instance.id"]
    assert running.scrape().total("http_server_request_duration_seconds_count", http_route=app.item) == 4


@pytest.mark.parametrize(
    ("app", "server"),
    [
        pytest.param(STARLETTE, "uvicorn", id="uvicorn"),
        pytest.param(STARLETTE, "hypercorn", id="hypercorn"),
        pytest.param(STARLETTE, "granian", id="granian"),
        pytest.param(STARLETTE, "gunicorn-uvicorn", id="gunicorn-uvicorn"),
        pytest.param(FLASK, "gunicorn", id="gunicorn"),
    ],
)
def test_what_happened_just_before_the_end_still_arrives(
    serve: Callable[..., Server], otlp_http: Receiver, app: App, server: str
) -> None:
    seldom = {"OTEL_BSP_SCHEDULE_DELAY": "60000", "OTEL_METRIC_EXPORT_INTERVAL": "60000"}
    running = serve(server, app.target, env=otlp_http.env() | seldom)
    running.get("/items/1")
    running.get("/items/2")
    settled(running, 2, http_route=app.item)
    running.stop()
    assert [span.name for span in otlp_http.spans(SERVER)].count(f"GET {app.item}") == 2
    (point,) = [p for p in otlp_http.points(DURATION) if p.attributes.get("http.route") == app.item]
    assert point.value == 2


def test_delta_pushes_add_up(serve: Callable[..., Server], otlp_http: Receiver) -> None:
    preference = {"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta"}
    running = serve("uvicorn", STARLETTE.target, env=otlp_http.env() | preference)
    with Load(running.url, ["/items/1"], connections=2) as load:
        load.until(50)
        eventually(lambda: otlp_http.points(DURATION), what="a first push")
        load.until(load.answered + 50)
    running.stop()
    pushed = [p for p in otlp_http.all_points(DURATION) if p.attributes.get("http.route") == "/items/{id}"]
    assert len(pushed) > 1
    assert all(point.delta for point in pushed)
    assert sum(point.value for point in pushed) == load.answered


@pytest.mark.parametrize(("app", "server"), [pytest.param(FLASK, "gunicorn", id="gunicorn-preload")])
def test_each_worker_pushes_as_an_instance_of_its_own(
    serve: Callable[..., Server], otlp_http: Receiver, app: App, server: str
) -> None:
    running = serve(server, app.target, workers=3, env=otlp_http.env(), args=["--preload"])
    with Load(running.url, ["/items/1"], connections=6) as load:
        load.until(300)
    running.stop()
    last: dict[str, float] = {}
    for point in otlp_http.all_points(DURATION):
        if point.attributes.get("http.route") == app.item:
            last[point.resource["service.instance.id"]] = point.value
    assert len(last) == 3, "workers share no instance id, and all of them push"
    assert sum(last.values()) == load.answered
    spans = [span for span in otlp_http.spans(SERVER) if span.name == f"GET {app.item}"]
    assert len(spans) == load.answered
    assert len({span.span_id for span in spans}) == load.answered, "forked workers do not repeat ids"


def test_what_a_killed_worker_had_pushed_is_there_and_the_rest_push_on(
    serve: Callable[..., Server], otlp_http: Receiver
) -> None:
    running = serve("gunicorn", FLASK.target, workers=2, env=otlp_http.env())
    with Load(running.url, ["/items/1"], connections=4) as load:
        load.until(100)
        os.kill(running.workers()[0], signal.SIGKILL)
        load.until(load.answered + 100)
    running.stop()
    spans = [span for span in otlp_http.spans(SERVER) if span.name == f"GET {FLASK.item}"]
    assert 100 <= len(spans) <= load.answered + load.unanswered


def test_a_sampler_is_taken_from_the_environment_and_metrics_count_on(
    serve: Callable[..., Server], otlp_http: Receiver
) -> None:
    running = serve("uvicorn", STARLETTE.target, env=otlp_http.env() | {"OTEL_TRACES_SAMPLER": "always_off"})
    for _ in range(10):
        running.get("/query")
    eventually(
        lambda: (
            sum(p.value for p in otlp_http.points(DURATION) if p.attributes.get("http.route") == "/query")
            == 10
        )
    )
    running.stop()
    assert otlp_http.spans() == []


def test_a_collector_takes_all_of_it(serve: Callable[..., Server], collector: Collector) -> None:
    for protocol, endpoint in (("grpc", collector.grpc), ("http/protobuf", collector.http)):
        running = serve(
            "uvicorn",
            STARLETTE.target,
            env={
                "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
                "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
                "OTEL_METRIC_EXPORT_INTERVAL": "500",
                "OTEL_SERVICE_NAME": f"over-{protocol}",
            },
        )
        running.get("/query")
        running.stop()
        for told in (f"service.name: Str(over-{protocol})", "GET /query", "SELECT item", DURATION):
            eventually(lambda told=told: told in collector.received(), what=told)
