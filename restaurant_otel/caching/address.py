"""Where Redis is: one URL to what the links need to connect.

    redis:// rediss:// unix://          as redis-py has them
    redis+cluster://host:port,host:port  (rediss+cluster:// with TLS)
    redis+sentinel://host:port,host:port/service/db  (rediss+sentinel:// with TLS)
    memory://                            no Redis at all

Parsing only; nothing here connects.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from redis.backoff import NoBackoff

_DIRECT: Final = ("redis", "rediss", "unix")


@dataclass(frozen=True, slots=True)
class Address:
    """`kind` is "memory", "direct" (then `url` is redis-py's), "cluster" or "sentinel"."""

    kind: str
    url: str = ""
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = None
    tls: bool = False

    def credentials(self) -> dict[str, Any]:
        """What redis-py's cluster and sentinel clients are given besides the hosts."""
        given: dict[str, Any] = {}
        if self.username:
            given["username"] = self.username
        if self.password:
            given["password"] = self.password
        if self.tls:
            given["ssl"] = True
        return given


def parse(url: str) -> Address:
    """`url` taken apart. ValueError if it is none of the above, without the password in its text."""
    scheme = url.partition("://")[0]
    if scheme == "memory":
        return Address("memory")
    if scheme in _DIRECT:
        return Address("direct", url)
    base, _, kind = scheme.partition("+")
    if base not in ("redis", "rediss") or kind not in ("cluster", "sentinel"):
        raise ValueError(
            f"no cache at {scheme!r}: use redis, rediss, unix, redis+cluster, redis+sentinel or memory, with '://'"
        )
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    path = [unquote(piece) for piece in parts.path.split("/") if piece]
    if kind == "sentinel" and not path:
        raise ValueError("redis+sentinel://host:port,host:port/service names the service after the hosts")
    query = parse_qs(parts.query)
    numbers = path[1:2] if kind == "sentinel" else []
    return Address(
        kind,
        hosts=tuple(_host(host, 26379 if kind == "sentinel" else 6379) for host in hosts.split(",")),
        service=path[0] if kind == "sentinel" else "",
        db=int(numbers[0] if numbers else query.get("db", ["0"])[0]),
        username=unquote(username) or None,
        password=unquote(password) or None,
        tls=base == "rediss",
    )


def _host(text: str, default: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):  # no port, or the inside of an IPv6 address
        host, port = text, ""
    if not host or (port and not port.isdigit()):
        raise ValueError(f"{text!r} is not host:port")
    return host.strip("[]"), int(port or default)


def direct_url(host: str, port: int, db: int, username: str | None, password: str | None) -> str:
    """The URL for a constructor's `host`, `port`, `db` and `password`."""
    from urllib.parse import quote

    login = f"{quote(username or '', safe='')}:{quote(password, safe='')}@" if password else ""
    return f"redis://{login}{f'[{host}]' if ':' in host else host}:{port}/{db}"


def socket_options(timeout: float, retry: type[Any]) -> dict[str, Any]:
    """What every connection gets: our time-outs instead of redis-py's 5 s times 11, and no retries of its own.

    RESP2 is asked for because our replies are the same in both and RESP3, redis-py 8's default, would send pushes
    between them. The kernel drops what it could not deliver within the time-out, so that a
    command given up on is not delivered when the network heals, after a newer one.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": retry(NoBackoff(), 0),
        "protocol": 2,
    }
    user_timeout = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux
    if user_timeout is not None:
        options["socket_keepalive"] = True
        options["socket_keepalive_options"] = {user_timeout: max(1, int(timeout * 1000))}
    return options
