"""A real Alertmanager, and the webhook that it tells of alerts."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support import http
from tests.support.processes import Process, free_port, required
from tests.support.servers import daemon

Alert = dict[str, Any]


class Webhook:
    """Where notifications arrive. `alerts` are all that came, in order."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []
        received = self.alerts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                received.extend({**alert, "receiver": body["receiver"]} for alert in body["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/alerts"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def got(self, status: str, **labels: str) -> list[Alert]:
        """The alerts that came with this status and these labels."""
        return [
            alert
            for alert in list(self.alerts)
            if alert["status"] == status and labels.items() <= alert["labels"].items()
        ]

    def close(self) -> None:
        """No more."""
        self._server.shutdown()
        self._server.server_close()


class Alertmanager:
    """A running Alertmanager at `address` ("host:port")."""

    def __init__(self, process: Process, address: str) -> None:
        self.process = process
        self.address = address

    def alerts(self, **labels: str) -> list[Alert]:
        """What it knows of alerts with these labels: `status.state` is active, suppressed or unprocessed."""
        found = http.get(f"http://{self.address}/api/v2/alerts", timeout=5.0).json()
        return [alert for alert in found if labels.items() <= alert["labels"].items()]

    def post(self, *labels: Mapping[str, str]) -> None:
        """Tell it of alerts, as Prometheus would."""
        body = [{"labels": each, "annotations": {}} for each in labels]
        http.post(f"http://{self.address}/api/v2/alerts", json=body, timeout=5.0).raise_for_status()

    def stop(self) -> None:
        """End it."""
        self.process.stop(within=5)


def start(folder: Path, configuration: str) -> Alertmanager:
    """Alertmanager with this configuration, alone."""
    program = shutil.which("prometheus-alertmanager") or required("alertmanager")
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "alertmanager.yml").write_text(configuration)
    argv = [
        program,
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    address = f"127.0.0.1:{port}"
    ready = f"http://{address}/-/ready"
    return Alertmanager(daemon("alertmanager", argv, folder, lambda: http.answers(ready)), address)
