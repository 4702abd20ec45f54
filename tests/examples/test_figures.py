"""Figures read from a scrape mean what Prometheus would make of the same numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, exposition
from prometheus_client.openmetrics import exposition as openmetrics

from examples.restaurant import show
from examples.restaurant.figures import NO_ROUTE, Figures, Tally, read

BOUNDS = (0.1, 0.2, 1.0)


class App:
    """Stands in for /metrics: the app's metric names, through Prometheus's own client."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "http_server_request_duration_seconds",
            "",
            ["http_route", "http_request_method", "http_response_status_code"],
            buckets=BOUNDS,
            registry=self.registry,
        )
        self.queries = Histogram(
            "db_client_operation_duration_seconds", "", ["http_route"], buckets=BOUNDS, registry=self.registry
        )
        self.lookups = {
            what: Counter(f"restaurant_cache_{what}", "", ["group"], registry=self.registry)
            for what in ("hits", "stale", "misses")
        }
        self.active = Gauge("http_server_active_requests", "", ["method"], registry=self.registry)

    def serve(self, route: str, seconds: float, status: int = 200, queries: int = 0) -> None:
        self.requests.labels(route, "GET", str(status)).observe(seconds)
        for _ in range(queries):
            self.queries.labels(route).observe(0.01)

    def figures(self, at: float = 0.0) -> Figures:
        text = str(exposition.generate_latest(self.registry), "utf-8")
        assert read(text, exposition.CONTENT_TYPE_LATEST, at) == read(
            openmetrics.generate_latest(self.registry).decode(),  # type: ignore[no-untyped-call]
            openmetrics.CONTENT_TYPE_LATEST,
            at,
        )
        return read(text, exposition.CONTENT_TYPE_LATEST, at)


def test_stale_answers_are_answers_and_no_look_up_has_no_ratio() -> None:
    app = App()
    assert math.isnan(app.figures().hit_ratio)
    for what, count in (("hits", 2), ("stale", 1), ("misses", 1)):
        for group in ("menu", "user"):
            app.lookups[what].labels(group).inc(count)
    before = app.figures()
    assert before.hit_ratio == pytest.approx(0.75)
    assert "cache: answered 75.0 % of its look-ups" not in show.summary(before)  # nothing was asked
    app.serve("/menu", 0.01)
    assert "cache: answered 75.0 % of its look-ups" in show.summary(app.figures())
    assert math.isnan((app.figures() - before).hit_ratio)


def test_requests_add_up_by_route_whatever_else_tells_them_apart() -> None:
    app = App()
    app.serve("/a", 0.05)
    app.serve("/a", 0.15, status=404)
    app.serve("/a", 0.5, status=503)
    app.serve("", 0.01, status=404)
    app.active.labels("GET").inc(2)
    app.active.labels("POST").inc()
    figures = app.figures()
    a = figures.requests["/a"]
    assert (a.count, a.errors) == (3, 1)
    assert a.seconds == pytest.approx(0.7)
    assert a.buckets == {0.1: 1, 0.2: 2, 1.0: 3, math.inf: 3}
    assert figures.requests[NO_ROUTE].count == 1
    assert figures.active == 3
    assert figures.all_requests.count == 4


def test_a_difference_tells_what_happened_between_and_knows_new_routes() -> None:
    app = App()
    app.serve("/a", 0.05)
    before = app.figures(at=10.0)
    app.serve("/a", 0.15, status=500)
    app.serve("/b", 0.15, queries=7)
    between = app.figures(at=12.0) - before
    assert between.at == 2.0
    assert (between.requests["/a"].count, between.requests["/a"].errors) == (1, 1)
    assert between.requests["/a"].mean == pytest.approx(0.15)
    assert between.queries_each("/b") == 7
    assert between.queries_each("/a") == 0


def test_a_quantile_is_read_between_bounds_as_histogram_quantile_does() -> None:
    tally = Tally(count=10, buckets={0.1: 5.0, 0.2: 10.0, 1.0: 10.0, math.inf: 10.0})
    assert tally.quantile(0.5) == pytest.approx(0.1)
    assert tally.quantile(0.75) == pytest.approx(0.15)
    assert Tally(count=1, buckets={0.1: 0.0, math.inf: 1.0}).quantile(0.95) == 0.1
    assert math.isnan(Tally().quantile(0.95))


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_a_quantile_lies_in_the_bucket_of_the_measurement_it_stands_for(
    values: list[float], share: float
) -> None:
    buckets = {bound: float(sum(v <= bound for v in values)) for bound in (*BOUNDS, math.inf)}
    exact = sorted(values)[max(math.ceil(share * len(values) - 1e-9), 1) - 1]
    upper = min(bound for bound in BOUNDS if exact <= bound)
    lower = max((bound for bound in BOUNDS if bound < upper), default=0.0)
    assert lower - 1e-9 <= Tally(len(values), buckets=buckets).quantile(share) <= upper + 1e-9


def test_the_summary_names_what_stands_out() -> None:
    app = App()
    for _ in range(3):
        app.serve("/fine", 0.01, queries=1)
        app.serve("/hungry", 0.05, queries=30)
        app.serve("/slow", 0.9)
        app.serve("/broken", 0.01, status=500)
    text = "\n".join(show.summary(app.figures(at=1.0)))
    assert "most queries for one request: /hungry (30.0)" in text
    assert "slowest on average: /slow (900 ms)" in text
    assert "most errors: /broken (100.0 % of its requests)" in text


def test_an_idle_app_has_figures_too() -> None:
    assert show.line(App().figures(at=1.0)).startswith("   0.0 requests/s  - errors")
    assert show.summary(App().figures(at=1.0))[-1] == "nothing was asked"


def test_the_live_screen_shows_the_routes_that_take_most_time() -> None:
    app = App()
    for number in range(9):
        app.serve(f"/{number}", number / 10)
    rows = show.live(app.figures(at=1.0), 5.0, 20.0)[3:]
    assert [row.split()[0] for row in rows[:-2]] == ["/8", "/7", "/6", "/5", "/4", "/3"]
    assert rows[-1] == "━" * 10 + "─" * 30 + " 5 of 20 s"
    assert show.live(app.figures(at=1.0), 5.0, None)[-1] == "Ctrl-C ends it"
