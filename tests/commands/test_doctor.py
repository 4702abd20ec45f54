"""`restaurant-otel doctor`: each fault that is planted is found, with something to do; and nothing else is."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from restaurant_otel.cli import main
from tests.support.processes import free_port
from tests.support.servers import Server

AUTO = "/site/opentelemetry/instrumentation/auto_instrumentation:/app"


@pytest.fixture(autouse=True)
def well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment in which nothing is wrong."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "RESTAURANT_OTEL_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    monkeypatch.setenv("RESTAURANT_OTEL_WORKERS_DIR", str(tmp_path))


@pytest.fixture
def diagnose(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    def run(*arguments: str) -> list[str]:
        status = main(["doctor", "--json", "--patience", "2", *arguments])
        found = json.loads(capsys.readouterr().out)
        assert all(one["do"] for one in found)
        assert status == int(any(one["level"] == "fault" for one in found))
        return [one["name"] for one in found]

    return run


Diagnose = Callable[..., list[str]]


@contextmanager
def answering(*bodies: str, **headers: str) -> Iterator[str]:
    """A server that gives these answers in turn."""
    asked = iter(range(10**9))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = bodies[next(asked) % len(bodies)].encode()
            self.send_response_only(200)
            self.send_header("Date", headers.get("Date", formatdate(usegmt=True)))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def metrics(count: int) -> str:
    from restaurant_otel import catalog
    from restaurant_otel.metrics.exposition import negotiate, render
    from restaurant_otel.metrics.registry import Registry

    registry = Registry()
    cell = registry.histogram(catalog.HTTP_SERVER_REQUEST_DURATION).bind("GET", "/", 200, "http", "1.1", None)
    for _ in range(count):
        cell.record(0.01)
    return b"".join(render(registry.iter_families(), negotiate("text/plain"))).decode()


# --- nothing wrong -----------------------------------------------------------------------------------


def test_where_nothing_is_wrong_it_says_so(diagnose: Diagnose, capsys: pytest.CaptureFixture[str]) -> None:
    assert diagnose() == []
    assert main(["doctor"]) == 0
    assert "nothing is wrong" in capsys.readouterr().out


def test_an_app_that_is_well_is_well(serve: Callable[..., Server], diagnose: Diagnose) -> None:
    server = serve("uvicorn", "tests.admin.app:app", workers=2)
    server.get("/hello/ada")
    assert diagnose("--url", server.url) == []


# --- planted faults ----------------------------------------------------------------------------------

VARIABLES = {
    "switched off": ({"OTEL_SDK_DISABLED": "true"}, ["disabled"]),
    "a misspelled setting": ({"RESTAURANT_OTEL_METRIC_PATH": "/m"}, ["settings"]),
    "an exporter that is not installed": ({"OTEL_TRACES_EXPORTER": "zipkin9"}, ["exporter"]),
    "no exporter": ({"OTEL_TRACES_EXPORTER": "none"}, ["no-traces"]),
    "a sampler that keeps nothing": ({"OTEL_TRACES_SAMPLER": "always_off"}, ["sampler"]),
    "a ratio of nothing": (
        {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
        ["sampler"],
    ),
    "an endpoint that is no URL": ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, ["endpoint"]),
    "no name": ({"OTEL_SERVICE_NAME": ""}, ["no-name"]),
    "an admin API without a key": ({"RESTAURANT_OTEL_ADMIN": "/-/performance"}, ["admin"]),
    "an admin API with a weak key": (
        {"RESTAURANT_OTEL_ADMIN": "/-/performance", "RESTAURANT_OTEL_ADMIN_KEY": "short"},
        ["admin"],
    ),
    "a folder that is not there": ({"RESTAURANT_OTEL_WORKERS_DIR": "/there/is/no/such/folder"}, ["folder"]),
    "a Redis that is not there": ({"RESTAURANT_OTEL_CACHE_URL": "redis://127.0.0.1:1/0"}, ["redis"]),
    "contrib's instrumentors beside ours": (
        {"PYTHONPATH": AUTO, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "sqlalchemy"},
        ["double"],
    ),
}


@pytest.mark.parametrize("fault", VARIABLES)
def test_a_fault_in_the_environment_is_found(
    fault: str, monkeypatch: pytest.MonkeyPatch, diagnose: Diagnose
) -> None:
    variables, names = VARIABLES[fault]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert diagnose() == names


def test_a_collector_that_is_away(monkeypatch: pytest.MonkeyPatch, diagnose: Diagnose) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert diagnose() == ["endpoint"]


def test_the_wrong_protocol_for_the_port(monkeypatch: pytest.MonkeyPatch, diagnose: Diagnose) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317")
    assert "protocol" in diagnose()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    assert "protocol" not in diagnose()


@pytest.mark.parametrize(("version", "name"), [("2.1.0", "sqlalchemy"), ("2.0.36", "sqlalchemy-twice")])
def test_sqlalchemy_that_contribs_instrumentor_refuses_or_tells_of_twice(
    version: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, diagnose: Diagnose
) -> None:
    about = tmp_path / "site" / f"sqlalchemy-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: sqlalchemy\nVersion: {version}\n")
    monkeypatch.syspath_prepend(str(about.parent))
    monkeypatch.setenv("PYTHONPATH", AUTO)
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "asgi,fastapi,wsgi,starlette,flask,django")
    assert diagnose() == [name]


def test_a_workers_folder_that_others_can_look_into(tmp_path: Path, diagnose: Diagnose) -> None:
    ours = tmp_path / f"restaurant-otel-{os.geteuid()}"
    ours.mkdir()
    ours.chmod(0o755)
    assert diagnose() == ["permissions"]
    ours.chmod(0o700)
    assert stat.S_IMODE(ours.stat().st_mode) == 0o700
    assert diagnose() == []


def test_an_app_that_is_not_there(diagnose: Diagnose) -> None:
    assert diagnose("--url", f"http://127.0.0.1:{free_port()}") == ["app"]


def test_a_guard_that_lets_nobody_in(serve: Callable[..., Server], diagnose: Diagnose) -> None:
    key = "0123456789abcdef"
    server = serve("uvicorn", "tests.admin.app:app", env={"RESTAURANT_OTEL_METRICS_TOKEN": key})
    assert diagnose("--url", server.url) == ["guard"]
    assert diagnose("--url", server.url, "--token", key) == []


def test_metrics_of_somebody_else(diagnose: Diagnose) -> None:
    with answering("# TYPE up gauge\nup 1\n") as url:
        assert diagnose("--url", url) == ["not-ours"]


def test_a_clock_that_is_wrong(diagnose: Diagnose) -> None:
    with answering(metrics(1), Date=formatdate(time.time() - 3600, usegmt=True)) as url:
        assert diagnose("--url", url) == ["clock"]


def test_workers_that_do_not_know_each_other(diagnose: Diagnose) -> None:
    with answering(metrics(5), metrics(2)) as url:
        assert diagnose("--url", url) == ["workers"]


# --- the command -------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_it_can_look_at_another_processs_environment(diagnose: Diagnose) -> None:
    sleeper = subprocess.Popen(["sleep", "60"], env={"OTEL_SDK_DISABLED": "true", "OTEL_SERVICE_NAME": "x"})
    try:
        assert "disabled" in diagnose("--pid", str(sleeper.pid))
    finally:
        sleeper.kill()
        sleeper.wait()


def test_for_people_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "fault: OTEL_SDK_DISABLED" in shown
    assert "Take the variable away." in shown


def test_for_people_it_says_no_more_than_helps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RESTAURANT_OTEL_METRIC_PATH", "/m")
    assert main(["doctor", "--url", f"http://127.0.0.1:{free_port()}"]) == 1
    shown = capsys.readouterr().out
    assert "Did you mean 'RESTAURANT_OTEL_METRICS_PATH'?\n" in shown
    assert "does not answer: Connection refused.\n" in shown


def test_a_port_that_says_nothing_is_not_waited_for(diagnose: Diagnose) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert diagnose("--url", f"http://127.0.0.1:{silent.getsockname()[1]}") == ["app"]
