"""The admin API on a real server: rights on every route, answers, and what hostile requests get."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from restaurant_otel.admin import OPERATIONS
from restaurant_otel.auth import Right
from restaurant_otel.cache import Cache
from tests.admin.conftest import client
from tests.admin.tokens import ALL, ROOT, SECRET, by_hand, claims, token
from tests.cache.redises import RedisServer
from tests.support import http
from tests.support.servers import Server
from tests.support.wait import eventually

JOB = "0" * 13 + "-" + "0" * 16


def path_of(operation: Any) -> str:
    return operation.path.replace("{id}", JOB).replace("{fingerprint}", "none")


def ask(api: httpx.Client, operation: Any) -> httpx.Response:
    body = {} if operation.body is not None else None
    # Clearing and advising do something: they are asked for what there is not.
    query = {"name": "nonesuch"} if operation.id == "cache.clear" else None
    body = {"name": "nonesuch"} if operation.id == "cache.clear.post" else body
    return api.request(operation.method, path_of(operation), json=body, params=query)


AUDIT = r"^.*?(\{\"when\".*\})$"
"""A line of the audit log."""


def audited(server: Server, who: str) -> list[dict[str, Any]]:
    lines = re.findall(AUDIT, server.output(), re.MULTILINE)
    return [line for line in map(json.loads, lines) if line["who"] == who]


# --- who may do what ---------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.id)
def test_every_operation_needs_exactly_its_right(served: Server, operation: Any) -> None:
    for right in Right:
        with client(served, right.value, sub=f"only-{right.name}") as api:
            answer = ask(api, operation)
        if operation.right in (None, right):
            assert answer.status_code not in (401, 403, 500), answer.text
        else:
            assert answer.status_code == 403
            assert operation.right.value in answer.headers["www-authenticate"]
    with http.client(served.url + ROOT) as nobody:
        answer = ask(nobody, operation)
        assert (answer.status_code == 401) == (operation.right is not None)
        if operation.right is not None:
            assert answer.headers["www-authenticate"] == 'Bearer realm="restaurant-otel"'
            assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("scope", ["", "openid", "performance:*"])
def test_a_token_without_rights_may_do_nothing(served: Server, scope: str) -> None:
    with client(served, scope, sub="powerless") as api:
        for operation in OPERATIONS:
            assert ask(api, operation).status_code == (403 if operation.right is not None else 200)


def test_a_refusal_says_no_more_than_that_and_one_line_says_why(
    serve: Callable[..., Server], redis_server: RedisServer
) -> None:
    server = serve("uvicorn", "tests.admin.app:app")
    bad = {
        "signature": token("another secret of thirty-two bytes!"),
        "expired": token(exp=int(time.time()) - 3600),
        "audience": token(aud="else"),
        "algorithm": by_hand({"alg": "none"}, claims(), None),
        "malformed": "gibberish",
        "too_long": "A" * 9000,
    }
    answers = [
        http.get(f"{server.url}{ROOT}/score", headers={"Authorization": f"Bearer {each}"})
        for each in bad.values()
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    lines = re.findall(r"^.*?(\{\"when\".*\})$", server.output(), re.MULTILINE)
    assert [json.loads(line)["reason"] for line in lines] == list(bad)
    assert all(json.loads(line)["outcome"] == "refused" for line in lines)


def test_a_flood_of_failures_is_refused_with_one_line(serve: Callable[..., Server]) -> None:
    server = serve("uvicorn", "tests.admin.app:app")
    statuses = [
        http.get(f"{server.url}{ROOT}/score", headers={"Authorization": "Bearer x"}).status_code
        for _ in range(30)
    ]
    assert statuses[:10] == [401] * 10
    assert statuses.count(429) >= 15
    limited = [line for line in server.output().splitlines() if '"too_many_failures"' in line]
    assert len(limited) == 1
    assert http.get(f"{server.url}{ROOT}/score").headers["retry-after"].isdigit()
    scrape = server.scrape()
    assert scrape.total("restaurant_admin_requests_total", restaurant_admin_outcome="limited") >= 15


def test_what_is_done_is_counted_and_written_down(
    served: Server, everything: httpx.Client, added: Any
) -> None:
    with client(served, sub="auditor") as api:
        api.delete("/cache", params={"name": "nonesuch", "pattern": "a\u2028b*"})
    (line,) = audited(served, "auditor")
    assert line["what"] == "cache.clear"
    assert line["with"]["pattern"] == "a\u2028b*"
    assert line["outcome"] == "invalid"
    assert line["address"] == "127.0.0.1"
    total = served.scrape().total(
        "restaurant_admin_requests_total",
        restaurant_admin_operation="cache.clear",
        restaurant_admin_outcome="invalid",
    )
    assert total >= 1


# --- answers -----------------------------------------------------------------------------------------


def test_routes_are_told_with_their_figures(served: Server, everything: httpx.Client) -> None:
    for name in ("ada", "bob", "eve"):
        assert served.get(f"/hello/{name}").status_code == 200
    assert served.get("/broken").status_code == 500
    found = everything.get("/endpoints", params={"sort": "count", "route": "hello"}).json()
    (hello,) = found["items"]
    assert (hello["route"], hello["method"]) == ("/hello/{name}", "GET")
    assert hello["count"] >= 3
    assert 0 < hello["p50"] <= hello["p99"] <= hello["slowest_within"]
    (broken,) = everything.get("/endpoints", params={"route": "broken"}).json()["items"]
    assert broken["error_ratio"] == 1.0
    names = [one["route"] for one in everything.get("/endpoints?sort=route").json()["items"]]
    assert names == sorted(names)
    page = everything.get("/endpoints?sort=route&limit=1&offset=1").json()
    assert [one["route"] for one in page["items"]] == names[1:2]
    assert page["total"] == len(names)
    summary = everything.get("/metrics/summary").json()
    assert summary["requests"] >= 4
    assert summary["workers"] == 1


def test_the_score_comes_with_its_components(everything: httpx.Client) -> None:
    card = everything.get("/score").json()
    assert {"availability", "api", "cache"} <= {one["name"] for one in card["components"]}
    assert 0 <= card["coverage"] <= 1


def test_resources_come_with_their_history(everything: httpx.Client) -> None:
    def read() -> dict[str, Any]:
        return dict(everything.get("/resources", params={"limit": 3}).json())

    found = eventually(lambda: one if (one := read())["host"] and one["process"] else None, within=60)
    times = [reading["time"] for reading in found["host"]]
    assert times == sorted(times)
    assert len(times) <= 3
    assert found["host"][-1]["memory_limit"] > 0
    assert everything.get("/resources", params={"offset": 10_000}).json()["host"] == []


def test_two_leak_snapshots_tell_which_lines_have_grown(everything: httpx.Client) -> None:
    everything.post("/leak-snapshot")  # the first one ever only begins
    again = everything.post("/leak-snapshot").json()
    assert not again["began"]
    assert again["seconds"] > 0
    assert again["worker"] == everything.get("/resources").json()["worker"]
    assert all(grown["file"] and grown["line"] > 0 for grown in again["growth"])


def test_the_document_needs_a_token(served: Server, everything: httpx.Client) -> None:
    assert http.get(f"{served.url}{ROOT}/openapi.json").status_code == 401
    assert everything.get("/openapi.json").json()["servers"] == [{"url": ROOT}]


def test_strangers_learn_whether_it_is_well_and_no_more(served: Server, everything: httpx.Client) -> None:
    open_to_all = http.get(f"{served.url}{ROOT}/health")
    assert (open_to_all.status_code, open_to_all.json()) == (200, {"status": "ok"})
    parts = {part["name"]: part["state"] for part in everything.get("/health/parts").json()["parts"]}
    assert parts == {"database": "not used", "cache": "ok", "telemetry": "ok", "disk": "ok"}


def test_a_database_that_is_away_makes_it_not_well(serve: Callable[..., Server]) -> None:
    server = serve(
        "uvicorn", "tests.admin.app:app", env={"TEST_DATABASE_URL": "sqlite:////there/is/no/such/folder/db"}
    )
    answer = http.get(f"{server.url}{ROOT}/health")
    assert (answer.status_code, answer.json()) == (503, {"status": "not ok"})
    with client(server) as api:
        parts = {part["name"]: part for part in api.get("/health/parts").json()["parts"]}
    assert parts["database"]["detail"] == "OperationalError"


def test_an_answer_that_has_not_changed_is_not_sent_again(everything: httpx.Client) -> None:
    first = everything.get("/cache")
    assert first.headers["cache-control"] == "no-store"
    again = everything.get("/cache", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = everything.get("/cache", headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


def test_a_browser_gets_tables_and_nothing_runs_in_them(served: Server, everything: httpx.Client) -> None:
    page = everything.get("/endpoints", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.headers["content-type"].startswith("text/html")
    assert "/hello/{name}" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    console = http.get(f"{served.url}{ROOT}/")
    assert console.status_code == 200
    assert "endpoints" in console.text
    there = http.get(f"{served.url}{ROOT}", follow_redirects=True)
    assert there.url.path == f"{ROOT}/"


def test_the_app_keeps_all_other_paths(served: Server) -> None:
    assert served.get(f"{ROOT}-more").text == "Not Found"
    answer = served.get(f"{ROOT}/nonesuch")
    assert answer.headers["content-type"] == "application/problem+json"
    assert served.scrape().total("http_server_request_duration_seconds_count", http_route="/score") == 0


def test_one_page_may_call_it_from_a_browser_and_no_other(served: Server) -> None:
    """What Grafana's table actions need: a preflight, and the header that they send."""
    asked = {
        "Origin": "https://grafana.example.org",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-grafana-action",
    }
    url = f"{served.url}{ROOT}/cache/clear"
    allowed = httpx.options(url, headers=asked)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://grafana.example.org"
    assert "access-control-allow-credentials" not in allowed.headers
    for other in (
        "https://evil.example.org",
        "https://grafana.example.org.evil.example",
        "https://evil.grafana.example.org",
        "http://grafana.example.org",
        "https://grafana.example.org:8443",
        "null",
    ):
        refused = httpx.options(url, headers={**asked, "Origin": other})
        assert refused.status_code == 400
        assert "access-control-allow-origin" not in refused.headers
    headers = {
        "Origin": asked["Origin"],
        "X-Grafana-Action": "1",
        "Content-Type": "application/json",
        "Authorization": f"Bearer {token(sub='grafana')}",
    }
    done = http.post(url, headers=headers, params={"name": "menu"}, content="{}")
    assert (done.status_code, done.json()["cache"]) == (200, "menu")
    assert done.headers["access-control-allow-origin"] == asked["Origin"]


