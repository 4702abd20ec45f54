"""`restaurant-otel top`: what it reads is what the app counted, and it fits any terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from restaurant_otel import catalog
from restaurant_otel.administration import figures
from restaurant_otel.administration.figures import EndpointFigures, QueryFigures
from restaurant_otel.cli import main
from restaurant_otel.live import text
from restaurant_otel.live.draw import View, draw, press, sorted_routes
from restaurant_otel.live.screen import CacheLook, Component, Look
from restaurant_otel.metrics.exposition import negotiate, render
from restaurant_otel.metrics.registry import Registry
from tests.admin.tokens import ROOT, token
from tests.support.servers import Server

PROGRAM = str(Path(sys.executable).with_name("restaurant-otel"))


def route(name: str, **changes: object) -> EndpointFigures:
    given: dict[str, object] = {
        "count": 10,
        "recent": 5,
        "rate": 1.5,
        "error_ratio": 0.0,
        "mean": 0.1,
        "p50": 0.1,
    }
    given |= {"p95": 0.2, "p99": 0.3, "slowest_within": 0.5, **changes}
    return EndpointFigures(route=name, method="GET", **given)  # type: ignore[arg-type]


def look(routes: list[EndpointFigures], service: str = "shop", caches: int = 1) -> Look:
    return Look(
        service=service, at=0.0, window_seconds=60.0, workers=2, score=87.5, coverage=0.9,
        components=[Component(one.component, 90.0) for one in catalog.COMPONENTS],
        request_rate=12.0, error_ratio=0.01, mean=0.1, p95=0.4, active_requests=3.0, query_rate=40.0,
        query_mean=0.01, cpu=0.3, memory=0.5, routes=routes,
        queries=[QueryFigures(None, f"SELECT t{n}", 10, 1.0, 0.1, 0.2, []) for n in range(9)],
        caches=[CacheLook(f"menu{n}", 0.9, 100, "closed") for n in range(caches)],
    )  # fmt: skip


def test_the_text_of_metrics_says_what_the_registry_said() -> None:
    registry = Registry()
    requests = registry.histogram(catalog.HTTP_SERVER_REQUEST_DURATION)
    requests.bind("GET", "/a", 200, "http", "1.1", None).record(0.03)
    requests.bind("GET", "/a", 500, "http", "1.1", "500").record(3.0)
    requests.bind("POST", None, None, "http", None, "RuntimeError").record(99.0)
    registry.histogram(catalog.DB_CLIENT_OPERATION_DURATION).bind(
        *[None] * len(catalog.DB_CLIENT_OPERATION_DURATION.attributes)
    ).record(0.2)
    registry.counter(catalog.CACHE_HITS).bind("menu", "memory", 'g"\\\n').add(7)
    families = list(registry.iter_families())
    said = b"".join(render(iter(families), negotiate("text/plain"))).decode()
    assert figures.totals(text.families(said), 0.0) == figures.totals(families, 0.0)


_TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=()), max_size=40)


@examples(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(60, 260),
    st.integers(12, 90),
    st.lists(_TEXTS, max_size=80),
    _TEXTS,
    _TEXTS,
    st.booleans(),
    st.integers(0, 4),
)
def test_a_screen_has_as_many_lines_as_there_are_rows_and_none_is_too_wide(
    columns: int, rows: int, names: list[str], service: str, problem: str, typing: bool, caches: int
) -> None:
    view = View(problem=problem.replace("\n", " "), typing=typing, filter="")
    for shown in (look([route(name) for name in names], service, caches), None):
        lines = draw(shown, view, columns, rows)
        assert len(lines) == rows
        assert all(line.cell_len <= columns for line in lines)
        assert not any(character in line.plain for line in lines for character in "\n\r\x1b")


def test_routes_are_seen_at_80_by_24_and_queries_beside_them_at_200_by_60() -> None:
    shown = look([route(f"/r{n}", p95=n / 100) for n in range(30)])
    small = "\n".join(line.plain for line in draw(shown, View(), 80, 24))
    assert "GET /r29" in small
    assert "SELECT t0" in small
    assert "menu0" in small
    large = [line.plain for line in draw(shown, View(), 200, 60)]
    assert any("GET /r29" in line and "SELECT t0" in line for line in large)


def test_figures_are_told_whole_and_what_is_wrong_comes_before_the_name() -> None:
    for columns in (60, 72, 78, 80, 200):
        lines = [line.plain for line in draw(look([]), View(), columns, 40)]
        figures = "\n".join(line for line in lines if "requests" in line or "queries" in line)
        assert re.search(r"requests 12.0/s   errors 1.0%   mean", figures)
        assert re.search(r"^(.*   )?queries 40.0/s   mean 10.0 ms", figures, re.MULTILINE)
        assert "…" not in figures
    problem = "http://shop.example.org:8000/metrics does not answer: Connection refused"
    away = draw(look([], service="a-service-of-a-long-name"), View(problem=problem), 80, 24)
    assert away[0].plain.strip() == problem
    away = draw(look([], service="shop"), View(problem=problem), 80, 24)
    assert away[0].plain.split() == ["shop", *problem.split()]


def test_what_is_wrong_from_the_start_is_told_whole() -> None:
    problem = "http://shop.example.org:8000/-/performance/score answers 401: it wants a token: --token"
    told = [line.plain for line in draw(None, View(problem=problem), 60, 24)]
    assert " ".join(told[:2]) == problem


def test_long_routes_are_told_apart_by_their_ends() -> None:
    long = "/organisations/{organisation_id}/departments/{department_id}/sections/{section_id}/"
    shown = look([route(f"{long}{n}") for n in range(5)])
    small = "\n".join(line.plain for line in draw(shown, View(), 80, 24))
    assert all(f"/{n}\n" in small for n in range(5))
    assert small.count("GET /organ") == 5


def test_without_queries_routes_have_all_the_room() -> None:
    shown = look([route(f"/r{n}") for n in range(90)], caches=0)
    shown.queries = []
    for columns, rows in ((80, 24), (200, 60)):
        lines = [line.plain for line in draw(shown, View(), columns, rows)]
        assert not any("none yet" in line or "calls" in line for line in lines)
        assert "GET /r" in lines[-2]


def test_keys_sort_turn_and_filter() -> None:
    shown = look(
        [route("/a", count=1, p95=0.9), route("/b", count=3, p95=0.1), route("/ab", count=2, p95=0.5)]
    )
    view = View()
    names = lambda: [one.route for one in sorted_routes(shown, view)]  # noqa: E731
    assert names() == ["/a", "/ab", "/b"]
    assert press(view, "c")
    assert names() == ["/b", "/ab", "/a"]
    press(view, "c")
    assert names() == ["/a", "/ab", "/b"]
    for key in "/b\r":
        press(view, key)
    assert set(names()) == {"/b", "/ab"}
    press(view, "\x1b")
    press(view, "n")
    assert len(names()) == 3
    assert not press(view, "q")


def test_it_reads_metrics_and_the_admin_api_alike(
    serve: Callable[..., Server], capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve("uvicorn", "tests.admin.app:app")
    for name in ("ada", "bob"):
        server.get(f"/hello/{name}")
    assert main(["top", server.url, "--json", "--interval", "0.2"]) == 0
    by_metrics = json.loads(capsys.readouterr().out)
    credential = ["--admin", "--token", token(scope="performance:read")]
    assert main(["top", server.url + ROOT, *credential, "--json", "--interval", "0.2"]) == 0
    by_api = json.loads(capsys.readouterr().out)
    for found in (by_metrics, by_api):
        (hello,) = [one for one in found["routes"] if one["route"] == "/hello/{name}"]
        assert hello["count"] == 2
        assert found["workers"] == 1
    assert {one["name"] for one in by_metrics["components"]} == {one["name"] for one in by_api["components"]}
    assert main(["top", server.url, "--once", "--interval", "0.2", "--filter", "hello"]) == 0
    assert "GET /hello/{name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["http://127.0.0.1:1"], "does not answer"),
        (["nonsense"], "no URL"),
        (["http://127.0.0.1:1", "--sort", "luck"], "one of"),
    ],
)
def test_what_cannot_be_shown_is_told_in_a_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["top", *arguments, "--once"]) in (1, 2)
    assert says in capsys.readouterr().err


def test_in_a_terminal_it_goes_on_until_q(serve: Callable[..., Server]) -> None:
    server = serve("uvicorn", "tests.admin.app:app")
    server.get("/hello/ada")
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    running = subprocess.Popen(
        [PROGRAM, "top", server.url, "--interval", "0.3"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environ,
    )
    try:
        seen, deadline = b"", time.monotonic() + 30
        while b"/hello/{name}" not in seen and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.5)[0]:
                seen += os.read(ours, 65_536)
        assert b"/hello/{name}" in seen
        os.write(ours, b"q")
        while running.poll() is None and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.2)[0]:
                os.read(ours, 65_536)
        assert running.wait(timeout=10) == 0
    finally:
        running.kill()
        os.close(ours)
        os.close(theirs)
