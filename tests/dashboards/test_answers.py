"""Every query of every dashboard has an answer, and of a size that its unit makes sense of.

A real Prometheus scrapes the example app under its own traffic, with faults: failing payments, slow pages and N+1 as
they come with the app, and a Redis that hangs for a while. The rules are those that are shipped, minutes being seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from examples.restaurant.database import make_engine
from examples.restaurant.seed import seed
from examples.restaurant.traffic import Traffic
from restaurant_otel.rules.export import files
from restaurant_otel.rules.options import Options
from tests.cache.redises import RedisServer
from tests.dashboards.grafana import DASHBOARDS, Asked, filled, label_values, queries, unit
from tests.support import http, servers
from tests.support import prometheus as prometheuses
from tests.support.prometheus import Prometheus
from tests.support.wait import eventually

SCRAPES = 24
"""How many seconds of traffic are enough."""

MINUTES_ARE_SECONDS = Options(scale=1 / 60)

MAY_BE_EMPTY = {
    "restaurant-resources, Container: CPUs A": "only in a container",
    "restaurant-resources, Container: CPUs B": "only in a container with a quota",
    "restaurant-resources, Container: memory A": "only in a container",
    "restaurant-resources, Container: memory B": "only in a container with a limit",
    "restaurant-resources, Container: held back A": "only in a container with a quota",
    "restaurant-resources, Pressure A": "only where the kernel keeps PSI",
    "restaurant-resources, Workers C": "a slope needs half an hour of memory",
    "restaurant-resources, Event loop lag and its kin D": "only behind a proxy that stamps requests",
    "restaurant-resources, Connections waiting to be accepted A": "only where the kernel tells of sockets",
    "restaurant-resources, Disk left, forecast A": "six hours' forecast; a container may hide the disk",
    "restaurant-slo, Budget gone in A": "only while a budget burns too fast",
    "restaurant-cache, Answered by B": "no stale value is asked for here",
    "restaurant-cache, Evicted and waited B": "only where two ask for one value at once",
    "restaurant-database, annotation Alerts": "only while an alert fires",
    "restaurant-alerts, Firing over time A": "only while an alert fires",
}
MAY_BE_EMPTY |= {
    f"{uid}, annotation {name}": "only at a deploy, or while an alert fires"
    for uid in DASHBOARDS
    for name in ("Deploys", "Alerts")
}
"""What the example app under test cannot show, and why. All else must have an answer."""

SENSIBLE = {
    "percentunit": (-1e3, 1.001),  # a budget may be overdrawn; no share is above 1
    "s": (0, 12),
    "dtdurations": (0, 40 * 86400),
    "reqps": (0, 1000),
    "ops": (0, 5000),
    "cps": (0, 1000),
    "pps": (0, 1e6),
    "Bps": (0, 1e10),
    "none": (-1, 1e6),
    "short": (0, 1e6),
    "bytes": (-1e15, 1e13),
}
"""What a value of each unit may be here, so that milliseconds for seconds, or percents for shares, are noticed."""


class Shop:
    """App, Redis and Prometheus, under traffic until it is closed."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        redis = RedisServer(folder, "--maxmemory", "64mb")
        stack.callback(redis.stop)
        env = {
            "DATABASE_URL": f"sqlite:///{folder / 'restaurant.sqlite3'}",
            "SHOP_REDIS_URL": redis.url,
            "OTEL_TRACES_EXPORTER": "console",
            "OTEL_RESOURCE_ATTRIBUTES": "service.version=1.4.0",
        }
        asyncio.run(_fill(env))
        app = stack.enter_context(
            servers.start("uvicorn", "tests.dashboards.shop:app", log=folder / "app.log", env=env, workers=2)
        )
        made = files(MINUTES_ARE_SECONDS)
        rules = {
            name.removeprefix("prometheus/"): text for name, text in made.items() if "prometheus/" in name
        }
        self.prometheus: Prometheus = prometheuses.start(
            [f"127.0.0.1:{app.port}"], folder / "prometheus", {"job_name": "shop"}, rules
        )
        stack.callback(self.prometheus.stop)
        stopped = threading.Event()
        traffic = threading.Thread(target=lambda: asyncio.run(_traffic(app.url, redis, stopped)))
        traffic.start()
        stack.callback(traffic.join)
        stack.callback(stopped.set)
        self.prometheus.scrapes(SCRAPES, within=90)
        self._client = stack.enter_context(http.client(self.prometheus.url))

    def ask(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """An instant query's (labels, value), NaN left out. There are hundreds: over one connection."""
        answer = self._client.post("/api/v1/query", data={"query": expr}).json()
        assert answer["status"] == "success", f"{expr}: {answer}"
        assert answer["data"]["resultType"] == "vector", expr
        found = [(item["metric"], float(item["value"][1])) for item in answer["data"]["result"]]
        return [(labels, value) for labels, value in found if not math.isnan(value)]


async def _fill(env: dict[str, str]) -> None:
    engine = make_engine(env)
    try:
        await seed(engine)
    finally:
        await engine.dispose()


async def _traffic(url: str, redis: RedisServer, stopped: threading.Event) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.call_later(SCRAPES / 3, redis.hang)
    loop.call_later(SCRAPES / 2, redis.go_on)

    async def end() -> None:
        await asyncio.to_thread(stopped.wait)
        stop.set()

    await asyncio.gather(
        Traffic(url, 8).run(stop), _ask_the_cache(url, stop), _make_every_mistake(url, stop), end()
    )


async def _ask_the_cache(url: str, stop: asyncio.Event) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as client:
        number = 0
        while not stop.is_set():
            number += 1  # more days than the memory tier has room for, the first ones again and again
            with contextlib.suppress(httpx.TransportError):
                day = number % 7 if number % 2 else number
                await client.get(f"/specials/{number % 4}", params={"day": day})
                await client.get("/rates/EUR")
            await asyncio.sleep(0.04)


async def _make_every_mistake(url: str, stop: asyncio.Event) -> None:
    """What the traffic does now and then is done in every interval: payments that fail, N+1, a stream that is left."""
    async with httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as client:
        number = 0
        while not stop.is_set():
            number += 1
            client.headers["traceparent"] = f"00-{number:032x}-{number:016x}-01"
            with contextlib.suppress(httpx.TransportError):
                await client.post(f"/orders/{number}/payment")
                await client.get("/reports/roster/1?date=2026-01-05")
                await client.get("/reports/bestsellers")
                async with client.stream("GET", "/kitchen/1/events") as response:
                    await anext(response.aiter_bytes(), b"")
            await asyncio.sleep(0.2)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with contextlib.ExitStack() as stack:
        yield Shop(tmp_path_factory.mktemp("shop"), stack)


def _asked(asked: Asked, **values: str) -> str:
    """As the dashboard asks, in the time of this test: ranges of hours are ranges of seconds."""
    return filled(asked, **values).replace("[15m]", "[20s]")


def _asked_again(shop: Shop, asked: Asked) -> list[float]:
    """Gauges are gone for a moment where a scrape has not been answered in time, as on a busy machine."""
    with contextlib.suppress(AssertionError):
        return eventually(lambda: [value for _, value in shop.ask(_asked(asked))], within=15, every=0.5)
    return []


def test_no_panel_is_empty_and_no_unit_is_wrong_by_a_thousand(shop: Shop) -> None:
    empty, odd = [], []
    for asked in queries():
        found = [value for _, value in shop.ask(_asked(asked))]
        if not found and str(asked) not in MAY_BE_EMPTY:
            found = _asked_again(shop, asked)
            empty += [] if found else [f"{asked}: {asked.expr}"]
        low, high = SENSIBLE[unit(asked)] if asked.panel else (-math.inf, math.inf)
        odd += [f"{asked}: {value} {unit(asked)}" for value in found if not low <= value <= high]
    assert not empty, "\n".join(empty)
    assert not odd, "\n".join(odd)
    assert set(MAY_BE_EMPTY) <= {str(asked) for asked in queries()}, "a name that no panel has any more"


def test_variables_offer_choices_and_a_choice_narrows(shop: Shop) -> None:
    for uid, dashboard in DASHBOARDS.items():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                series, label = label_values(variable)
                asked = _asked(Asked(uid, variable["name"], series))
                eventually(
                    lambda asked=asked, label=label: (  # type: ignore[misc]
                        {labels.get(label) for labels, _ in shop.ask(asked)} - {None, ""}
                    ),
                    what=f"{uid}: {variable['name']}",
                )
    for asked in queries():
        if asked.panel and "ALERTS" not in asked.expr and "vector(0)" not in asked.expr:
            assert not shop.ask(_asked(asked, job="no such job")), f"{asked} does not look at $job"


def test_tables_join_on_labels_that_their_queries_have(shop: Shop) -> None:
    for asked in queries():
        if asked.panel and asked.panel["type"] == "table":
            [kept] = [each for each in asked.panel["transformations"] if each["id"] == "filterFieldsByName"]
            names = {name for name in kept["options"]["include"]["names"] if not name.startswith("Value")}
            for labels, _ in shop.ask(_asked(asked)):
                assert set(labels) - {"__name__"} <= names, str(asked)


def test_exemplars_lead_from_the_panel_to_traces(shop: Shop) -> None:
    [asked] = [each for each in queries() if each.target and each.target.get("exemplar")]
    bucket = filled(asked).split("rate(")[1].split("[")[0]
    found = shop.prometheus.exemplars(bucket)
    assert found
    assert all(len(each["labels"]["trace_id"]) == 32 for each in found)
