"""/metrics is for the operator, not for the public: on real servers, over real addresses."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

import httpx
import pytest

from tests.support import http
from tests.support.processes import free_port
from tests.support.servers import Server
from tests.support.wait import eventually
from tests.system.apps.routes import FLASK, STARLETTE, App

APPS = [
    pytest.param(STARLETTE, "uvicorn", id="asgi-uvicorn"),
    pytest.param(FLASK, "gunicorn", id="wsgi-gunicorn"),
    pytest.param(STARLETTE, "granian", id="asgi-granian", marks=pytest.mark.slow),
    pytest.param(FLASK, "granian-wsgi", id="wsgi-granian", marks=pytest.mark.slow),
]
FORWARDING = [
    {"forwarded": "for=10.0.0.9"},
    {"x-forwarded-for": "10.0.0.9"},
    {"via": "1.1 proxy"},
    {"x-real-ip": "10.0.0.9"},
]
TOKEN = "a-token-of-the-tests-0123456789"


@pytest.mark.parametrize(("app", "server"), APPS)
def test_a_direct_local_request_is_answered_and_a_forwarded_one_gets_the_apps_own_404(
    serve: Callable[..., Server], app: App, server: str
) -> None:
    running = serve(server, app.target)
    assert running.get("/metrics").status_code == 200
    own_404 = running.get("/nowhere")
    for headers in FORWARDING:
        refused = running.get("/metrics", headers=headers)
        assert refused.status_code == 404, headers
        assert refused.content == own_404.content, headers
    assert running.request("POST", "/metrics").status_code in (404, 405)
    head = running.request("HEAD", "/metrics")
    assert head.status_code == 200
    assert head.content == b""


@pytest.mark.parametrize(("app", "server"), APPS[:2])
def test_a_foreign_network_gets_the_apps_own_404(serve: Callable[..., Server], app: App, server: str) -> None:
    running = serve(server, app.target, env={"RESTAURANT_OTEL_METRICS_NETWORKS": "192.0.2.0/24,127.0.0.2/32"})
    assert running.get("/metrics").status_code == 404
    with from_address("127.0.0.2") as client:
        assert client.get(running.url + "/metrics").status_code == 200


@pytest.mark.parametrize(("app", "server"), APPS[:2])
def test_a_token_is_required_and_enough(serve: Callable[..., Server], app: App, server: str) -> None:
    running = serve(server, app.target, env={"RESTAURANT_OTEL_METRICS_TOKEN": TOKEN})
    assert running.get("/metrics").status_code == 404
    assert (
        running.get("/metrics", headers={"authorization": "Bearer wrong-token-0123456789"}).status_code == 404
    )
    held = {"authorization": f"Bearer {TOKEN}"}
    assert running.get("/metrics", headers=held).status_code == 200
    assert running.get("/metrics", headers=held | {"x-forwarded-for": "192.0.2.1"}).status_code == 200


@pytest.mark.parametrize(("app", "server"), APPS[:2])
def test_off_leaves_the_path_to_the_app(serve: Callable[..., Server], app: App, server: str) -> None:
    running = serve(server, app.target, env={"RESTAURANT_OTEL_METRICS_PATH": "off"})
    assert running.get("/metrics").status_code == 404


@pytest.mark.parametrize(("app", "server"), APPS[:2])
def test_a_port_of_its_own_answers_for_all_workers_and_ends_with_the_server(
    serve: Callable[..., Server], app: App, server: str
) -> None:
    port = free_port()
    running = serve(server, app.target, workers=2, env={"RESTAURANT_OTEL_METRICS_PORT": str(port)})
    for _ in range(20):
        running.get("/items/1")

    def all_counted() -> bool:
        answer = http.get(f"http://127.0.0.1:{port}/metrics", timeout=10)
        return f'http_route="{app.item}"' in answer.text

    eventually(all_counted)
    running.stop()
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        pass


def from_address(address: str) -> contextlib.AbstractContextManager[httpx.Client]:
    """A client whose connections come from `address`."""
    return httpx.Client(transport=httpx.HTTPTransport(local_address=address))
