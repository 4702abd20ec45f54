"""Where telemetry goes: the host's providers if it has any, else ours by the standard variables.

Providers are set once a process, so each of these promises is kept in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from restaurant_otel.identity import container_id, resource, shared_attributes
from restaurant_otel.telemetry import exporter_names

PRELUDE = """
import asyncio
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from restaurant_otel import ASGIMiddleware, telemetry
from restaurant_otel.settings import Settings
from tests.support.asgi import asgi_call
from tests.support.readings import read_registry

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})

def points(reader, name):
    data = reader.get_metrics_data()
    return [
        point
        for of_resource in (data.resource_metrics if data else ())
        for scope in of_resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    ]
"""


def run(program: str, environ: Mapping[str, str] | None = None) -> str:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")} | dict(environ or {})
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + program],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_hosts_global_tracer_provider_is_used_even_if_set_after_instrument() -> None:
    run("""
wrapped = ASGIMiddleware(app)
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
asgi_call(wrapped)
assert trace.get_tracer_provider() is provider
assert len(exporter.get_finished_spans()) == 1
""")


def test_the_hosts_meter_provider_gets_the_same_numbers_as_our_own_cells() -> None:
    run("""
reader = InMemoryMetricReader()
provider = MeterProvider([reader])
metrics.set_meter_provider(provider)
wrapped = ASGIMiddleware(app)
for _ in range(3):
    asgi_call(wrapped)
assert metrics.get_meter_provider() is provider
(point,) = points(reader, "http.server.request.duration")
assert point.count == 3
assert 0.2 in point.explicit_bounds
assert dict(point.attributes)["http.response.status_code"] == 200
ours = read_registry()
assert ours.total("http_server_request_duration_seconds_count") == 3
assert abs(ours.total("http_server_request_duration_seconds_sum") - point.sum) < 1e-9
assert points(reader, "http.server.active_requests")[0].value == 0
""")


def test_a_provider_that_is_passed_is_used_and_nothing_global_is_set() -> None:
    run("""
exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
asgi_call(ASGIMiddleware(app, tracer_provider=provider, meter_provider=MeterProvider([reader])))
assert type(trace.get_tracer_provider()).__name__ == "ProxyTracerProvider"
assert type(metrics.get_meter_provider()).__name__ == "_ProxyMeterProvider"
assert len(exporter.get_finished_spans()) == 1
assert points(reader, "http.server.request.duration")[0].count == 1
""")


def test_where_nobody_asks_for_traces_none_are_made_and_the_callers_context_goes_on() -> None:
    run("""
seen = []
async def look(scope, receive, send):
    seen.append(trace.get_current_span())
    await app(scope, receive, send)
asgi_call(ASGIMiddleware(look), headers=[(b"traceparent", b"00-" + b"ab" * 16 + b"-" + b"cd" * 8 + b"-01")])
assert type(trace.get_tracer_provider()).__name__ == "ProxyTracerProvider"
assert not seen[0].is_recording()
assert seen[0].get_span_context().span_id == int("cd" * 8, 16)
assert read_registry().total("http_server_request_duration_seconds_count") == 1
""")


def test_instruments_of_the_host_join_ours() -> None:
    run("""
from restaurant_otel.metrics import registry
wrapped = ASGIMiddleware(app)
asgi_call(wrapped)
metrics.get_meter("shop").create_counter("shop.orders", unit="{order}").add(2, {"kind": "pizza"})
telemetry.before_scrape()
assert read_registry().total("shop_orders_total", kind="pizza") == 2
""")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_and_a_scrape_in_the_middle_of_the_set_up_ask_no_reader_that_is_not_ready() -> None:
    out = run("""
import os, threading, time
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter
begun = threading.Event()
def fork():
    child = os.fork()
    if child == 0:
        os._exit(asgi_call(ASGIMiddleware(app)).status != 200)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
forker = threading.Thread(target=fork)
def slow_exporter():
    os.register_at_fork(before=begun.set)
    forker.start()
    begun.wait()
    telemetry.before_scrape()
    time.sleep(0.2)  # the fork goes on as far as it may
    return ConsoleMetricExporter(out=open(os.devnull, "w"))
