"""Documents by URL from servers that are not trusted to be quick, small or right.

A fetch has a deadline for the whole of it, and a limit in bytes; it follows no redirect, and knows only HTTP.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

SECONDS: Final = 3.0
"""How long a fetch may take."""


class AnsweredError(ValueError):
    """The server has answered with another `status` than 200."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the server answers {status}")
        self.status = status


def fetch(url: str, most: int, accept: str = "application/json") -> bytes:
    """The document at `url`, of `most` bytes, within `SECONDS`. Raises OSError, HTTPException, ValueError."""
    began = time.monotonic()
    parts = urlsplit(url)
    context = ssl.create_default_context() if parts.scheme == "https" else None
    host, port = parts.hostname or "", parts.port or (80 if context is None else 443)
    plain = socket.create_connection((host, port), SECONDS)
    # Time-outs are for one read, of which a slow server makes thousands. A second handle on the socket ends them all,
    # also those in the middle of a TLS handshake, and after `http.client` has let go of its own.
    handle = plain.dup()
    deadline = threading.Timer(max(0.0, began + SECONDS - time.monotonic()), _give_up, (handle,))
    deadline.daemon = True
    deadline.start()
    connection = http.client.HTTPConnection(host, port)
    if context is not None:
        connection = http.client.HTTPSConnection(host, port, context=context)
    connection.sock = plain
    try:
        if context is not None:
            connection.sock = context.wrap_socket(plain, server_hostname=host)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"Accept": accept})
        answer = connection.getresponse()
        if answer.status != 200:
            raise AnsweredError(answer.status)
        document = answer.read(most + 1)
        if len(document) > most:
            raise ValueError(f"the answer is more than {most} bytes")
        return document
    finally:
        deadline.cancel()
        connection.close()
        handle.close()


def _give_up(handle: socket.socket) -> None:
    with suppress(OSError):  # over and closed meanwhile
        handle.shutdown(socket.SHUT_RDWR)
