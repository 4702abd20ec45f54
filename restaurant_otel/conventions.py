"""A request as OpenTelemetry attributes, by the stable HTTP semantic conventions.

Pure functions from what a server hands over (an ASGI scope, a WSGI environ) to attribute values. Whatever
a client sends, they neither raise nor let text through that an exporter could not encode. They know
nothing of spans, metrics or settings.

Source: https://opentelemetry.io/docs/specs/semconv/http/http-spans/
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, TypeAlias

Attributes: TypeAlias = dict[str, Any]
Address: TypeAlias = tuple[str, int | None]

OTHER: Final = "_OTHER"
_STANDARD_METHODS: Final = "CONNECT,DELETE,GET,HEAD,OPTIONS,PATCH,POST,PUT,QUERY,TRACE"
_SCHEMES: Final = {"http": "http", "https": "https", "ws": "ws", "wss": "wss"}
_VERSIONS: Final = {"1.0": "1.0", "1.1": "1.1", "2": "2", "2.0": "2", "3": "3", "3.0": "3"}
_SENSITIVE_QUERY: Final = re.compile(r"((?:^|&)(?:AWSAccessKeyId|Signature|sig|X-Goog-Signature)=)[^&]*")
_HOSTS_REMEMBERED: Final = 256
_LONGEST_REMEMBERED: Final = 255
_hosts: dict[str | None, Address | None] = {}  # as WSGI servers give them
_raw_hosts: dict[bytes | None, Address | None] = {}  # as ASGI servers do


def _known_methods() -> dict[str, str]:
    # The variable that the conventions name for servers with methods of their own; it replaces the list.
    names = os.environ.get("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS") or _STANDARD_METHODS
    return {name.strip(): name.strip() for name in names.split(",") if name.strip()}


KNOWN_METHODS: Final = _known_methods()


def known_method(method: str) -> str:
    """The method if it is a known one, else ``_OTHER``: clients may not invent label values."""
    return KNOWN_METHODS.get(method, OTHER)


def known_scheme(scheme: str) -> str:
    """``http``, ``https``, ``ws`` or ``wss``, else ``_OTHER``."""
    return _SCHEMES.get(scheme, OTHER)


def known_version(version: str) -> str | None:
    """The HTTP version as the conventions write it (``1.1``, ``2``, ``3``); None where it is not one of them."""
    return _VERSIONS.get(version)


def known_status(status: object) -> int | None:
    """A status code from 100 to 599 as a plain number (`http.HTTPStatus` is not one), else None."""
    return int(status) if isinstance(status, int) and 100 <= status <= 599 else None


_LINES: Final = [(f"{status.value} {status.phrase}", status.value) for status in HTTPStatus]
PLAIN_STATUS: Final[dict[str | None, int]] = {
    said: status
    for line, status in _LINES
    for said in (line, line.upper())  # Werkzeug and Django shout the reason
}
"""The usual status lines, and their codes."""


def wsgi_status(status: object) -> int | None:
    """The code of a WSGI status line, with or without a reason; None where there is none."""
    if type(status) is str and status in PLAIN_STATUS:
        return PLAIN_STATUS[status]
    code = str(status)[:3]
    return known_status(int(code)) if len(code) == 3 and code.isascii() and code.isdigit() else None


def content_length(value: str | bytes | None) -> int | None:
    """A Content-Length in bytes; None where it is absent or not a plain number."""
    if value is None:
        return None
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    # 18 digits are an exabyte: more is nonsense that a float could not even count.
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def port_number(value: object) -> int | None:
    """A port as servers give it, a number or text (werkzeug's REMOTE_PORT is a number); None for anything else."""
    if type(value) is str and value.isdecimal() and len(value) <= 5:
        value = int(value)
    return value if isinstance(value, int) and 0 < value <= 65535 else None


def error_type(error: BaseException) -> str:
    """The value of ``error.type`` for an exception."""
    return type(error).__qualname__


def printable(text: str) -> str:
    """`text` with what UTF-8 cannot encode (lone surrogates) replaced: one such value would cost a whole batch."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def redacted_query(query: str) -> str:
    """A query string without the values of the parameters that the conventions call sensitive."""
    # Three substring tests (0.1 us) spare nearly every request the expression (0.6 us).
    if "ignature=" in query or "sig=" in query or "AccessKeyId=" in query:
        return _SENSITIVE_QUERY.sub(r"\1REDACTED", query)
    return query


def host_and_port(host: str | bytes) -> Address | None:
    """A Host header's name and port; None where it is malformed. Remembers the few that recur."""
    remembered: dict[Any, Address | None] = _raw_hosts if isinstance(host, bytes) else _hosts
    try:
        return remembered[host]
    except KeyError:
        parsed = _parse_host(host.decode("latin-1") if isinstance(host, bytes) else host)
        if len(host) <= _LONGEST_REMEMBERED:
            if len(remembered) >= _HOSTS_REMEMBERED:
                remembered.clear()  # full of what somebody has invented: those that recur come back
            remembered[host] = parsed
        return parsed


def _parse_host(host: str) -> Address | None:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+)(?::(\d{1,5}))?", host)
    if match is None:
        return None
    return printable(match[1].strip("[]")), int(match[2]) if match[2] else None


