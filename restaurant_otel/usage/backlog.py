"""Connections that wait to be accepted by this worker's server, where the platform tells (Linux, TCP).

For a listening socket the kernel's `tcp_info` holds the length of its queue and the most there may be. Listening
sockets are looked for among the low file descriptors, now and then: servers open them early, some of them before the
app has started and some right after it.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from restaurant_otel import catalog
from restaurant_otel.usage.files import Files
from restaurant_otel.usage.readings import ProcessReading
from restaurant_otel.usage.sheet import Sheet

_LOOK_EVERY: Final = 20
_MOST_DESCRIPTORS: Final = 256
_MOST_SOCKETS: Final = 16
_QUEUE: Final = struct.Struct(
    "=24xII"
)  # tcpi_unacked and tcpi_sacked, which a listening socket uses for these


class Backlog:
    """Collects the accept queues of this worker's listening sockets."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._round = 0
        self._listening: list[int] = []

    def collect(self, sheet: Sheet, reading: ProcessReading) -> None:  # noqa: ARG002 - the shape of a collector
        """See `Collector`."""
        # With a default timeout Python would make the server's own socket non-blocking by looking at it.
        if not hasattr(socket, "TCP_INFO") or socket.getdefaulttimeout() is not None:
            return
        # At rounds 0, 1, 2, 4, 8, 16, 20, 32, 40, ...
        if self._round % _LOOK_EVERY == 0 or self._round & (self._round - 1) == 0:
            names = sorted(int(name) for name in self._files.names("/proc/self/fd") if name.isdigit())
            self._listening = [fd for fd in names[:_MOST_DESCRIPTORS] if _queue(fd)][:_MOST_SOCKETS]
        self._round += 1
        ports: dict[int, tuple[int, int]] = {}
        for descriptor in self._listening:
            found = _queue(descriptor)
            if found is not None:
                port, waiting, limit = found
                ports[port] = max(ports.get(port, (0, 0)), (waiting, limit))
        for port, (waiting, limit) in ports.items():
            sheet.put(catalog.SERVER_BACKLOG, waiting, port)
            sheet.put(catalog.SERVER_BACKLOG_LIMIT, limit, port)


def _queue(descriptor: int) -> tuple[int, int, int] | None:
    """Port, length and limit of a listening socket's queue; None for any other descriptor."""
    try:
        looked_at = socket.socket(fileno=descriptor)
    except OSError:
        return None
    try:
        if looked_at.family not in (socket.AF_INET, socket.AF_INET6) or looked_at.type != socket.SOCK_STREAM:
            return None
        if not looked_at.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return None
        waiting, limit = _QUEUE.unpack_from(looked_at.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104))
        return looked_at.getsockname()[1], waiting, limit
    except OSError:
        return None
    finally:
        looked_at.detach()  # it is the server's, and stays open
