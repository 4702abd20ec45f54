"""An OpenTelemetry Collector, where one is installed: OTLP in, a file of JSON lines out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import Process, free_port
from tests.support.servers import clean_env
from tests.support.wait import eventually


class Collector:
    """A running collector. `grpc` and `http` are its endpoints."""

    def __init__(self, process: Process, grpc: str, http: str, out: Path) -> None:
        self.process = process
        self.grpc = grpc
        self.http = http
        self._out = out

    def received(self) -> list[dict[str, Any]]:
        """Everything the collector has written so far, one OTLP/JSON document a push."""
        lines = self._out.read_text().splitlines() if self._out.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def stop(self) -> None:
        """End it."""
        self.process.stop(within=5)


def start(folder: Path) -> Collector:
    """Start `otelcol-contrib` or `otelcol` (with the file exporter); skips where neither is installed."""
    program = shutil.which("otelcol-contrib") or shutil.which("otelcol")
    if program is None:
        pytest.skip("no OpenTelemetry Collector on PATH (otelcol-contrib or otelcol)")
    grpc, http = free_port(), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "received.jsonl"
    pipeline = {"receivers": ["otlp"], "exporters": ["file"]}
    config = {
        "receivers": {
            "otlp": {
                "protocols": {
                    "grpc": {"endpoint": f"127.0.0.1:{grpc}"},
                    "http": {"endpoint": f"127.0.0.1:{http}"},
                }
            }
        },
        "exporters": {"file": {"path": str(out), "flush_interval": "100ms"}},
        "service": {
            "pipelines": {"traces": pipeline, "metrics": pipeline},
            "telemetry": {"metrics": {"level": "none"}},
        },
    }
    (folder / "collector.yml").write_text(json.dumps(config))
    argv = [program, "--config", str(folder / "collector.yml")]
    process = Process(argv, env=clean_env(), cwd=folder, log=folder / "collector.log")
    running = Collector(process, f"http://127.0.0.1:{grpc}", f"http://127.0.0.1:{http}", out)
    try:
        eventually(lambda: _ready(running), within=20, what="the collector is ready")
    except BaseException as error:
        running.stop()
        raise AssertionError(f"the collector did not start: {error}\n{process.output()[-2000:]}") from error
    return running


def _ready(running: Collector) -> bool:
    try:
        return httpx.get(running.http, timeout=2.0).status_code > 0
    except httpx.TransportError:
        return False
