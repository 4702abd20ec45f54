"""The button of the cache dashboard, from the committed JSON to an empty cache: as a browser sends it, from Grafana's
page, past the preflight; and the way to it from an alert."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import yaml

from restaurant_otel.cache import Cache
from tests.admin.test_api import AUDIT, audited
from tests.admin.tokens import ROOT, KeyServer, token
from tests.cache.redises import RedisServer
from tests.support import http
from tests.support.servers import ROOT as CHECKOUT
from tests.support.servers import Server
from tests.support.wait import eventually

DASHBOARD = json.loads((CHECKOUT / "dashboards/grafana/dashboards/restaurant-cache.json").read_text())
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

PAGE = """<!doctype html><script>
(async () => {
  const outcomes = [];
  for (const [url, init] of REQUESTS) {
    try {
      const answer = await fetch(url, init);
      outcomes.push(`${answer.status} ${answer.headers.get("content-type")}`);
    } catch (error) { outcomes.push(error.name); }
  }
  await fetch("/outcome?" + encodeURIComponent(JSON.stringify([location.origin, outcomes])));
})();
</script>FRAME"""


def actions(value: Any = DASHBOARD) -> Iterator[dict[str, Any]]:
    """All actions in the dashboard."""
    if isinstance(value, list):
        for each in value:
            yield from actions(each)
    elif isinstance(value, dict):
        if value.get("id") == "actions":
            yield from value["value"]
        for each in value.values():
            yield from actions(each)


def request(admin_url: str, cache: str, credential: str) -> tuple[str, dict[str, Any]]:
    """What Grafana sends for the action: its variables put in, and its own header added."""
    (action,) = actions()

    def filled(text: str) -> str:
        known = {"${admin_url}": admin_url, "${__data.fields.Cache}": cache, "$token": credential}
        for name, value in known.items():
            text = text.replace(name, value)
        assert "$" not in text
        return text

    assert action["type"] == "fetch"
    assert filled(action["confirmation"]).startswith(f"Clear the whole cache {cache}?")
    fetch = action["fetch"]
    headers = {name: filled(value) for name, value in fetch["headers"]}
    init = {"method": fetch["method"], "headers": {**headers, "X-Grafana-Action": "1"}, "body": fetch["body"]}
    return filled(fetch["url"]), init


class Grafana(KeyServer):
    """A page of Grafana's origin, and of another one within it, that sends `requests` and tells what became of them."""

    def __init__(self) -> None:
        super().__init__()
        self.origin = self.url.removesuffix("/keys")
        self.other = self.origin.replace("127.0.0.1", "localhost")
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.outcomes: dict[str, list[str]] = {}
        self.behave = self._answer
        self._lock = threading.Lock()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        from urllib.parse import unquote

        path, _, query = handler.path.partition("?")
        if path == "/outcome":
            with self._lock:
                self.outcomes.update([json.loads(unquote(query))])
        frame = f'<iframe src="{self.other}/inside"></iframe>' if path == "/" else ""
        body = PAGE.replace("REQUESTS", json.dumps(self.requests)).replace("FRAME", frame).encode()
        handler.send_response(200)
        handler.send_header("Content-Type", "text/html")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


@pytest.fixture
def grafana() -> Iterator[Grafana]:
    running = Grafana()
    yield running
    running.stop()


@pytest.fixture
def shop(serve: Callable[..., Server], redis_server: RedisServer, grafana: Grafana) -> Server:
    """The app, whose API knows that Grafana."""
    env = {"TEST_REDIS_URL": redis_server.url, "TEST_ORIGIN": grafana.origin}
    return serve("uvicorn", "tests.admin.app:app", env=env)


def test_the_button_clears_the_cache(shop: Server, grafana: Grafana, redis_server: RedisServer) -> None:
    url, init = request(shop.url + ROOT, "shop", token(sub="grafana"))
    with Cache(redis_server.url, namespace="shop") as cache:
        cache.set("dish", 1)
        asked = {
            "Origin": grafana.origin,
            "Access-Control-Request-Method": init["method"],
            "Access-Control-Request-Headers": ",".join(sorted(name.lower() for name in init["headers"])),
        }
        preflight = http.request("OPTIONS", url, headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == grafana.origin
        assert "access-control-allow-credentials" not in preflight.headers
        assert cache.get("dish") == 1
        headers = {**init["headers"], "Origin": grafana.origin}
        done = http.request(init["method"], url, headers=headers, content=init["body"])
        assert done.status_code == 200
        assert done.json()["redis"] == "told"
        assert done.headers["access-control-allow-origin"] == grafana.origin
        assert cache.get("dish") is None
    (line,) = audited(shop, "grafana")
    assert (line["what"], line["outcome"], line["with"]["name"]) == ("cache.clear.post", "done", "shop")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_sends_it_from_grafanas_page_and_from_no_other(
    shop: Server, grafana: Grafana, redis_server: RedisServer, tmp_path: Path
) -> None:
    tokens = ["nonsense", token(sub="reader", scope="performance:read"), token(sub="grafana")]
    grafana.requests = [request(shop.url + ROOT, "shop", each) for each in tokens]
    with Cache(redis_server.url, namespace="shop") as cache:
        cache.set("dish", 1)
        options = [
            "--headless=new",
            "--no-sandbox",
            "--no-first-run",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ]
        browser = subprocess.Popen(
            [str(CHROMIUM), *options, f"--user-data-dir={tmp_path}/profile", "--remote-debugging-port=0",
             f"{grafana.origin}/"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            eventually(lambda: len(grafana.outcomes) == 2, within=90, what="both pages tell")
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait(timeout=20)
        problem = "application/problem+json"
        # What is wrong can be read by the page, so that Grafana can show it.
        assert grafana.outcomes[grafana.origin] == [
            f"401 {problem}",
            f"403 {problem}",
            "200 application/json",
        ]
        assert grafana.outcomes[grafana.other] == ["TypeError"] * 3
        assert cache.get("dish") is None
    lines = [json.loads(line) for line in re.findall(AUDIT, shop.output(), re.MULTILINE)]
    assert [(line["who"], line["outcome"]) for line in lines] == [
        (None, "refused"),
        ("reader", "refused"),
        ("grafana", "done"),
    ]


def test_from_an_alert_on_the_cache_one_comes_to_the_button() -> None:
    rules = yaml.safe_load((CHECKOUT / "dashboards/prometheus/alerts.yml").read_text())
    alerts = [
        rule
        for group in rules["groups"]
        for rule in group["rules"]
        if f"/d/{DASHBOARD['uid']}?" in rule.get("annotations", {}).get("dashboard_url", "")
    ]
    assert any("hit" in rule["alert"].lower() for rule in alerts)
    (variable,) = [one for one in DASHBOARD["templating"]["list"] if one["name"] == "admin_url"]
    assert variable["query"]
    runbooks = json.loads((CHECKOUT / "dashboards/grafana/dashboards/restaurant-runbooks.json").read_text())
    pages = {f"/d/restaurant-runbooks?viewPanel={panel['id']}" for panel in runbooks["panels"]}
    for rule in alerts:
        assert rule["annotations"]["runbook_url"].removeprefix("http://localhost:3000") in pages
