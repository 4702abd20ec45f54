"""The quick ways to a request's attributes give what the careful ones give, or nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restaurant_otel import conventions
from restaurant_otel.conventions import (
    asgi_attributes,
    host_and_port,
    usual_asgi_attributes,
    usual_form,
    usual_wsgi_attributes,
    wsgi_attributes,
)

NONE: frozenset[str] = frozenset()
FORM: Any = usual_form("GET", "https", "1.1")
HOSTS = ["shop", "shop:81", "[::1]:8000", "a b", "", "shöp", "s:99999"]
ADDRESSES: Any = st.one_of(
    st.none(),
    st.tuples(
        st.sampled_from(["127.0.0.1", "", "caf\u00e9", "\udcff"]), st.sampled_from([80, None, "80", True])
    ),
    st.just(["127.0.0.1", 80]),
    st.just(("/run/socket", None)),
    st.just(("alone",)),
    st.just("text"),
)
PATHS = ["/a", "", "/caf\u00e9", "/\udcff"]


def test_only_usual_requests_have_a_form() -> None:
    assert usual_form("_OTHER", "http", "1.1") is None
    assert usual_form("GET", "http", None) is None
    assert FORM["http.request.method"] == "GET"


@given(
    st.sampled_from([host.encode("latin-1", "replace") for host in HOSTS] + [None]),
    st.sampled_from([b"curl/8", b"\xff", b"", None]),
    ADDRESSES,
    ADDRESSES,
    st.sampled_from(PATHS),
    st.sampled_from([b"", b"a=1&sig=x", b"\xff", "text", None]),
)
def test_asgi(host: Any, agent: Any, client: Any, server: Any, path: str, query: Any) -> None:
    if host:
        host_and_port(host)  # known hosts only take the quick way
    headers = {
        name: value for name, value in {b"host": host, b"user-agent": agent}.items() if value is not None
    }
    scope = {"method": "GET", "scheme": "https", "http_version": "1.1", "path": path}
    scope |= {"client": client, "server": server, "query_string": query}
    quick = usual_asgi_attributes(FORM, scope, headers)
    if quick is not None:
        assert quick == asgi_attributes(scope, headers, NONE)
        assert all(name in quick and quick[name] is not None for name in FORM)


@given(
    st.sampled_from([*HOSTS, "shop\udcff", None]),
    st.sampled_from(["curl/8", "\xff", "", None]),
    st.sampled_from(["127.0.0.1", "", "caf\u00e9", None]),
    st.sampled_from(["41234", 41234, "x", "", None]),
    st.sampled_from(["80", "x", None]),
    st.sampled_from(["/a", "", "/caf\xc3\xa9", "/\xff"]),
    st.sampled_from(["", "a=1&sig=x", "\xff", None]),
)
def test_wsgi(host: Any, agent: Any, peer: Any, port: Any, own_port: Any, path: str, query: Any) -> None:
    if host:
        host_and_port(host)
    environ = {
        "REQUEST_METHOD": "GET",
        "wsgi.url_scheme": "https",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "127.0.0.1",
        "PATH_INFO": path,
        "HTTP_HOST": host,
        "HTTP_USER_AGENT": agent,
        "REMOTE_ADDR": peer,
        "REMOTE_PORT": port,
        "SERVER_PORT": own_port,
        "QUERY_STRING": query,
    }
    environ = {name: value for name, value in environ.items() if value is not None}
    quick = usual_wsgi_attributes(FORM, environ)
    if quick is not None:
        assert quick == wsgi_attributes(environ, NONE)
        assert all(name in quick and quick[name] is not None for name in FORM)


def test_the_usual_request_takes_the_quick_way() -> None:
    host_and_port(b"shop")
    host_and_port("shop")
    scope = {"path": "/a", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "query_string": b""}
    assert usual_asgi_attributes(FORM, scope, {b"host": b"shop", b"user-agent": b"curl"}) is not None
    environ = {"HTTP_HOST": "shop", "HTTP_USER_AGENT": "curl", "REMOTE_ADDR": "1.2.3.4", "REMOTE_PORT": "1"}
    assert (
        usual_wsgi_attributes(FORM, {**environ, "SERVER_PORT": "80", "PATH_INFO": "/", "SCRIPT_NAME": ""})
        is not None
    )


def test_invented_hosts_are_not_remembered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered: dict[bytes | None, Any] = {}
    monkeypatch.setattr(conventions, "_raw_hosts", remembered)
    assert host_and_port(b"x" * 10_000) == ("x" * 10_000, None)
    assert not remembered
    for number in range(2000):
        assert host_and_port(f"host{number}:80".encode()) == (f"host{number}", 80)
        assert len(remembered) <= 256
    host_and_port(b"shop")
    assert b"shop" in remembered  # one that recurs finds room all the same