# --- the cache ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shop", "bar"])
def test_clearing_reaches_redis_and_nothing_but_the_cache(
    redis_server: RedisServer, everything: httpx.Client, name: str
) -> None:
    with (
        Cache(redis_server.url, namespace=name) as cache,
        Cache(redis_server.url, namespace="other") as other,
        redis_server.client() as redis,
    ):
        cache.clear()
        redis.set("of somebody else", "1")
        cache.set_many({"menu:1": 1, "menu:2": 2, "user:1": 3})
        cache.set("tagged", 4, tags=("t",))
        other.set("menu:1", 1)
        dry = everything.delete(
            "/cache", params={"name": name, "pattern": "menu:*", "dry_run": "true"}
        ).json()
        assert (dry["matching"], dry["dry_run"]) == (2, True)
        assert cache.get("menu:1") == 1
        done = everything.delete("/cache", params={"name": name, "pattern": "menu:*"}).json()
        assert (done["redis"], done["what"]) == ("told", "pattern")
        assert cache.get_many(["menu:1", "menu:2", "user:1", "tagged"]) == {"user:1": 3, "tagged": 4}
        everything.post("/cache/clear", json={"name": name, "tag": "t"})
        assert cache.get_many(["user:1", "tagged"]) == {"user:1": 3}
        everything.post("/cache/clear", json={"name": name})
        assert cache.get("user:1") is None
        assert other.get("menu:1") == 1
        assert redis.get("of somebody else") == b"1"


