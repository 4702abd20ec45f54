"""Requests to servers on this machine, without what a client pays for TLS that it does not speak.

`httpx.get` makes an SSL context and reads all certificate authorities into it, each time: 50 ms of a core, hundreds of
times in a run of the tests, and in the place of the server that is waited for.
"""

from __future__ import annotations

import ssl
from typing import Any

import httpx

PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""What to pass as `verify`: it trusts nobody, and nobody is asked."""


def request(method: str, url: str, *, timeout: float = 30.0, **options: Any) -> httpx.Response:
    """One request over a connection of its own; options as `httpx.request` has them."""
    return httpx.request(method, url, timeout=timeout, verify=PLAIN, trust_env=False, **options)


def get(url: str, **options: Any) -> httpx.Response:
    """GET."""
    return request("GET", url, **options)


def post(url: str, **options: Any) -> httpx.Response:
    """POST."""
    return request("POST", url, **options)


def answers(url: str, status: int | None = 200, *, timeout: float = 2.0) -> bool:
    """Whether there is an answer at `url`, with this status, or with any."""
    try:
        found = get(url, timeout=timeout).status_code
    except httpx.TransportError:
        return False
    return status is None or found == status


def client(base_url: str, *, timeout: float = 30.0, **options: Any) -> httpx.Client:
    """A client; options as `httpx.Client` has them."""
    return httpx.Client(base_url=base_url, timeout=timeout, verify=PLAIN, trust_env=False, **options)
