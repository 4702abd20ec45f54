"""Waiting for something that another process or thread is about to do: polling with a generous deadline.

Tests never sleep as synchronisation; they wait for what they are waiting for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import httpx

T = TypeVar("T")


def eventually(probe: Callable[[], T], *, within: float = 30.0, every: float = 0.05, what: str = "") -> T:
    """The first truthy result of `probe`, asked every `every` seconds; AssertionError after `within` seconds.

    AssertionError, OSError and httpx's TransportError (a server that goes) from the probe count as "not yet"; the
    last one is shown on failure, so a probe may simply assert.
    """
    deadline = time.monotonic() + within
    last: object = None
    while True:
        try:
            last = probe()
            if last:
                return last
        except (AssertionError, OSError, httpx.TransportError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what or probe!r}; last: {last!r}")
        time.sleep(every)