HOSTILE = [
    "*",
    "../*",
    "shop:1:*",
    "}:*{",
    "other:1:{*",
    "\\",
    "[",
    "[^",
    "?" * 200,
    "%",
    "a\\*",
    "~{marks}*",
    "💣*",
]


@pytest.mark.parametrize("pattern", HOSTILE)
def test_hostile_patterns_do_nothing_outside_of_the_caches_names(
    redis_server: RedisServer, everything: httpx.Client, pattern: str
) -> None:
    with Cache(redis_server.url, namespace="other") as other, redis_server.client() as redis:
        redis.set("shop", "1")
        redis.set("shop:2:{a}", "1")
        other.set("a", 1)
        answer = everything.delete("/cache", params={"name": "shop", "pattern": pattern})
        assert answer.status_code in (200, 400)
        assert other.get("a") == 1
        assert redis.get("shop") == redis.get("shop:2:{a}") == b"1"


@pytest.mark.parametrize(
    "query",
    [
        {"name": "shop", "pattern": "a\nb"},
        {"name": "shop", "pattern": "a\x00b"},
        {"name": "shop", "pattern": ""},
        {"name": "shop", "pattern": "x" * 201},
        {"name": "shop", "tag": "a\r\nb"},
        {"name": "shop", "tag": "t", "pattern": "p"},
        {"name": "../shop"},
        {"name": "shop\n"},
        {"name": "shop", "nme": "x"},
        {"pattern": "*"},
        {"name": "shop", "dry_run": "perhaps"},
    ],
)
def test_wrong_parameters_are_told_and_not_repeated(everything: httpx.Client, query: dict[str, str]) -> None:
    answer = everything.delete("/cache", params=query)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    for value in query.values():
        assert len(value) < 5 or value not in answer.text


