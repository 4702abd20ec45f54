"""The whole chain, alive: the example app, Prometheus, Alertmanager, a webhook; a fault, and what comes of it.

The rules are those that are shipped, made by the same code with every time a sixtieth: minutes are seconds.
"""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from examples.restaurant.database import make_engine
from examples.restaurant.seed import seed
from restaurant_otel.rules import runbooks
from restaurant_otel.rules.alertmanager import Receivers
from restaurant_otel.rules.export import files
from restaurant_otel.rules.options import Options
from restaurant_otel.scorecard.advice import recommend
from restaurant_otel.scorecard.fleet import Prometheus as Fleet
from restaurant_otel.scorecard.fleet import fleet_snapshots
from restaurant_otel.scorecard.formula import Band, score
from tests.support import alertmanager as alertmanagers
from tests.support import http, servers
from tests.support import prometheus as prometheuses
from tests.support.alertmanager import Alertmanager, Webhook
from tests.support.prometheus import Prometheus
from tests.support.servers import Server
from tests.support.wait import eventually

MINUTES_ARE_SECONDS = Options(scale=1 / 60)


async def _fill(env: dict[str, str]) -> None:
    engine = make_engine(env)
    try:
        await seed(engine)
    finally:
        await engine.dispose()


class Chain:
    """App, Prometheus, Alertmanager and webhook, under traffic."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "restaurant.sqlite3"
        env = {"DATABASE_URL": f"sqlite:///{self.database}"}
        asyncio.run(_fill(env))
        self.webhook = Webhook()
        made = files(MINUTES_ARE_SECONDS, Receivers(webhook_url=self.webhook.url))
        self.alertmanager: Alertmanager = alertmanagers.start(
            folder / "alertmanager", made["alertmanager/alertmanager.yml"]
        )
        self.app: Server = servers.start(
            "uvicorn", "examples.restaurant.app:app", log=folder / "app.log", env=env
        )
        rules = {
            name.removeprefix("prometheus/"): text for name, text in made.items() if "prometheus/" in name
        }
        self.prometheus: Prometheus = prometheuses.start(
            [f"127.0.0.1:{self.app.port}"],
            folder / "prometheus",
            {"job_name": "shop"},
            rules,
            self.alertmanager.address,
        )
        self._stop = threading.Event()
        self._traffic = threading.Thread(target=self._ask)
        self._traffic.start()

    def _ask(self) -> None:
        with http.client(self.app.url, timeout=5.0) as client:
            while not self._stop.wait(0.03):
                try:
                    client.get("/orders")
                except httpx.TransportError:
                    self._stop.wait(0.2)

    def break_database(self) -> None:
        """A migration gone wrong: the app's table has another name."""
        with sqlite3.connect(self.database, timeout=15) as connection:
            connection.execute("ALTER TABLE orders RENAME TO orders_old")

    def mend_database(self) -> None:
        """Back again."""
        with sqlite3.connect(self.database, timeout=15) as connection:
            connection.execute("ALTER TABLE orders_old RENAME TO orders")

    def close(self) -> None:
        """End everything."""
        self._stop.set()
        self._traffic.join()
        self.prometheus.stop()
        self.app.stop()
        self.alertmanager.stop()
        self.webhook.close()


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    running = Chain(tmp_path)
    yield running
    running.close()


@pytest.mark.serial  # scrapes of a second, alerts of a few: in a real fault they take minutes
@pytest.mark.timeout(400)
def test_a_fault_reaches_the_webhook_silences_what_it_explains_and_is_taken_back(chain: Chain) -> None:
    eventually(
        lambda: chain.prometheus.query('service_component:performance_value{job="shop"}'),
        within=40,
        what="the app's figures are recorded",
    )
    assert not chain.webhook.got("firing", severity="critical")

    chain.break_database()
    arrived = eventually(
        lambda: chain.webhook.got("firing", alertname="ErrorRatioHigh", severity="critical"),
        within=60,
        what="the critical alert arrives",
    )[0]
    assert arrived["receiver"] == "critical"
    assert arrived["labels"]["job"] == "shop"
    assert re.match(r"\d.*% for shop; the limit is at most 5 %", arrived["annotations"]["description"])
    assert arrived["annotations"]["summary"] == "requests to shop fail".capitalize()
    assert arrived["annotations"]["runbook_url"].endswith(runbooks.link("high-error-ratio"))
    assert arrived["annotations"]["dashboard_url"].endswith("/d/restaurant-api?var-job=shop")
    # The warning of the same name is known, and kept from us because of the critical one.
    warning = {"alertname": "ErrorRatioHigh", "severity": "warning", "job": "shop"}
    suppressed = eventually(
        lambda: [
            each for each in chain.alertmanager.alerts(**warning) if each["status"]["state"] == "suppressed"
        ],
        within=40,
        what="the warning is suppressed",
    )
    assert suppressed[0]["status"]["inhibitedBy"]
    assert not chain.webhook.got("firing", **warning)
    _every_text_is_in_plain_words(chain)

    # The fleet's score says the same, and which route it is.
    snapshots = fleet_snapshots(Fleet(chain.prometheus.url), MINUTES_ARE_SECONDS)
    assert [each.service for each in snapshots] == ["shop"]
    card = score(snapshots[0])
    assert card.band is Band.POOR
    assert card["errors"].points == 0
    advice = recommend(card, snapshots[0])
    assert [fact.subject for fact in advice[0].evidence or advice[1].evidence] == ["/orders"]

    chain.mend_database()
    eventually(
        lambda: chain.webhook.got("resolved", alertname="ErrorRatioHigh", severity="critical"),
        within=90,
        what="it is told that the alert is over",
    )

    chain.app.stop()
    eventually(
        lambda: chain.webhook.got("firing", alertname="TargetDown", job="shop"),
        within=60,
        what="it is told that the app is down",
    )


def _every_text_is_in_plain_words(chain: Chain) -> None:
    """No template has failed, in any alert that is known now."""
    known = http.get(chain.prometheus.url + "/api/v1/alerts", timeout=5.0).json()["data"]["alerts"]
    assert len(known) >= 3
    for alert in known:
        text = json.dumps(alert["annotations"])
        assert not re.search(r"<error|<no value>|%!|\{\{|NaN", text), text
