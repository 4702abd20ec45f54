"""Who did what: one line for each request, a warning where it was not done, counted; whatever a client brings."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from restaurant_otel.admin import AdminApp, admin_app
from restaurant_otel.administration import fetching
from restaurant_otel.administration import keys as remote
from restaurant_otel.auth import Access
from restaurant_otel.cache import Cache
from restaurant_otel.settings import Settings
from tests.admin import test_auth as attacks
from tests.admin.test_auth import BAD, BAD_SERVERS, ISSUER, KEY, NEW, Clock, by_url, signed
from tests.admin.tokens import SECRET, KeyServer, by_hand, claims, jwk, public_pem, rsa_key, token
from tests.support.asgi import asgi_call
from tests.support.readings import Readings

Added = Callable[[], Readings]

server = attacks.server  # a fixture


def api(access: Access | None = None, **settings: Any) -> AdminApp:
    return admin_app(Settings.resolve({}, **{"admin_key": SECRET, **settings}), access)


def ask(
    app: AdminApp, credential: bytes, method: str = "GET", path: str = "/score", **options: Any
) -> httpx.Response:
    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            headers = {b"Authorization": credential} if credential else {}
            return await client.request(method, path, headers=headers, **options)  # type: ignore[arg-type]

    return asyncio.run(once())


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[tuple[int, dict[str, Any]]]]]:
    """Level and content of the audit's lines so far."""
    with caplog.at_level(logging.INFO, "restaurant_otel.audit"):
        yield lambda: [
            (record.levelno, json.loads(record.getMessage()))
            for record in caplog.records
            if record.name == "restaurant_otel.audit"
        ]


Lines = Callable[[], list[tuple[int, dict[str, Any]]]]


def refused_once(lines: Lines, added: Added, reason: str, status: int = 401) -> None:
    ((level, line),) = lines()
    assert level == logging.WARNING
    assert (line["what"], line["outcome"], line["reason"], line["status"]) == (
        "score",
        "refused",
        reason,
        status,
    )
    assert line["who"] is None
    counted = added().series("restaurant_admin_requests_total", restaurant_admin_outcome="refused")
    assert list(counted.values()) == [1]


# --- tokens ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", BAD)
def test_each_bad_token_is_refused_quickly_with_one_line(which: str, lines: Lines, added: Added) -> None:
    make, reason = BAD[which]
    app, bad = api(), make()
    credential = bad if isinstance(bad, bytes) else b"Bearer " + bad.encode()
    began = time.thread_time()  # a busy machine does not count
    answer = ask(app, credential)
    assert time.thread_time() - began < 1.0
    assert answer.status_code == 401
    assert reason not in answer.text
    refused_once(lines, added, reason)
    signature = credential.rpartition(b".")[2][:40].decode("ascii", "replace")
    assert len(signature) < 8 or signature not in json.dumps(lines())


@pytest.mark.parametrize("claimed", ["HS256", "RS256"])
def test_a_public_key_as_a_secret(claimed: str, lines: Lines, added: Added) -> None:
    key = rsa_key()
    app = api(admin_algorithms="RS256", admin_key=public_pem(key))
    forged = by_hand({"alg": claimed, "typ": "JWT"}, claims(), public_pem(key).encode())
    assert ask(app, b"Bearer " + forged.encode()).status_code == 401
    refused_once(lines, added, "algorithm" if claimed == "HS256" else "signature")


def test_another_issuer(lines: Lines, added: Added) -> None:
    app = api(admin_issuer=ISSUER)
    assert ask(app, b"Bearer " + token(iss="https://evil.example.org").encode()).status_code == 401
    refused_once(lines, added, "issuer")


def test_a_token_replayed_after_its_key_was_withdrawn(server: KeyServer, lines: Lines, added: Added) -> None:
    clock = Clock()
    server.keys = [jwk(KEY, "old")]
    app = api(by_url(server, clock))
    old = b"Bearer " + signed(KEY, "old").encode()
    assert ask(app, old).status_code == 200
    server.keys = [jwk(NEW, "new")]
    clock.now += remote.PAUSE
    assert ask(app, b"Bearer " + signed(NEW, "new").encode()).status_code == 200
    assert ask(app, old).status_code == 401
    assert [(level, line["outcome"], line.get("reason")) for level, line in lines()] == [
        (logging.INFO, "done", None),
        (logging.INFO, "done", None),
        (logging.WARNING, "refused", "unknown_key"),
    ]


