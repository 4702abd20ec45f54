"""`GET /alerts`: what Alertmanager or Prometheus says, and a plain word where they say nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler

import pytest

from restaurant_otel.admin import admin_app
from restaurant_otel.administration import fetching
from restaurant_otel.administration.alerts import AlertSource
from restaurant_otel.administration.operations import Problem
from restaurant_otel.settings import Settings
from tests.admin.tokens import SECRET, KeyServer, token
from tests.support.asgi import asgi_call
from tests.support.prometheus import Prometheus

FIRING = [
    {
        "labels": {"alertname": name, "severity": severity},
        "annotations": {"summary": f"{name} burns", "runbook_url": "https://runbooks.example.org/x"},
        "status": {"state": "active"},
        "startsAt": "2026-01-01T00:00:00Z",
    }
    for name, severity in (("Slow", "warning"), ("Down", "critical"))
]


@pytest.fixture
def server() -> Iterator[KeyServer]:
    running = KeyServer()
    yield running
    running.stop()


def says(body: object) -> Callable[[BaseHTTPRequestHandler], None]:
    def behave(handler: BaseHTTPRequestHandler) -> None:
        says_text(handler, json.dumps(body).encode())

    return behave


@pytest.mark.parametrize("how", ["drip", "elsewhere", "deep"])
def test_a_server_that_is_not_good_for_anything_holds_nobody_up_and_leads_nowhere(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(fetching, "SECONDS", 0.5)
    elsewhere = KeyServer()
    over = threading.Event()

    def behave(handler: BaseHTTPRequestHandler) -> None:
        if how == "elsewhere":
            handler.send_response(302)
            handler.send_header("Location", elsewhere.url)
            handler.end_headers()
            return
        if how == "deep":
            says_text(handler, b"[" * 1_000_000)
            return
        handler.send_response(200)
        handler.end_headers()
        with suppress(OSError):
            while not over.wait(0.05):
                handler.wfile.write(b" ")

    server.behave = behave
    source = AlertSource(server.url)
    try:
        for _ in range(3):
            with pytest.raises(Problem, match="could not be had"):
                source.read()
        assert server.asked == 1
        assert elsewhere.asked == 0
    finally:
        over.set()
        elsewhere.stop()


def says_text(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    with suppress(OSError):
        handler.wfile.write(data)


def test_alertmanagers_alerts_come_with_the_worst_first_and_are_not_asked_for_twice(
    server: KeyServer,
) -> None:
    server.behave = says(FIRING)
    source = AlertSource(server.url)
    found = source.read()
    assert found.source == "alertmanager"
    assert [(one.name, one.severity) for one in found.alerts] == [("Down", "critical"), ("Slow", "warning")]
    assert found.alerts[0].runbook == "https://runbooks.example.org/x"
    source.read()
    assert server.asked == 1


def test_prometheus_does_as_well(prometheus: Callable[..., Prometheus]) -> None:
    running = prometheus(["127.0.0.1:1"])
    found = AlertSource(running.url).read()
    assert (found.source, found.alerts) == ("prometheus", [])


@pytest.mark.parametrize("body", [{}, [1], "text", [{"labels": 3}], None])
def test_an_answer_that_is_none_is_told_plainly(server: KeyServer, body: object) -> None:
    server.behave = says(body)
    with pytest.raises(Problem, match="could not be had"):
        AlertSource(server.url).read()


def test_where_nobody_is_to_be_asked_it_says_what_to_set() -> None:
    with pytest.raises(Problem, match="admin_alerts_url"):
        AlertSource(None).read()
    with pytest.raises(Problem, match="could not be had"):
        AlertSource("http://127.0.0.1:1").read()


def test_the_api_tells_them(server: KeyServer) -> None:
    server.behave = says(FIRING)
    app = admin_app(Settings.resolve({}, admin_key=SECRET, admin_alerts_url=server.url.removesuffix("/keys")))
    headers = [(b"authorization", f"Bearer {token()}".encode())]
    answer = asgi_call(app, path="/alerts", headers=headers)
    assert answer.status == 200
    assert [one["name"] for one in json.loads(answer.body)["alerts"]] == ["Down", "Slow"]
    server.behave = says("text")
    fresh = admin_app(Settings.resolve({}, admin_key=SECRET, admin_alerts_url=server.url))
    assert asgi_call(fresh, path="/alerts", headers=headers).status == 502
    none = admin_app(Settings.resolve({}, admin_key=SECRET))
    assert asgi_call(none, path="/alerts", headers=headers).status == 404
