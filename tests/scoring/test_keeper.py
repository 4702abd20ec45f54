"""The score in the app: from the cells, over the right windows, exported, and none of the app's business."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from restaurant_otel import catalog, instrument
from restaurant_otel.catalog import DEFAULT_OBJECTIVES
from restaurant_otel.metrics import folder
from restaurant_otel.metrics.group import Group
from restaurant_otel.metrics.points import NumberPoint
from restaurant_otel.metrics.registry import Registry
from restaurant_otel.scorecard import memory
from restaurant_otel.scorecard.cells import between, read
from restaurant_otel.scorecard.evidence import quantile
from restaurant_otel.scorecard.files import Goals
from restaurant_otel.scorecard.formula import Scorecard
from restaurant_otel.scorecard.keeper import Keeper
from restaurant_otel.scoring import recommend, score
from tests.support.asgi import asgi_call


class App:
    """A registry, a keeper, and a clock that the test turns."""

    def __init__(self, **changes: Any) -> None:
        self.registry = Registry()
        self.now = self.registry.start_time
        self.keeper = Keeper(Goals(), self.registry, clock=lambda: self.now)

    def requests(
        self,
        count: int,
        seconds: float = 0.1,
        route: str = "/menu",
        error: str | None = None,
        method: str = "GET",
    ) -> None:
        cell = self.registry.histogram(catalog.HTTP_SERVER_REQUEST_DURATION).bind(
            method, route, 500 if error else 200, "http", "1.1", error
        )
        for _ in range(count):
            cell.record(seconds)

    def after(self, seconds: float) -> Scorecard:
        self.now += seconds
        return self.keeper.look()

    def exported(self, metric: catalog.Metric) -> dict[tuple[Any, ...], float]:
        return {
            point.values: point.value
            for family in self.registry.collect()
            if family.metric is metric
            for point in family.points
            if isinstance(point, NumberPoint)
        }


@pytest.fixture
def app() -> App:
    return App()


def test_the_first_look_counts_from_the_beginning(app: App) -> None:
    app.requests(99)
    app.requests(1, error="KeyError")
    card = app.after(30)
    assert card["errors"].value == pytest.approx(0.01)
    assert card["availability"].value == pytest.approx(0.99)
    assert card["api"].value == pytest.approx(0.1)


def test_errors_are_of_five_minutes_and_availability_of_an_hour(app: App) -> None:
    app.requests(100, error="KeyError")
    app.after(30)
    for _ in range(10):
        app.requests(100)
        card = app.after(31)
    assert card["errors"].value == 0
    assert card["availability"].value == pytest.approx(1 - 100 / 1100)
    for _ in range(120):
        app.requests(10)
        card = app.after(31)
    assert card["availability"].value == 1


def test_a_worker_that_joins_later_does_not_take_the_past_for_the_present() -> None:
    app = App()
    app.requests(100, error="KeyError")
    app.now += 86_400
    joined = Keeper(Goals(), app.registry, clock=lambda: app.now)
    assert joined.look().total is None  # nothing has happened since it looked first
    app.requests(100)
    app.now += 30
    assert joined.look()["errors"].value == 0


def test_quiet_times_have_no_score_and_export_none(app: App) -> None:
    app.requests(200)
    assert app.after(30).total == 100
    assert app.exported(catalog.PERFORMANCE_SCORE) == {(): 100}
    assert app.exported(catalog.PERFORMANCE_COMPONENT_WEIGHT)[("api",)] == 20
    for _ in range(12):
        card = app.after(30)
    assert card.total is None
    assert app.exported(catalog.PERFORMANCE_SCORE) == {}
    assert app.exported(catalog.PERFORMANCE_COVERAGE) == {(): 0.2}  # availability, of the hour
    assert ("api",) not in app.exported(catalog.PERFORMANCE_COMPONENT_VALUE)


def test_pages_are_judged_by_their_slowest_tenth_and_only_they(app: App) -> None:
    app.registry.gauge(catalog.HTTP_SERVER_PAGE).bind("/menu").set(1)
    app.requests(80, 0.1)
    app.requests(20, 6.0)
    app.requests(500, 9.0, route="/export")
    app.requests(500, 9.0, method="POST")
    card = app.after(30)
    assert card["page"].value == pytest.approx(6.25)  # in the bucket from 5 to 7.5, halfway


def test_lookups_statements_and_readings_count(app: App) -> None:
    for metric, count in ((catalog.CACHE_HITS, 60), (catalog.CACHE_STALE, 10), (catalog.CACHE_MISSES, 30)):
        app.registry.counter(metric).bind("menu", "redis", "dish").add(count)
    values = [None] * (len(catalog.DB_CLIENT_OPERATION_DURATION.attributes) - 2)
    statement = app.registry.histogram(catalog.DB_CLIENT_OPERATION_DURATION).bind("sqlite", "SELECT", *values)
    for seconds in (0.1, 0.3):
        statement.record(seconds)
    app.registry.gauge(catalog.CPU_UTILIZATION).bind().set(0.4)
    app.after(30)
    app.registry.gauge(catalog.CPU_UTILIZATION).bind().set(0.6)
    app.registry.gauge(catalog.MEMORY_UTILIZATION).bind().set(0.8)
    card = app.after(30)
    found = {each.name: each.value for each in card.components if each.value is not None}
    assert found == pytest.approx({"cache": 0.7, "database": 0.2, "cpu": 0.5, "memory": 0.8})


def test_the_evidence_is_what_weighs_most(app: App) -> None:
    app.requests(100, 0.01, route="/fast")
    app.requests(10, 1.2, route="/slow")
    app.requests(2, 3.2, route="/rare", error="ValueError")
    for group, hits, misses in (("dish", 50, 50), ("price", 99, 1)):
        app.registry.counter(catalog.CACHE_HITS).bind("menu", "redis", group).add(hits)
        app.registry.counter(catalog.CACHE_MISSES).bind("menu", "redis", group).add(misses)
    app.now += 30
    facts = app.keeper.snapshot().facts
    assert [fact.subject for fact in facts["slow_routes"]] == ["/slow", "/rare"]
    slow = facts["slow_routes"][0]
    assert (slow.value, slow.relief) == (pytest.approx(1.2), pytest.approx(10 / 112))
    assert [(fact.subject, fact.value) for fact in facts["failing_routes"]] == [("/rare", 1.0)]
    assert [fact.subject for fact in facts["cache_groups"]] == ["menu dish"]


def test_statements_and_repetitions_are_named_in_what_is_recommended(app: App) -> None:
    """By summary and by relationship; those past the metrics' limit of series have no name to go by."""
    app.registry = Registry(limit=2)
    app.keeper = Keeper(Goals(), app.registry, clock=lambda: app.now)
    app.requests(100)
    operations = catalog.DB_CLIENT_OPERATION_DURATION
    every = app.registry.histogram(operations).bind(*[None] * len(operations.attributes))
    for summary, route, seconds in (
        ("SELECT orders", "/search", 0.9),
        ("SELECT users", "/roster", 0.2),
        ("SELECT menu", "/menu", 0.5),
    ):
        every.record(seconds)
        app.registry.histogram(catalog.DB_QUERY_DURATION).bind("f" + route, summary, route).record(seconds)
        app.registry.counter(catalog.DB_N_PLUS_ONE).bind(route, "Schedule.user").add(len(route))
    app.now += 30
    snapshot = app.keeper.snapshot()
    found = recommend(score(snapshot), snapshot)
    named = {each.advice.name: [fact.subject for fact in each.evidence] for each in found}
    assert named["slow-statements"] == ["SELECT orders", "other", "SELECT users"]
    assert named["n-plus-one"] == ["/search Schedule.user", "/roster Schedule.user"]