@pytest.mark.parametrize("which", BAD_SERVERS)
def test_a_keys_server_that_is_slow_huge_or_lies(
    which: str, server: KeyServer, lines: Lines, added: Added, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "SECONDS", 0.5)
    server.behave = BAD_SERVERS[which]
    answer = ask(api(by_url(server, Clock())), b"Bearer " + signed(KEY, "one").encode())
    assert answer.status_code == 503
    assert answer.headers["retry-after"].isdigit()
    refused_once(lines, added, "keys_unavailable", 503)


# --- what is done, and what is not -------------------------------------------------------------------


def test_what_is_done_is_information_and_all_else_a_warning(lines: Lines, added: Added) -> None:
    app = api()
    reader = b"Bearer " + token(sub="reader", scope="performance:read").encode()
    everything = b"Bearer " + token(sub="ada").encode()
    ask(app, reader)
    ask(app, reader, "PATCH", "/settings", json={})
    ask(app, everything, "PATCH", "/settings", json={"log_level": "LOUD"})
    for _ in range(12):
        ask(app, b"Bearer nonsense")
    told = [(level, line["who"], line["outcome"], line["status"]) for level, line in lines()]
    assert told == [
        (logging.INFO, "reader", "done", 200),
        (logging.WARNING, "reader", "refused", 403),
        (logging.WARNING, "ada", "invalid", 400),
        *[(logging.WARNING, None, "refused", 401)] * 10,
        (logging.WARNING, None, "limited", 429),  # once: the next ones are only counted
    ]
    gained = added()
    for outcome, number in {"done": 1, "refused": 11, "invalid": 1, "limited": 2}.items():
        counted = gained.total("restaurant_admin_requests_total", restaurant_admin_outcome=outcome)
        assert counted == number, outcome
    assert gained.labels("restaurant_admin_requests_total", "restaurant_admin_operation") == {
        "score",
        "settings.change",
    }


# --- hostile names -----------------------------------------------------------------------------------

HOSTILE = [
    "*",
    "**",
    "..",
    "../../etc/passwd",
    "a\nb",
    "a\r\nX: y",
    "\x00",
    "\u2028",
    "'; --",
    "x" * 10_000_000,
]


@pytest.mark.parametrize("parameter", ["name", "pattern", "tag"])
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda text: ascii(text[:12]))
def test_hostile_names_do_nothing_outside_of_the_caches_namespace(
    hostile: str, parameter: str, lines: Lines
) -> None:
    credential = b"Bearer " + token().encode()
    with Cache("memory://", namespace="hostile") as cache, Cache("memory://", namespace="bystander") as other:
        app = api()
        cache.set("a", 1, tags=("t",))
        other.set("a", 1, tags=("t",))
        given = {"name": "hostile", parameter: hostile}
        # No client would send such a URL.
        query, headers = urlencode(given).encode(), [(b"authorization", credential)]
        by_query = asgi_call(app, "DELETE", "/cache", query=query, headers=headers)
        by_body = ask(app, credential, "POST", "/cache/clear", json=given)
        assert by_query.status in (200, 400, 404)
        assert by_body.status_code in (200, 400, 404, 413)
        assert other.get("a") == 1
        assert cache.get("a") == (None if hostile in ("*", "**") and parameter == "pattern" else 1)
        assert len(lines()) == 2
        assert all(len(json.dumps(line)) < 1_000 for _, line in lines())


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda text: ascii(text[:12]))
def test_hostile_names_in_a_path_name_nothing(hostile: str) -> None:
    app, headers = api(), [(b"authorization", b"Bearer " + token().encode())]
    for path in ("/jobs/", "/queries/"):
        assert asgi_call(app, path=path + hostile, headers=headers).status == 404
