"""How a cache gets in: by password, as an ACL user, over TLS; and what happens when the door stays shut."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from restaurant_otel.cache import AsyncCache, Cache
from tests.cache.redises import RedisServer
from tests.support.processes import free_port

SECRET = "open-sesame"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[RedisServer]:
    """A server with a password for the default user and a user of its own, `app`."""
    server = RedisServer(tmp_path)
    with server.client() as client:
        client.acl_setuser(
            "app", enabled=True, passwords=[f"+{SECRET}"], keys=["*"], channels=["*"], commands=["+@all"]
        )
        client.config_set("requirepass", SECRET)
    yield server
    server.stop()


def works(url: str, **options: object) -> bool:
    """Whether values really go to Redis and back, for threads and for a loop, with time for a busy machine."""
    options = {"timeout": 5.0, **options}

    async def asynchronously() -> bool:
        async with AsyncCache(url, namespace="loop", **options) as cache:  # type: ignore[arg-type]
            await cache.set("k", [1, None])
            return await cache.get("k") == [1, None] and cache.stats().breaker == "closed"

    with Cache(url, namespace="threads", **options) as cache:  # type: ignore[arg-type]
        cache.set("k", [1, None])
        return (
            cache.get("k") == [1, None]
            and cache.stats().breaker == "closed"
            and asyncio.run(asynchronously())
        )


def stored(client: redis.Redis) -> int:
    return int(client.dbsize())


@pytest.mark.parametrize("login", [f":{SECRET}@", f"app:{SECRET}@"])
def test_a_password_in_the_url_lets_it_in(guarded: RedisServer, login: str) -> None:
    assert works(f"redis://{login}127.0.0.1:{guarded.port}/0")
    with redis.Redis(port=guarded.port, password=SECRET) as client:
        assert stored(client) >= 2, "the values are in Redis, not in the fallback"


def test_a_password_as_an_argument_lets_it_in(guarded: RedisServer) -> None:
    with Cache(host="127.0.0.1", port=guarded.port, db=0, password=SECRET, timeout=5.0) as cache:
        cache.set("k", 1)
    with redis.Redis(port=guarded.port, password=SECRET) as client:
        assert stored(client) >= 1


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[RedisServer, int, Path]]:
    """A server that speaks TLS on a second port, with a certificate of its own making."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate, and is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run(
        [*command, "-keyout", key, "-out", certificate], check=True, capture_output=True, timeout=60
    )
    port = free_port()
    files = [
        "--tls-cert-file",
        str(certificate),
        "--tls-key-file",
        str(key),
        "--tls-ca-cert-file",
        str(certificate),
    ]
    server = RedisServer(tmp_path, "--tls-port", str(port), "--tls-auth-clients", "no", *files)
    yield server, port, certificate
    server.stop()


def test_over_tls_with_the_certificate_checked(tls: tuple[RedisServer, int, Path]) -> None:
    server, port, certificate = tls
    assert works(f"rediss://localhost:{port}/0?ssl_ca_certs={certificate}")
    with server.client() as client:
        assert stored(client) >= 2


def test_a_certificate_that_nobody_vouches_for_is_not_believed(tls: tuple[RedisServer, int, Path]) -> None:
    server, port, _ = tls
    with Cache(f"rediss://localhost:{port}/0") as cache:
        cache.set("k", 1)
        assert cache.get("k") == 1, "the fallback serves"
        assert cache.stats().breaker == "open"
    with server.client() as client:
        assert stored(client) == 0
