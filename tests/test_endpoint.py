"""Promises of ``/metrics``: who is answered, what the answer is, and that the app is never in its way."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from select import select
from typing import Any

import httpx
import pytest
from anyio import to_thread

from restaurant_otel import catalog
from restaurant_otel.catalog import Kind, Metric
from restaurant_otel.endpoint import MetricsEndpoint
from restaurant_otel.metrics import Registry, registry
from restaurant_otel.settings import LOCAL_NETWORKS
from tests.support import http
from tests.support.asgi import Response, asgi_call, asgi_request, http_scope
from tests.support.processes import free_port
from tests.support.wait import eventually
from tests.support.wsgi import make_environ, wsgi_call


@dataclass(frozen=True)
class Settings:
    """The part of the settings that the endpoint reads."""

    metrics_path: str | None = "/metrics"
    metrics_token: str | None = None
    metrics_networks: tuple[str, ...] = LOCAL_NETWORKS
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    metrics_created: bool = False


def endpoint(before_scrape: Callable[[], None] | None = None, **settings: Any) -> MetricsEndpoint:
    return MetricsEndpoint(replace(Settings(), **settings), {"service.name": "shop"}, before_scrape)


def asgi(made: MetricsEndpoint, *headers: tuple[str, str], method: str = "GET") -> Response:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    return asgi_call(made.respond_asgi, method, "/metrics", headers=raw)


def wsgi(made: MetricsEndpoint, *headers: tuple[str, str], method: str = "GET") -> Any:
    return wsgi_call(made.respond_wsgi, method, "/metrics", headers=headers)


ERRORS = "restaurant_telemetry_errors_total"
BOTH = pytest.mark.parametrize("ask", [asgi, wsgi], ids=["asgi", "wsgi"])


# --- who is answered ------------------------------------------------------------------------------------


def allowed(made: MetricsEndpoint, peer: str | None, *headers: tuple[str, str], method: str = "GET") -> bool:
    """Whether a request is answered; ASGI and WSGI must agree."""
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    client = None if peer is None else (peer, 40000)
    by_asgi = made.allows_asgi(http_scope(method, "/metrics", headers=raw, client=client))
    without = ("REMOTE_ADDR",) if peer is None else ()
    extra = {} if peer is None else {"REMOTE_ADDR": peer}
    by_wsgi = made.allows_wsgi(
        make_environ(method, "/metrics", headers=headers, without=without, extra=extra)
    )
    assert by_asgi == by_wsgi
    return by_asgi


@pytest.mark.parametrize(
    "peer",
    [
        "127.0.0.1",
        "127.8.9.10",
        "::1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "fd00::1",
        "fe80::1%eth0",
        "::ffff:10.0.0.1",
    ],
)
def test_a_direct_request_from_a_loopback_or_private_address_is_answered(peer: str) -> None:
    assert allowed(endpoint(), peer)


@pytest.mark.parametrize(
    "peer",
    [
        "8.8.8.8",
        "172.32.0.1",
        "2001:4860:4860::8888",
        "::ffff:8.8.8.8",
        "0.0.0.0",
        "not an address",
        "10.0.0.1, 8.8.8.8",
    ],
)
def test_anybody_else_is_not(peer: str) -> None:
    assert not allowed(endpoint(), peer)


@pytest.mark.parametrize("peer", [None, ""])
def test_a_unix_socket_is_local(peer: str | None) -> None:
    assert allowed(endpoint(), peer)


@pytest.mark.parametrize(
    "header",
    ["Forwarded", "X-Forwarded-For", "Via", "X-Real-IP", "x-forwarded-proto", "X-FORWARDED-HOST"],
)
def test_a_request_that_came_through_a_proxy_is_not_answered(header: str) -> None:
    assert not allowed(endpoint(), "127.0.0.1", (header, "127.0.0.1"))
    assert not allowed(endpoint(), None, (header, ""))


def test_only_the_networks_named_are_answered() -> None:
    made = endpoint(metrics_networks=("192.0.2.0/24", "2001:db8::/32"))
    assert allowed(made, "192.0.2.77")
    assert allowed(made, "2001:db8::5")
    assert not allowed(made, "127.0.0.1")
    assert not allowed(made, "192.0.2.77", ("Via", "1.1 proxy"))


def test_a_token_is_required_and_suffices_from_anywhere() -> None:
    made = endpoint(metrics_token="correct horse battery")
    right = ("Authorization", "Bearer correct horse battery")
    assert allowed(made, "8.8.8.8", right, ("X-Forwarded-For", "8.8.8.8"))
    assert allowed(made, "127.0.0.1", ("Authorization", "bearer   correct horse battery "))
    assert not allowed(made, "127.0.0.1")
    for wrong in (
        "Bearer wrong",
        "Bearer",
        "Bearer ",
        "Basic correct horse battery",
        "correct horse battery",
        "Bearer \xff",
        "",
    ):
        assert not allowed(made, "127.0.0.1", ("Authorization", wrong))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get", ""])
def test_methods_other_than_get_and_head_are_left_to_the_app(method: str) -> None:
    assert not allowed(endpoint(), "127.0.0.1", method=method)


def test_head_is_answered() -> None:
    assert allowed(endpoint(), "127.0.0.1", method="HEAD")


def test_off_answers_nobody() -> None:
    made = endpoint(metrics_path=None, metrics_token="correct horse battery", metrics_port=0)
    assert not allowed(made, "127.0.0.1", ("Authorization", "Bearer correct horse battery"))
    made.listen()
    assert made.port is None


def test_a_scope_with_nothing_but_its_type_is_refused_without_an_error() -> None:
    assert not endpoint().allows_asgi({"type": "http"})
    assert not endpoint().allows_wsgi({})


# --- the answer -----------------------------------------------------------------------------------------


@BOTH
def test_the_answer_is_text_with_the_numbers_and_the_resource(ask: Callable[..., Any]) -> None:
    registry().counter(catalog.TELEMETRY_SPANS_DROPPED).bind(f"seen by {ask.__name__}").add(3)
    response = ask(endpoint())
    assert response.status == 200
    assert response.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    assert response.header("content-length") == str(len(response.body))
    assert response.header("content-encoding") is None
    page = response.body.decode()
    assert 'target_info{service_name="shop"} 1\n' in page
    assert (
        f'restaurant_telemetry_spans_dropped_total{{restaurant_telemetry_reason="seen by {ask.__name__}"}} 3.0\n'
        in page
    )


@BOTH
def test_openmetrics_is_answered_to_who_asks_for_it(ask: Callable[..., Any]) -> None:
    response = ask(endpoint(), ("Accept", "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"))
    assert response.header("content-type") == (
        "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
    )
    assert response.body.endswith(b"# EOF\n")


@BOTH
def test_the_time_when_counting_began_is_behind_a_setting(ask: Callable[..., Any]) -> None:
    registry().counter(catalog.TELEMETRY_METRICS_DROPPED).bind().add(1)
    accept = ("Accept", "application/openmetrics-text")
    assert b"_dropped_created" not in ask(endpoint(), accept).body
    started = any(point.start for family in registry().collect() for point in family.points)
    assert (b"_dropped_created" in ask(endpoint(metrics_created=True), accept).body) == started


@BOTH
@pytest.mark.parametrize("accepted", ["gzip", "deflate, GZIP;q=0.5", "br, gzip ; q=1"])
def test_gzip_is_used_for_who_accepts_it(ask: Callable[..., Any], accepted: str) -> None:
    response = ask(endpoint(), ("Accept-Encoding", accepted))
    assert response.header("content-encoding") == "gzip"
    assert response.header("content-length") == str(len(response.body))
    assert b"target_info" in gzip.decompress(response.body)


@BOTH
@pytest.mark.parametrize("accepted", ["identity", "gzip;q=0", "gzip; q=0.0", "gzippy", ""])
def test_gzip_is_not_used_for_who_does_not(ask: Callable[..., Any], accepted: str) -> None:
    response = ask(endpoint(), ("Accept-Encoding", accepted))
    assert response.header("content-encoding") is None
    assert b"target_info" in response.body


@BOTH
def test_head_has_the_headers_of_get_and_no_body(ask: Callable[..., Any]) -> None:
    made = endpoint()
    head, get = ask(made, method="HEAD"), ask(made)
    assert head.body == b""
    assert head.status == 200
    assert head.header("content-type") == get.header("content-type")

    def lengths() -> set[str | None]:
        return {ask(made, method=method).header("content-length") for method in ("GET", "HEAD", "GET")}

    # Other threads of the process count meanwhile, and a number may get another digit between two answers.
    eventually(lambda: len(lengths()) == 1, what="equal lengths")
    assert None not in lengths()


@BOTH
def test_an_error_while_rendering_is_a_plain_500_and_counted(
    ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, added: Callable[[], Any]
) -> None:
    def broken(*_: object, **__: object) -> Iterator[Any]:
        raise RuntimeError("secret detail")
        yield

    for name in ("collect", "iter_families"):
        monkeypatch.setattr(Registry, name, broken, raising=False)
    response = ask(endpoint(), ("Accept-Encoding", "gzip"))
    monkeypatch.undo()
    assert response.status == 500
    assert response.header("content-type") == "text/plain; charset=utf-8"
    assert response.header("content-encoding") is None
    assert b"secret" not in response.body
    assert added().total(ERRORS, restaurant_telemetry_part="exposition") == 1


@BOTH
def test_what_is_to_be_done_before_a_scrape_is_done_before_it(ask: Callable[..., Any]) -> None:
    cell = registry().counter(catalog.TELEMETRY_SPANS_DROPPED).bind(f"before {ask.__name__}")
    page = ask(endpoint(before_scrape=lambda: cell.add(5))).body.decode()
    assert f'{{restaurant_telemetry_reason="before {ask.__name__}"}} 5.0\n' in page


@BOTH
def test_an_error_in_it_costs_only_itself(ask: Callable[..., Any], added: Callable[[], Any]) -> None:
    def broken() -> None:
        raise RuntimeError

    assert ask(endpoint(before_scrape=broken)).status == 200
    assert added().total(ERRORS, restaurant_telemetry_part="exposition") == 1


def test_in_an_event_loop_it_is_done_in_another_thread() -> None:
    threads: list[int] = []
    asgi(endpoint(before_scrape=lambda: threads.append(threading.get_ident())))
    assert threads != [threading.get_ident()]


def test_a_scrape_does_not_wait_for_the_apps_worker_threads() -> None:
    async def scrape_while_all_are_busy() -> Response:
        limiter = to_thread.current_default_thread_limiter()
        limiter.total_tokens = 1
        async with limiter:
            made = endpoint(before_scrape=lambda: None)
            return await asyncio.wait_for(asgi_request(made.respond_asgi, "GET", "/metrics"), 20)

    assert asyncio.run(scrape_while_all_are_busy()).status == 200


MANY = Metric("test.endpoint.many", "", Kind.COUNTER, "Enough for several pieces.", ("number",))


def test_other_tasks_get_turns_during_a_scrape() -> None:
    for number in range(1900):  # below the limit of a metric
        registry().counter(MANY).bind(number).add(1)

    async def turns_during_a_scrape() -> int:
        turns = 0
        scraping = True

        async def other() -> None:
            nonlocal turns
            while scraping:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        await asyncio.sleep(0)
        begun = turns
        response = await asgi_request(endpoint().respond_asgi, "GET", "/metrics")
        ended = turns
        scraping = False
        await task
        assert response.body.count(b"\n") > 1900
        return ended - begun

    assert asyncio.run(turns_during_a_scrape()) >= 4


def test_a_scrape_works_on_trio() -> None:
    trio = pytest.importorskip("trio")
    response = Response()

    async def send(message: Any) -> None:
        response.messages.append(message)

    trio.run(endpoint(before_scrape=lambda: None).respond_asgi, http_scope("GET", "/metrics"), None, send)
    assert b"target_info" in response.body


# --- a port of its own ----------------------------------------------------------------------------------


@pytest.fixture
def listening() -> Iterator[Callable[..., MetricsEndpoint]]:
    opened: list[MetricsEndpoint] = []

    def listen(**settings: Any) -> MetricsEndpoint:
        made = endpoint(**{"metrics_port": 0, **settings})
        made.listen()
        opened.append(made)
        return made

    yield listen
    for made in opened:
        made.close()


def get(made: MetricsEndpoint, path: str = "/metrics", **headers: str) -> httpx.Response:
    with http.client("", headers=headers) as client:
        return client.get(f"http://127.0.0.1:{made.port}{path}", timeout=10)


def test_the_port_answers_its_path_and_nothing_else(listening: Callable[..., MetricsEndpoint]) -> None:
    made = listening()
    assert b"target_info" in get(made).content
    assert get(made, "/").status_code == 404
    assert get(made, "/metrics/").status_code == 404
    assert http.post(f"http://127.0.0.1:{made.port}/metrics").status_code == 404


def test_the_port_is_guarded_too(listening: Callable[..., MetricsEndpoint]) -> None:
    assert get(listening(), **{"x-forwarded-for": "127.0.0.1"}).status_code == 404
    assert get(listening(metrics_networks=("192.0.2.0/24",))).status_code == 404
    guarded = listening(metrics_token="correct-horse-battery")
    assert get(guarded).status_code == 404
    assert get(guarded, authorization="Bearer correct-horse-battery").status_code == 200


def test_listening_twice_changes_nothing(listening: Callable[..., MetricsEndpoint]) -> None:
    made = listening()
    port = made.port
    made.listen()
    assert made.port == port


def test_nothing_listens_unless_a_port_is_named() -> None:
    made = endpoint()
    made.listen()
    assert made.port is None


def test_a_closed_port_is_free_again_and_may_be_opened_again() -> None:
    port = free_port()
    made = endpoint(metrics_port=port)
    for _ in range(2):
        made.listen()
        assert get(made).status_code == 200
        made.close()
        assert made.port is None
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    made.close()


def test_several_listeners_share_one_port(listening: Callable[..., MetricsEndpoint]) -> None:
    port = free_port()
    first, second = listening(metrics_port=port), listening(metrics_port=port)
    assert first.port == second.port == port
    first.close()
    assert get(second).status_code == 200


def test_a_port_that_another_program_has_is_survived_and_counted(
    listening: Callable[..., MetricsEndpoint], added: Callable[[], Any]
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        made = listening(metrics_port=other.getsockname()[1])
        assert made.port is None
    assert added().total(ERRORS, restaurant_telemetry_part="metrics port") == 1
    assert asgi(made).status == 200


def test_idle_connections_do_not_lock_others_out(listening: Callable[..., MetricsEndpoint]) -> None:
    made = listening()
    idle = [socket.create_connection(("127.0.0.1", made.port or 0)) for _ in range(3)]
    try:
        assert get(made).status_code == 200
    finally:
        for connection in idle:
            connection.close()


def test_no_more_than_a_few_connections_are_served_at_once(listening: Callable[..., MetricsEndpoint]) -> None:
    made = listening()
    threads = threading.active_count()
    idle = [socket.create_connection(("127.0.0.1", made.port or 0)) for _ in range(30)]
    try:
        eventually(lambda: len(select(idle, [], [], 0)[0]) == 22, what="those over the limit are closed")
        assert threading.active_count() <= threads + 8
    finally:
        for connection in idle:
            connection.close()
    eventually(lambda: get(made).status_code == 200, what="an answer once they are gone")


FORKING = """
import os, sys, urllib.request
from tests.test_endpoint import endpoint