def test_the_trend_is_of_a_day_at_most(app: App) -> None:
    for _ in range(400):
        app.requests(50)
        app.after(300)
    trend = app.keeper.trend()
    assert len(trend) == 288
    assert {total for _, total in trend} == {100}
    assert trend[-1][0] - trend[0][0] == pytest.approx(287 * 300)


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([0, 0, 0], 0.9, None),
        ([10, 0, 0], 0.9, 0.9),
        ([0, 10, 0], 0.5, 1.5),
        ([0, 0, 5], 0.5, 2.0),
        ([5, 5, 0], 0.5, 1.0),
    ],
)
def test_quantiles_are_those_of_prometheus(counts: list[float], share: float, expected: float | None) -> None:
    found = quantile(share, counts, (1.0, 2.0))
    assert found != found if expected is None else found == pytest.approx(expected)


class Workers:
    """Two workers' keepers, of one app's numbers, with a folder that they share and a clock that the test turns."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.group = Group("named-shop", str(root))
        with (
            folder.base(str(root), create=True) as parent,
            folder.inner(parent, self.group.name, create=True),
        ):
            pass
        monkeypatch.setattr(Registry, "group", property(lambda _: self.group))
        self.app = App()
        self.first, self.second = (
            Keeper(Goals(), self.app.registry, clock=lambda: self.app.now) for _ in range(2)
        )

    def after(self, seconds: float) -> None:
        """Both have their turn; the first has it first."""
        self.app.now += seconds
        self.first.turn()
        self.second.turn()

    @property
    def files(self) -> Path:
        [place] = self.group_folder.iterdir()
        return place

    @property
    def group_folder(self) -> Path:
        [place] = Path(self.group.root).iterdir()
        return place


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    found = Workers(tmp_path, monkeypatch)
    yield found
    found.first.stop()
    found.second.stop()


def test_one_worker_looks_and_each_can_answer(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Keeper] = []
    look = Keeper.look
    monkeypatch.setattr(Keeper, "look", lambda self: (looks.append(self), look(self))[1])
    workers.app.requests(100, error="KeyError")
    for _ in range(12):
        workers.after(30)
        workers.app.requests(100)
    assert looks == [workers.first] * 12
    workers.app.now += 1
    first, second = workers.first.current(), workers.second.current()
    assert first == second
    assert second["errors"].value == 0
    assert second["availability"].value == pytest.approx(1 - 100 / 1300)
    assert workers.second.trend() == workers.first.trend() != []


def test_the_next_goes_on_where_one_has_died(workers: Workers) -> None:
    workers.app.requests(100, error="KeyError")
    for _ in range(20):
        workers.after(30)
        workers.app.requests(100)
    trend = workers.first.trend()
    workers.first.stop()  # as the kernel does for one that is killed: its gauges are gone, its lock is free
    assert workers.app.exported(catalog.PERFORMANCE_SCORE) == {}
    workers.app.now += 30
    workers.second.turn()
    assert workers.app.exported(catalog.PERFORMANCE_SCORE) != {}
    card = workers.second.current()
    assert card["errors"].value == 0
    assert card["availability"].value == pytest.approx(1 - 100 / 2100)
    assert workers.second.trend()[: len(trend)] == trend


def test_what_is_not_readable_or_of_another_life_is_not_remembered(workers: Workers) -> None:
    workers.app.requests(100)
    workers.after(30)
    for file in workers.files.glob("score-*.json"):
        file.write_bytes(b'{"at": ' if file.stem[-1] in "02468" else b'{"at": 1, "hour": 7}')
    assert memory.load(workers.group) == memory.Memory()
    assert workers.second.current()["errors"].value == 0
    workers.after(30)
    assert workers.second.current() == workers.first.current()
    workers.first.stop()
    workers.app.now += 7200
    workers.second.turn()
    assert workers.second.current().total is None  # of what happened meanwhile nobody knows when


def test_what_is_kept_comes_back_as_it_was(workers: Workers) -> None:
    workers.app.requests(3, 0.2, route="/a")
    workers.app.requests(2, 0.2, error="KeyError")
    workers.app.registry.gauge(catalog.HTTP_SERVER_PAGE).bind("/a").set(1)
    workers.app.registry.gauge(catalog.CPU_UTILIZATION).bind().set(0.4)
    totals = read(workers.app.registry.iter_families(), 30.0)
    memory.save(workers.group, 3, totals, [(1.0, 2.0, 3.0)], [(4.0, 5.0)])
    found = memory.load(workers.group)
    assert (found.hour, found.trend) == ([(1.0, 2.0, 3.0)], [(4.0, 5.0)])
    [again] = found.past
    assert between(again, None, (5, 2), DEFAULT_OBJECTIVES) == between(
        totals, None, (5, 2), DEFAULT_OBJECTIVES
    )
    assert (again.at, again.cpu, again.page_routes) == (30.0, 0.4, {"/a"})


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def test_the_app_is_asked_for_nothing_when_the_score_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Goals] = []
    monkeypatch.setattr("restaurant_otel.scorecard.keeper.keep", kept.append)
    asgi_call(instrument(_hello, score=False))
    assert kept == []
    asgi_call(instrument(_hello, objectives="api.objective=0.3"))
    assert [goals.objectives["api"].objective for goals in kept] == [0.3]
    assert DEFAULT_OBJECTIVES["api"].objective == 0.2
