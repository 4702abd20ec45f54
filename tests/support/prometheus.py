"""A real Prometheus that scrapes given targets every second, its data in a folder of the test's.

``PROMETHEUS`` in the environment names another one than that on PATH, such as a newer one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support import http
from tests.support.processes import Process, free_port, required
from tests.support.servers import daemon
from tests.support.wait import eventually


class Prometheus:
    """A running Prometheus; ask it with `query`."""

    def __init__(self, process: Process, url: str) -> None:
        self.process = process
        self.url = url

    def query(self, promql: str) -> list[tuple[dict[str, str], float]]:
        """An instant query's vector as (labels, value); a scalar as one with no labels."""
        data = self._api("query", query=promql)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(item["metric"], float(item["value"][1])) for item in data["result"]]

    def value(self, promql: str) -> float | None:
        """The value of a query with one result; None when it has none."""
        found = self.query(promql)
        assert len(found) <= 1, f"{promql} has {len(found)} results"
        return found[0][1] if found else None

    def history(self, selector: str) -> list[list[float]]:
        """All samples scraped so far, a list a series, in order of time."""
        return [
            [float(v) for _, v in item["values"]]
            for item in self._api("query", query=f"{selector}[1h]")["result"]
        ]

    def targets(self) -> list[dict[str, Any]]:
        """The active targets as the API tells them: `health`, `lastError`, ..."""
        return list(self._api("targets", state="active")["activeTargets"])

    def exemplars(self, promql: str) -> list[dict[str, Any]]:
        """Exemplars of the last hour, a dictionary each with `labels` and `value`."""
        found = self._api("query_exemplars", query=promql, start="0", end="9999999999")
        return [exemplar for series in found for exemplar in series["exemplars"]]

    def scrapes(self, count: int, within: float = 30.0) -> None:
        """Wait until each target has been scraped at least `count` times."""
        eventually(
            lambda: min((v for _, v in self.query("count_over_time(up[1h])")), default=0) >= count,
            within=within,
            what=f"{count} scrapes",
        )

    def stop(self) -> None:
        """End it."""
        self.process.stop(within=5)

    def _api(self, path: str, **params: str) -> Any:
        answer = http.get(f"{self.url}/api/v1/{path}", params=params, timeout=10.0).json()
        assert answer["status"] == "success", f"Prometheus: {answer}"
        return answer["data"]


def start(
    targets: Sequence[str],
    folder: Path,
    config: Mapping[str, Any] | None = None,
    rules: Mapping[str, str] | None = None,
    alertmanager: str | None = None,
) -> Prometheus:
    """Scrape `targets` ("host:port") each second. `config` is added to the scrape job's settings.

    `rules`: texts of rule files by name, evaluated each second; `alertmanager`: "host:port" that gets the alerts.
    """
    program = required(os.environ.get("PROMETHEUS") or "prometheus")
    port = free_port()
    job = {"job_name": "app", "static_configs": [{"targets": list(targets)}], **(config or {})}
    every_second = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    settings: dict[str, Any] = {"global": every_second, "scrape_configs": [job]}
    folder.mkdir(parents=True, exist_ok=True)
    if rules:
        for name, text in rules.items():
            (folder / name).write_text(text)
        settings["rule_files"] = list(rules)
    if alertmanager is not None:
        settings["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
    (folder / "prometheus.yml").write_text(json.dumps(settings))  # JSON is YAML
    argv = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
    ]
    url = f"http://127.0.0.1:{port}"
    return Prometheus(daemon("prometheus", argv, folder, lambda: http.answers(f"{url}/-/ready")), url)
