"""A real Prometheus scrapes /metrics and answers the questions people ask it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.load import Load, settled
from tests.support.otlp import Receiver
from tests.support.prometheus import Prometheus
from tests.support.readings import parse
from tests.support.servers import OPENMETRICS, Server
from tests.support.wait import eventually
from tests.system.apps.routes import FLASK, STARLETTE, App

DURATION = "http_server_request_duration_seconds"


@pytest.mark.parametrize(
    ("app", "server"),
    [pytest.param(STARLETTE, "uvicorn", id="asgi"), pytest.param(FLASK, "gunicorn", id="wsgi")],
)
def test_prometheus_scrapes_without_an_error_and_answers_queries(
    serve: Callable[..., Server], prometheus: Callable[..., Prometheus], app: App, server: str
) -> None:
    running = serve(server, app.target, workers=2)
    asked = prometheus([f"127.0.0.1:{running.port}"])
    with Load(running.url, ["/items/1", "/items/2", "/query", "/boom"], connections=2) as load:
        eventually(
            lambda: asked.value(f'sum(rate({DURATION}_count{{http_route="{app.item}"}}[10s]))'), within=30
        )
        load.until(200)
    settled(running, load.by_path["/query"], http_route="/query")
    seen = eventually(
        lambda: asked.value(f'sum({DURATION}_count{{http_route="/query"}})') == load.by_path["/query"],
        what="the last scrape has every request",
    )
    assert seen

    errors = asked.value(
        f'sum(increase({DURATION}_count{{http_response_status_code="500"}}[5m]))'
        f" / sum(increase({DURATION}_count[5m]))"
    )
    assert errors is not None
    assert 0.15 < errors < 0.35, "one request in four fails"
    p95 = asked.value(f"histogram_quantile(0.95, sum by (le) (rate({DURATION}_bucket[5m])))")
    assert p95 is not None
    assert 0 < p95 < 10
    queries = asked.value('sum(db_client_operation_duration_seconds_count{http_route="/query"})')
    assert queries == load.by_path["/query"]
    assert asked.value("count(target_info)") == 1
    (target,) = asked.targets()
    assert target["health"] == "up"
    assert target["lastError"] == ""
    assert asked.value("min_over_time(up[5m])") == 1, "no scrape failed"


def test_prometheus_keeps_the_exemplars_with_their_traces(
    serve: Callable[..., Server], prometheus: Callable[..., Prometheus], otlp_http: Receiver
) -> None:
    running = serve("uvicorn", STARLETTE.target, env=otlp_http.env())
    asked = prometheus([f"127.0.0.1:{running.port}"])
    trace = "0af7651916cd43dd8448eb211c80319c"
    running.get("/items/1", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    found = eventually(lambda: asked.exemplars(f'{DURATION}_bucket{{http_route="/items/{{id}}"}}'), within=20)
    assert {exemplar["labels"]["trace_id"] for exemplar in found} == {trace}
    assert all(len(exemplar["labels"]["span_id"]) == 16 for exemplar in found)


ACCEPTS = {
    OPENMETRICS: "application/openmetrics-text; version=1.0.0",
    "text/plain;version=0.0.4": "text/plain; version=0.0.4",
    "": "text/plain; version=0.0.4",
    # Prometheus 2
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1": (
        "application/openmetrics-text; version=1.0.0"
    ),
    # Prometheus 3
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;"
    "version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,"
    "*/*;q=0.2": "application/openmetrics-text; version=1.0.0",
    # native histograms only: refused gracefully, by text
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited": (
        "text/plain; version=0.0.4"
    ),
}


def test_each_accept_header_gets_its_format_in_gzip(serve: Callable[..., Server]) -> None:
    running = serve("uvicorn", STARLETTE.target)
    running.get("/items/1")
    settled(running, 1, http_route="/items/{id}")
    for accept, content_type in ACCEPTS.items():
        answer = running.get("/metrics", headers={"accept": accept, "accept-encoding": "gzip"})
        assert answer.headers["content-type"].startswith(content_type), accept
        assert answer.headers["content-encoding"] == "gzip"
        readings = parse(answer.text, answer.headers["content-type"])
        assert readings.total(f"{DURATION}_count", http_route="/items/{id}") == 1
