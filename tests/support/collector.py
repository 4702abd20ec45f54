"""An OpenTelemetry Collector, where one is installed: OTLP in, its debug exporter's text out.

The debug exporter is in every distribution of the collector.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support import http
from tests.support.processes import Process, free_port
from tests.support.servers import daemon


class Collector:
    """A running collector. `grpc` and `http` are its endpoints."""

    def __init__(self, process: Process, grpc: str, http: str) -> None:
        self.process = process
        self.grpc = grpc
        self.http = http

    def received(self) -> str:
        """Everything the collector has decoded so far, as its debug exporter prints it."""
        return self.process.output()

    def stop(self) -> None:
        """End it."""
        self.process.stop(within=5)


def start(folder: Path) -> Collector:
    """Start `otelcol-contrib` or `otelcol`; skips where neither is installed."""
    program = shutil.which("otelcol-contrib") or shutil.which("otelcol")
    if program is None:
        pytest.skip("no OpenTelemetry Collector on PATH (otelcol-contrib or otelcol)")
    grpc, http_port = free_port(), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    pipeline = {"receivers": ["otlp"], "exporters": ["debug"]}
    config = {
        "receivers": {
            "otlp": {
                "protocols": {
                    "grpc": {"endpoint": f"127.0.0.1:{grpc}"},
                    "http": {"endpoint": f"127.0.0.1:{http_port}"},
                }
            }
        },
        "exporters": {"debug": {"verbosity": "detailed"}},
        "service": {
            "pipelines": {"traces": pipeline, "metrics": pipeline},
            "telemetry": {"metrics": {"level": "none"}},
        },
    }
    (folder / "collector.yml").write_text(json.dumps(config))
    argv = [program, "--config", str(folder / "collector.yml")]
    url = f"http://127.0.0.1:{http_port}"
    process = daemon("collector", argv, folder, lambda: http.answers(url, None))
    return Collector(process, f"http://127.0.0.1:{grpc}", url)
