"""``deploy/`` and Grafana's provisioning hang together, as far as that can be told without a container engine."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from dashboards.src.__main__ import ROOT
from tests.dashboards.grafana import DASHBOARDS
from tests.support.processes import required

DEPLOY = ROOT.parent / "deploy"
PROVISIONING = ROOT / "grafana" / "provisioning"


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


COMPOSE = read(DEPLOY / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_every_part_is_there_and_pinned() -> None:
    wanted = {"app", "redis", "postgres", "prometheus", "alertmanager", "grafana", "tempo", "collector"}
    assert wanted <= set(SERVICES)
    for name, service in SERVICES.items():
        if "image" in service:
            assert re.search(r":v?\d", service["image"]), f"{name}: which version?"
        else:
            assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_what_is_mounted_exists_and_what_is_depended_on_too() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            exists = (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
            assert exists, f"{name}: {source}"
        assert set(service.get("depends_on", [])) <= set(SERVICES), name


def test_nothing_listens_to_other_machines_and_no_secret_is_written() -> None:
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    for file in (*DEPLOY.iterdir(), *PROVISIONING.rglob("*.yaml")):
        assert not re.search(r"(?i)password\s*[:=]\s*\S|token\s*[:=]\s*\S|secret", file.read_text()), file


def test_the_image_has_all_that_the_package_is_built_from() -> None:
    copied = {word for line in _lines("COPY") for word in line.split()[1:-1]}
    project = (ROOT.parent / "pyproject.toml").read_text()
    included = project.split("wheel.force-include]")[1].split("\n[")[0]
    for source in re.findall(r'^"([^"]+)" =', included, re.MULTILINE):
        assert any(source == each or source.startswith(f"{each}/") for each in copied), source
    assert all((ROOT.parent / each).exists() for each in copied)


def _lines(instruction: str) -> list[str]:
    text = (DEPLOY / "Dockerfile").read_text()
    return [line for line in text.splitlines() if line.startswith(instruction)]


def test_grafana_finds_its_data_sources_and_its_dashboards() -> None:
    sources = {
        each["uid"]: each for each in read(PROVISIONING / "datasources/restaurant.yaml")["datasources"]
    }
    prometheus = sources["prometheus"]
    scraped = read(DEPLOY / "prometheus.yml")["global"]["scrape_interval"]
    assert prometheus["jsonData"]["timeInterval"] == scraped, "$__rate_interval would be empty or too long"
    [leads] = prometheus["jsonData"]["exemplarTraceIdDestinations"]
    assert leads == {"name": "trace_id", "datasourceUid": "tempo"}
    for each in sources.values():
        assert re.match(r"http://(\w+):\d+$", each["url"])[1] in SERVICES  # type: ignore[index]
    [provider] = read(PROVISIONING / "dashboards/restaurant.yaml")["providers"]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in SERVICES["grafana"]["volumes"]}
    folder = DEPLOY / mounted[provider["options"]["path"]]
    assert list(folder.glob("restaurant-*.json"))
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (folder / Path(home).name).is_file()


def test_the_app_has_a_cache_and_with_a_key_an_admin_api_where_the_dashboard_looks_for_it() -> None:
    environment = SERVICES["app"]["environment"]
    assert re.match(r"redis://(\w+):\d+/0$", environment["REDIS_URL"])[1] in SERVICES  # type: ignore[index]
    assert environment["RESTAURANT_OTEL_ADMIN_KEY"] == "${RESTAURANT_OTEL_ADMIN_KEY:-}"
    path = (
        environment["RESTAURANT_OTEL_ADMIN"].removeprefix("${RESTAURANT_OTEL_ADMIN_KEY:+").removesuffix("}")
    )
    [variable] = [
        each for each in DASHBOARDS["restaurant-cache"]["templating"]["list"] if each["name"] == "admin_url"
    ]
    assert variable["query"] == path, "the dashboard looks there, at its own address"
    front = (DEPLOY / "front.conf").read_text()
    passed = dict(re.findall(r"location (\S+) \{\s+proxy_pass http://(\w+):\d+;", front))
    assert passed == {"/": "grafana", f"{path}/": "app"}
    listens = re.search(r"listen (\d+);", front)
    assert listens is not None
    assert SERVICES["front"]["ports"] == [f"127.0.0.1:3000:{listens[1]}"]


def test_the_collector_sends_to_what_is_there() -> None:
    collector = read(DEPLOY / "collector.yaml")
    host, port = collector["exporters"]["otlp"]["endpoint"].split(":")
    assert host in SERVICES
    receiver = read(DEPLOY / "tempo.yaml")["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]
    assert receiver["endpoint"].endswith(f":{port}")
    pipeline = collector["service"]["pipelines"]["traces"]
    for part, names in pipeline.items():
        assert set(names) <= set(collector[part])


def test_promtool_takes_prometheus_configuration_with_the_rules(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "prometheus.yml", tmp_path)
    shutil.copytree(ROOT / "prometheus", tmp_path / "rules")
    done = subprocess.run(
        [required("promtool"), "check", "config", str(tmp_path / "prometheus.yml")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("rules found") == 2