telemetry._exporters = lambda signal: [slow_exporter] if signal == "METRICS" else []
assert asgi_call(ASGIMiddleware(app)).status == 200
forker.join()
""")
    assert out == ""


def test_an_exporter_of_the_standard_variables_gets_spans_at_exit() -> None:
    out = run(
        "asgi_call(ASGIMiddleware(app))", {"OTEL_TRACES_EXPORTER": "console", "OTEL_SERVICE_NAME": "shop"}
    )
    assert '"name": "GET"' in out
    assert '"service.name": "shop"' in out


def test_an_exporter_that_is_not_installed_is_logged_with_the_way_out_and_survived() -> None:
    out = run(
        "import logging; logging.basicConfig(); asgi_call(ASGIMiddleware(app))",
        {"OTEL_TRACES_EXPORTER": "nonesuch"},
    )
    assert "'nonesuch' is not installed" in out
    assert "pip install 'restaurant-otel[otlp]'" in out


def test_a_broken_propagator_setting_is_survived() -> None:
    run("assert asgi_call(ASGIMiddleware(app)).status == 200", {"OTEL_PROPAGATORS": "tracecontext,b3multi"})


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, ["otlp_proto_http"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, ["otlp_proto_http"]),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://x"}, []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, []),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ["otlp_proto_grpc"]),
        (
            {"OTEL_TRACES_EXPORTER": "otlp, console", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"},
            ["otlp_proto_grpc", "console"],
        ),
        ({"OTEL_TRACES_EXPORTER": "prometheus"}, []),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "smoke"}, ["otlp protocol smoke"]),
    ],
)
def test_exporters_are_named_by_the_standard_variables(environ: dict[str, str], names: list[str]) -> None:
    assert exporter_names("TRACES", environ) == names


def test_the_resource_says_what_is_detected_and_the_operator_has_the_last_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "host.name=given,deployment.environment.name=test")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    attributes = resource().attributes
    assert attributes["host.name"] == "given"
    assert attributes["service.name"] == "shop"
    assert attributes["process.pid"] == os.getpid()
    assert "process.command_args" not in attributes
    shared = shared_attributes(attributes)
    assert shared["deployment.environment.name"] == "test"
    assert not [name for name in shared if name.startswith("process.")]


ID = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "expected"),
    [
        (f"12:memory:/docker/{ID}\n", "", ID),
        (f"1:name=systemd:/kubepods/burstable/pod1/{ID}\n", "", ID),
        (f"0::/system.slice/docker-{ID}.scope\n", "", ID),
        ("0::/\n", f"1 2 0:3 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw\n", ID),
        ("0::/user.slice\n", "", None),
        ("", "", None),
    ],
)
def test_a_container_is_known_by_its_cgroup_or_mounts(
    cgroup: str, mountinfo: str, expected: str | None
) -> None:
    assert container_id(cgroup, mountinfo) == expected


def test_fastapis_own_instrumentation_steps_back() -> None:
    run("""
from fastapi import FastAPI
from restaurant_otel import instrument
exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
metrics.set_meter_provider(MeterProvider([reader]))
api = instrument(FastAPI())

@api.get("/items/{n}")
async def read(n: int) -> int:
    return n

asgi_call(api, path="/items/5")
servers = [span for span in exporter.get_finished_spans() if span.kind.name == "SERVER"]
names = [(span.instrumentation_scope.name, span.name) for span in servers]
assert names == [("restaurant_otel", "GET /items/{n}")], names
assert sum(point.count for point in points(reader, "http.server.request.duration")) == 1
""")


def test_what_is_left_is_sent_off_when_the_app_stops() -> None:
    out = run(
        """
async def with_lifespan(scope, receive, send):
    if scope["type"] != "lifespan":
        return await app(scope, receive, send)
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})

wrapped = ASGIMiddleware(with_lifespan)
async def serve():
    async def nothing(*message):
        return {}
    async def send(message):
        if message["type"] == "lifespan.startup.complete":
            await wrapped({"type": "http", "method": "GET", "path": "/", "headers": []}, nothing, nothing)
    await wrapped({"type": "lifespan"}, nothing, send)

asyncio.run(serve())
import os
os._exit(0)  # as a server does that ends by the signal that told it to
""",
        {"OTEL_TRACES_EXPORTER": "console"},
    )
    assert '"name": "GET"' in out


def test_a_second_app_in_the_process_does_not_take_our_own_provider_for_the_hosts() -> None:
    run("""
first, second = ASGIMiddleware(app), ASGIMiddleware(app, tracer_provider=TracerProvider())
asgi_call(first)
provider = metrics.get_meter_provider()
asgi_call(second)
assert metrics.get_meter_provider() is provider
telemetry.before_scrape()
assert read_registry().total("http_server_request_duration_seconds_count") == 2
from restaurant_otel import catalog
from restaurant_otel.metrics import CounterCell, registry
cell = registry().counter(catalog.HTTP_SERVER_ACTIVE_REQUESTS).bind("PUT", "http")
assert "Tee" not in type(cell).__name__, "each request would be recorded twice, and pay for it"
""")