def ask(made):
    return urllib.request.urlopen(f"http://127.0.0.1:{made.port}/metrics", timeout=10).status

made = endpoint(metrics_port=0)
made.listen()
parents = made.port
assert ask(made) == 200
child = os.fork()
if child == 0:
    assert made.port not in (None, parents), made.port
    assert ask(made) == 200
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert made.port == parents
assert ask(made) == 200
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_listens_for_itself_and_the_process_ends_quietly() -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


def test_prometheus_reads_every_format_whatever_the_labels_hold(
    listening: Callable[..., MetricsEndpoint], prometheus: Callable[..., Any]
) -> None:
    hostile = ['"', "\\", "\n", "|", "}", ",", "%s", "\r", "\x00", "é😀", "\udcff", " # {}"]
    for value in hostile:
        registry().counter(catalog.TELEMETRY_FILES_SKIPPED).bind(value).add(2)
    made = listening()
    server = prometheus([f"127.0.0.1:{made.port}"])
    server.scrapes(2)
    assert [target["lastError"] for target in server.targets()] == [""]
    found = server.query("restaurant_telemetry_files_skipped_total")
    values = {labels["restaurant_telemetry_reason"]: value for labels, value in found}
    expected = {value.replace("\x00", "\\x00").replace("\udcff", "\\udcff") for value in hostile}
    assert {value for value in expected if value in values} == expected
    assert server.value('target_info{service_name="shop"}') == 1.0
