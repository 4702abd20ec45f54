"""``restaurant-otel rules``: exported for a site, checked, listed, and a page for whoever is woken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dashboards.src.__main__ import ROOT
from restaurant_otel.cli import main


def test_exported_as_shipped_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rules", "export", str(tmp_path)]) == 0
    assert "say where Grafana is with --grafana-url" in capsys.readouterr().err
    monkeypatch.setenv("GRAFANA_URL", "https://grafana")
    assert main(["rules", "export", str(tmp_path / "other")]) == 0
    assert capsys.readouterr().err == ""
    alerts = (tmp_path / "other/prometheus/alerts.yml").read_text()
    assert "https://grafana/d/restaurant-runbooks?viewPanel=" in alerts
    assert "localhost" not in alerts
    for name in ("prometheus/recording.yml", "prometheus/alerts.yml", "alertmanager/alertmanager.yml"):
        assert (tmp_path / name).read_text() == (ROOT / name).read_text()


def test_exported_for_a_site_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ALERTS_WEBHOOK_URL", "https://example.org/alerts")
    (tmp_path / "own.toml").write_text("[components.api]\nobjective = 0.3\n")
    options = [
        "--objectives",
        str(tmp_path / "own.toml"),
        "--by",
        "namespace,job",
        "--selector",
        'env="prod"',
    ]
    links = ["--runbooks-url", "https://wiki/runbooks/", "--grafana-url", "https://grafana"]
    assert main(["rules", "export", str(tmp_path / "out"), *options, *links, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["written"]) == 3
    alerts = (tmp_path / "out/prometheus/alerts.yml").read_text()
    assert "https://wiki/runbooks/slow-requests.md" in alerts
    assert "https://grafana/d/restaurant-api" in alerts
    assert "https://example.org/alerts" in (tmp_path / "out/alertmanager/alertmanager.yml").read_text()
    assert main(["rules", "check", str(tmp_path / "out"), "--json"]) == 0
    assert [each["well"] for each in json.loads(capsys.readouterr().out)] == [True, True, True]

    (tmp_path / "out/prometheus/alerts.yml").write_text(alerts.replace("sum by (", "sum by by ("))
    (tmp_path / "out/alertmanager/alertmanager.yml").unlink()
    assert main(["rules", "check", str(tmp_path / "out")]) == 1
    shown = capsys.readouterr().out
    assert "parse error" in shown
    assert "alertmanager.yml is missing" in shown


def test_what_comes_with_the_library_is_well() -> None:
    assert main(["rules", "check"]) == 0


def test_wrong_arguments_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.toml").write_text("[components.apis]\n")
    assert main(["rules", "export", str(tmp_path), "--objectives", str(tmp_path / "own.toml")]) == 2
    monkeypatch.setenv("ALERTS_SLACK_URL_FILE", "/run/secrets/slack")
    assert main(["rules", "export", str(tmp_path)]) == 2
    monkeypatch.delenv("ALERTS_SLACK_URL_FILE")
    (tmp_path / "file").write_text("")
    assert main(["rules", "export", str(tmp_path / "file")]) == 1


def test_alerts_are_listed_and_their_pages_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"name", "severity", "for", "area", "runbook", "expr"} == set(listed[0])
    assert main(["rules", "runbook", "RedisAway"]) == 0
    assert "# Redis is away" in capsys.readouterr().out
    assert main(["rules", "runbook", "redis-away", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["page"] == "redis-away"
    assert main(["rules", "runbook", "../../README"]) == 2