def test_a_body_without_end_is_not_read_to_its_end(served: Server) -> None:
    headers = {"Authorization": f"Bearer {token()}", "Content-Type": "application/json"}
    answer = http.post(f"{served.url}{ROOT}/cache/clear", headers=headers, content=b"[" * 10_000_000)
    assert answer.status_code == 413
    answer = http.post(f"{served.url}{ROOT}/cache/clear", headers=headers, content=b"[" * 60_000)
    assert answer.status_code == 400
    answer = http.get(f"{served.url}{ROOT}/endpoints?route=" + "x" * 9000, headers=headers)
    assert answer.status_code == 400


@pytest.mark.parametrize("confirm", [r"1.\ud800", "²." + "0" * 64, r"\u0000"])
def test_a_confirmation_of_no_sense_is_refused_like_any_other(everything: httpx.Client, confirm: str) -> None:
    body = f'{{"job": "{JOB}", "indexes": ["ix"], "confirm": "{confirm}"}}'
    answer = everything.post(
        "/advise/apply", content=body.encode(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (400, 404, 409)


def test_a_pattern_that_takes_others_forever_takes_no_time(everything: httpx.Client) -> None:
    assert (
        everything.delete("/cache", params={"name": "menu", "pattern": "*a" * 99 + "*b"}).status_code == 400
    )


def test_an_app_that_is_served_under_a_path_has_it_there(serve: Callable[..., Server]) -> None:
    """As behind a proxy that takes the path away: the server puts it before each path again."""
    server = serve("uvicorn", "tests.admin.app:app", args=("--root-path", "/shop"))
    assert server.get(f"{ROOT}/health").json() == {"status": "ok"}
    assert server.get(ROOT, follow_redirects=False).headers["location"] == "performance/"
    assert server.get(f"{ROOT}/score").status_code == 401
    with client(server) as api:
        assert api.get("/score").status_code == 200
    assert server.get("/hello/ada").text == "ada"
    assert "http_server_request_duration_seconds" in server.get("/metrics").text
    for path in (f"{ROOT}-more", f"/{ROOT}/health", f"/x{ROOT}/health", "/x/metrics", "/metrics/x"):
        assert server.get(path).text == "Not Found"
    missed = server.scrape().total(
        "http_server_request_duration_seconds_count", http_response_status_code="404"
    )
    assert missed >= 5  # they were the app's


# --- WSGI, and alone ---------------------------------------------------------------------------------


@pytest.mark.parametrize("server", ["gunicorn", "gunicorn-gthread"])
def test_a_wsgi_app_has_it_too(serve: Callable[..., Server], server: str) -> None:
    running = serve(server, "tests.admin.app:wsgi_app", workers=2)
    assert running.get("/anything").text == "hello"
    assert running.get(f"{ROOT}/score").status_code == 401
    with client(running) as api:

        def both_have_served() -> bool:
            assert running.get("/anything").text == "hello"
            return bool(api.get("/metrics/summary").json()["workers"] == 2)

        eventually(both_have_served, within=30)
        assert api.patch("/settings", json={"log_level": "ERROR"}).json()["changed"] == ["log_level"]
        assert api.get("/nonesuch").status_code == 404
    assert running.get("/anything").text == "hello"


def test_secret_and_token_are_in_no_log(served: Server, everything: httpx.Client) -> None:
    everything.get("/score")
    assert SECRET not in served.output()
    assert token(scope=ALL).split(".")[2] not in served.output()