def _put_address(attributes: Attributes, name: str, address: Any) -> None:
    """An ASGI ``client`` or ``server`` pair, which servers fill with more freedom than the protocol allows."""
    if isinstance(address, (list, tuple)) and address and isinstance(address[0], str) and address[0]:
        attributes[f"{name}.address"] = printable(address[0])
        if len(address) > 1 and isinstance(address[1], int):
            attributes[f"{name}.port"] = address[1]


_ALWAYS: Final = ("http.request.method", "url.scheme", "network.protocol.version")
_USUAL: Final = (
    "url.path",
    "server.address",
    "server.port",
    "network.peer.address",
    "client.address",
    "network.peer.port",
    "user_agent.original",
)
_ROOM: Final = ("room for http.response.status_code", "and for http.route")


def usual_form(method: str, scheme: str, version: str | None) -> Attributes | None:
    """The attributes of the requests that begin so, to be copied and filled in by `usual_..._attributes`.

    None where they are not usual: an unknown method has one more, an unknown version one less. A copy of a dict that
    has its final size takes a third of the time that it takes to fill an empty one.
    """
    if method == OTHER or version is None:
        return None
    form = dict.fromkeys(_ALWAYS + _USUAL + _ROOM)
    for name in _ROOM:
        del form[name]
    form.update(zip(_ALWAYS, (method, scheme, version), strict=True))
    return form


def usual_asgi_attributes(
    form: Attributes, scope: Mapping[str, Any], headers: Mapping[bytes, bytes]
) -> Attributes | None:
    """What `asgi_attributes` gives with nothing opted in, for the kind of request that nearly all are; else None."""
    try:
        address, port = _raw_hosts[headers[b"host"]]  # type: ignore[misc]
        peer, peer_port = scope["client"]
        path, query, agent = scope["path"], scope["query_string"], headers[b"user-agent"]
        if port is None:
            port = scope["server"][1]
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    if not (
        path
        and agent
        and peer
        and type(peer) is str
        and peer.isascii()
        and type(peer_port) is int
        and type(port) is int
    ):
        return None
    attributes = form.copy()
    attributes["url.path"] = path if path.isascii() else printable(path)
    attributes["server.address"] = address
    attributes["server.port"] = port
    attributes["network.peer.address"] = attributes["client.address"] = peer
    attributes["network.peer.port"] = peer_port
    attributes["user_agent.original"] = agent.decode("latin-1")
    if query:
        attributes["url.query"] = _query(query)
    return attributes


def _query(query: str | bytes) -> str:
    return redacted_query(query.decode("latin-1") if isinstance(query, bytes) else printable(query))


def asgi_attributes(
    scope: Mapping[str, Any], headers: Mapping[bytes, bytes], opt_in: frozenset[str]
) -> Attributes:
    """Span attributes known when an ASGI request or WebSocket begins.

    `headers` holds at least ``host`` and ``user-agent`` where the client sent them, names in lower case.
    """
    get = scope.get
    raw_method = get("method", "GET")
    method = KNOWN_METHODS.get(raw_method, OTHER)
    path = get("path") or "/"
    attributes: Attributes = {
        "http.request.method": method,
        "url.path": path if path.isascii() else printable(path),
        "url.scheme": _SCHEMES.get(get("scheme", "http"), OTHER),
    }
    if method is OTHER:
        attributes["http.request.method_original"] = printable(str(raw_method))
    query = get("query_string")
    if query:
        attributes["url.query"] = _query(query)
    version = _VERSIONS.get(get("http_version", ""))
    if version is not None:
        attributes["network.protocol.version"] = version
    host = headers.get(b"host")
    server = get("server")
    _put_server(attributes, host, server)
    client = get("client")
    if client:
        _put_client(attributes, client, opt_in)
    agent = headers.get(b"user-agent")
    if agent:
        attributes["user_agent.original"] = agent.decode("latin-1")
    if opt_in:
        _put_local(attributes, server, opt_in)
    return attributes


