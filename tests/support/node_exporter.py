"""Prometheus's node exporter: what a program by others, in another language, reads off this host."""

from __future__ import annotations

from pathlib import Path

from tests.support import http
from tests.support.processes import Process, free_port, required
from tests.support.readings import Readings, parse
from tests.support.servers import daemon

# All disks and interfaces, and of the file systems the root, whatever that is: in a container an overlay.
OPTIONS = (
    "--collector.diskstats.device-exclude=^$",
    "--collector.netdev.device-exclude=^$",
    "--collector.filesystem.fs-types-exclude=^$",
    "--collector.filesystem.mount-points-exclude=^/.+",
)


class NodeExporter:
    """A running node exporter."""

    def __init__(self, process: Process, url: str) -> None:
        self.process = process
        self.client = http.client(url)

    def read(self) -> Readings:
        """The host as it is now: each scrape reads it anew."""
        answer = self.client.get("/metrics")
        assert answer.status_code == 200, answer.text[:300]
        return parse(answer.text)

    def stop(self) -> None:
        """End it."""
        self.client.close()
        self.process.stop(within=5)


def start(folder: Path) -> NodeExporter:
    """Start one, and wait until it answers; skips the test where it is not installed."""
    program, port = required("prometheus-node-exporter"), free_port()
    argv = [program, f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn", *OPTIONS]
    url = f"http://127.0.0.1:{port}"
    return NodeExporter(daemon("node-exporter", argv, folder, lambda: http.answers(f"{url}/metrics")), url)
