"""A collector that is down, refuses, is slow, or hangs costs the app nothing; what is lost is counted."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.otlp import SERVER, Behaviour, GrpcReceiver, HttpReceiver, Receiver
from tests.support.processes import free_port
from tests.support.servers import Server
from tests.support.wait import eventually
from tests.system.apps.routes import FLASK, STARLETTE, App

HOW = ["down", "refuses", "slow", "hangs"]


@pytest.fixture
def collector_env() -> Iterator[Callable[[str, str], dict[str, str]]]:
    """`collector_env(protocol, how)`: the variables of a process whose collector behaves that way."""
    receivers = {"http": HttpReceiver(), "grpc": GrpcReceiver()}

    def env(protocol: str, how: str) -> dict[str, str]:
        receiver = receivers[protocol]
        receiver.behaviour = {
            "down": Behaviour(),
            "refuses": Behaviour(refuse=True),
            "slow": Behaviour(delay=1.0),
            "hangs": Behaviour(delay=3600.0),
        }[how]
        variables = receiver.env()
        if how == "down":
            variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{free_port()}"
        return variables

    yield env
    for receiver in receivers.values():
        receiver.close()


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(
    ("app", "server", "protocol"),
    [
        pytest.param(STARLETTE, "uvicorn", "http", id="asgi-http"),
        pytest.param(FLASK, "gunicorn", "grpc", id="wsgi-grpc"),
        pytest.param(STARLETTE, "uvicorn", "grpc", id="asgi-grpc", marks=pytest.mark.slow),
        pytest.param(FLASK, "gunicorn", "http", id="wsgi-http", marks=pytest.mark.slow),
    ],
)
def test_requests_are_answered_promptly_and_the_process_ends_promptly(
    serve: Callable[..., Server],
    collector_env: Callable[[str, str], dict[str, str]],
    app: App,
    server: str,
    protocol: str,
    how: str,
) -> None:
    running = serve(server, app.target, env=collector_env(protocol, how))
    longest = 0.0
    ends = time.monotonic() + 1.5  # several pushes long
    requests = 0
    while time.monotonic() < ends:
        began = time.monotonic()
        assert running.get("/items/1").status_code == 200
        longest = max(longest, time.monotonic() - began)
        requests += 1
    assert requests > 100
    assert longest < 1.0, "no request waits for the collector"
    assert (
        running.scrape().total("http_server_request_duration_seconds_count", http_route=app.item) == requests
    )
    assert running.stop(within=20) < 8, "SIGTERM is obeyed in spite of the collector"
    assert running.process.exit_status in (0, -signal.SIGTERM)


@pytest.mark.parametrize("how", ["down", "refuses", "hangs"])
def test_what_is_lost_is_counted(
    serve: Callable[..., Server], collector_env: Callable[[str, str], dict[str, str]], how: str
) -> None:
    small_queue = {"OTEL_BSP_MAX_QUEUE_SIZE": "64", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "16"}
    short = {"OTEL_EXPORTER_OTLP_TIMEOUT": "1", "OTEL_BSP_EXPORT_TIMEOUT": "1000"}
    running = serve("uvicorn", STARLETTE.target, env=collector_env("http", how) | small_queue | short)

    def dropped() -> float:
        for _ in range(40):
            running.get("/items/1")
        return running.scrape().total("restaurant_telemetry_spans_dropped_total")

    eventually(dropped, within=40, what="spans dropped and counted")


def test_a_collector_that_comes_back_gets_what_follows(serve: Callable[..., Server]) -> None:
    receiver = HttpReceiver()
    try:
        receiver.behaviour.refuse = True
        running = serve("uvicorn", STARLETTE.target, env=receiver.env())
        running.get("/items/before")
        eventually(lambda: receiver.requests > 1, what="refused pushes")
        receiver.behaviour.refuse = False

        def arrives() -> bool:
            running.get("/items/after")
            return any(s.attributes["url.path"] == "/items/after" for s in receiver.spans(SERVER))

        eventually(arrives, within=40)
        total = running.scrape().total("http_server_request_duration_seconds_count", http_route="/items/{id}")
        eventually(
            lambda: (
                sum(
                    point.value
                    for point in receiver.points("http.server.request.duration")
                    if point.attributes.get("http.route") == "/items/{id}"
                )
                >= total
            ),
            what="cumulative metrics carry what was refused before",
        )
    finally:
        receiver.close()


def test_the_log_does_not_fill_up_when_the_collector_is_away(
    serve: Callable[..., Server], collector_env: Callable[[str, str], dict[str, str]]
) -> None:
    running = serve("gunicorn", FLASK.target, env=collector_env("http", "refuses"))
    ends = time.monotonic() + 4
    while time.monotonic() < ends:
        running.get("/items/1")
    lines = [line for line in running.output().splitlines() if "Traceback" in line]
    assert len(lines) < 10, "the same trouble is not told again at every push"


def test_a_frozen_collector_does_not_hold_up_the_end(
    serve: Callable[..., Server], otlp_http: Receiver
) -> None:
    otlp_http.behaviour.delay = 3600
    running = serve("gunicorn", FLASK.target, workers=3, env=otlp_http.env())
    for _ in range(50):
        running.get("/items/1")
    eventually(lambda: otlp_http.requests >= 1, what="a push that hangs")
    assert running.stop(within=30) < 8