def wsgi_attributes(environ: Mapping[str, Any], opt_in: frozenset[str]) -> Attributes:
    """Span attributes known when a WSGI request begins."""
    raw_method = environ.get("REQUEST_METHOD", "GET")
    method = KNOWN_METHODS.get(raw_method, OTHER)
    attributes: Attributes = {
        "http.request.method": method,
        "url.path": wsgi_path(environ),
        "url.scheme": _SCHEMES.get(environ.get("wsgi.url_scheme", "http"), OTHER),
    }
    if method is OTHER:
        attributes["http.request.method_original"] = printable(str(raw_method))
    query = environ.get("QUERY_STRING")
    if query:
        attributes["url.query"] = _query(query)
    version = wsgi_version(environ)
    if version is not None:
        attributes["network.protocol.version"] = version
    server = (environ.get("SERVER_NAME"), port_number(environ.get("SERVER_PORT")))
    _put_server(attributes, environ.get("HTTP_HOST"), server)
    client = environ.get("REMOTE_ADDR")
    if client:
        _put_client(attributes, (client, port_number(environ.get("REMOTE_PORT"))), opt_in)
    agent = environ.get("HTTP_USER_AGENT")
    if agent:
        attributes["user_agent.original"] = printable(agent)
    if opt_in:
        _put_local(attributes, server, opt_in)
    return attributes


def usual_wsgi_attributes(form: Attributes, environ: Mapping[str, Any]) -> Attributes | None:
    """What `wsgi_attributes` gives with nothing opted in, for the kind of request that nearly all are; else None."""
    try:
        address, port = _hosts[environ["HTTP_HOST"]]  # type: ignore[misc]
        peer, peer_port, agent = environ["REMOTE_ADDR"], environ["REMOTE_PORT"], environ["HTTP_USER_AGENT"]
        path, script = environ["PATH_INFO"], environ["SCRIPT_NAME"]
        if port is None:
            port = _own_port(environ["SERVER_PORT"])
    except (KeyError, TypeError):
        return None
    if (
        type(peer_port) is not str
        or not peer_port.isdecimal()
        or not 0 < (peer_port := int(peer_port)) < 65536
    ):
        return None
    if not (
        path
        and agent
        and agent.isascii()
        and peer
        and type(peer) is str
        and peer.isascii()
        and port is not None
    ):
        return None
    attributes = form.copy()
    attributes["url.path"] = path if path.isascii() and not script else wsgi_path(environ)
    attributes["server.address"] = address
    attributes["server.port"] = port
    attributes["network.peer.address"] = attributes["client.address"] = peer
    attributes["network.peer.port"] = peer_port
    attributes["user_agent.original"] = agent
    query = environ.get("QUERY_STRING")
    if query:
        attributes["url.query"] = _query(query)
    return attributes


@lru_cache(maxsize=64)
def _own_port(value: str | int | None) -> int | None:
    """`port_number` of a port that this process listens on: there are few of them."""
    return port_number(value)


def wsgi_path(environ: Mapping[str, Any]) -> str:
    """SCRIPT_NAME and PATH_INFO as text: WSGI hands over bytes disguised as latin-1."""
    path = f"{environ.get('SCRIPT_NAME') or ''}{environ.get('PATH_INFO') or ''}" or "/"
    return path if path.isascii() else path.encode("latin-1", "replace").decode("utf-8", "replace")


def wsgi_version(environ: Mapping[str, Any]) -> str | None:
    """The HTTP version of a WSGI request; None where the server does not tell."""
    return _VERSIONS.get(str(environ.get("SERVER_PROTOCOL", ""))[5:])


def _put_server(attributes: Attributes, host: str | bytes | None, server: Any) -> None:
    address = host_and_port(host) if host else None
    if address is None:
        _put_address(attributes, "server", server)
        return
    attributes["server.address"], port = address
    if port is None and isinstance(server, (list, tuple)) and len(server) > 1 and isinstance(server[1], int):
        port = server[1]
    if port is not None:
        attributes["server.port"] = port


def _put_client(attributes: Attributes, client: Any, opt_in: frozenset[str]) -> None:
    if type(client) is tuple and len(client) == 2 and type(client[0]) is str and client[0].isascii():
        # What servers send, in a third of the time of the careful way below.
        attributes["network.peer.address"] = attributes["client.address"] = client[0]
        if type(client[1]) is int:
            attributes["network.peer.port"] = client[1]
    else:
        _put_address(attributes, "network.peer", client)
        if "network.peer.address" in attributes:
            attributes["client.address"] = attributes["network.peer.address"]
    if "client.port" in opt_in and "network.peer.port" in attributes:
        attributes["client.port"] = attributes["network.peer.port"]


def _put_local(attributes: Attributes, server: Any, opt_in: frozenset[str]) -> None:
    local: Attributes = {"network.transport": "tcp"}
    _put_address(local, "network.local", server)
    attributes.update({name: value for name, value in local.items() if name in opt_in})
