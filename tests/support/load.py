"""A load generator that knows exactly how many of its requests were answered, and a watcher of scrapes.

    with Load(server.url, ["/items/1"], connections=8) as load, Watch(server) as watch:
        load.until(500)
        os.kill(worker, signal.SIGKILL)
        load.until(1000)
    assert load.answered <= counted <= load.answered + load.unanswered

Each request has a connection of its own, so that the kernel spreads them over the workers and none is sent
on a connection that the server is just closing. Both run in a thread; leaving the block waits for the
requests in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from tests.support import http
from tests.support.readings import Readings, skim
from tests.support.servers import OPENMETRICS, Server
from tests.support.wait import eventually


class Load:
    """GET requests for `paths` in turn, over `connections` at a time, until told to stop.

    `answered`: complete responses; `by_path`, `by_status`: the same, told apart. `unanswered`: requests that were
    sent and did not get a complete response; the server may have counted them or not. `refused`: connections that
    did not come about; certainly not counted.
    """

    def __init__(self, url: str, paths: Sequence[str], *, connections: int = 4) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname, address.port
        self._paths = itertools.cycle(paths)
        self._connections = connections
        self._stop = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._failure: BaseException | None = None
        self.answered = 0
        self.unanswered = 0
        self.refused = 0
        self.in_flight = 0
        self.by_status: Counter[int] = Counter()
        self.by_path: Counter[str] = Counter()

    def until(self, answered: int, within: float = 400.0) -> None:
        """Wait until at least so many requests have been answered."""
        eventually(
            lambda: self.answered >= answered or self._failure is not None,
            within=within,
            every=0.01,
            what=f"{answered} answers ({self.unanswered} unanswered, {self.refused} refused)",
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join(60)
        assert not self._thread.is_alive(), "the load generator hangs"
        if self._failure is not None:
            raise self._failure

    async def _run(self) -> None:
        try:
            await asyncio.gather(*(self._connection() for _ in range(self._connections)))
        except BaseException as failure:
            self._failure = failure

    async def _connection(self) -> None:
        while not self._stop:
            path = next(self._paths)
            try:
                reader, writer = await asyncio.open_connection(self._host, self._port)
            except OSError:
                self.refused += 1
                await asyncio.sleep(0.01)
                continue
            self.in_flight += 1
            try:
                status = await asyncio.wait_for(self._exchange(reader, writer, path), 30)
            except (OSError, EOFError, ValueError, TimeoutError):
                self.unanswered += 1
            else:
                self.answered += 1
                self.by_status[status] += 1
                self.by_path[path] += 1
            finally:
                self.in_flight -= 1
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> int:
        head = f"GET {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        headers = {n.lower(): v.strip() for n, _, v in (line.partition(b":") for line in lines[1:])}
        if b"content-length" in headers:
            await reader.readexactly(int(headers[b"content-length"]))
        elif not (await reader.read()).endswith(b"0\r\n\r\n"):
            raise EOFError("a body without its end")
        return int(lines[0].split()[1])


class Watch:
    """Scrapes /metrics again and again, each time from whichever worker answers, and compares with the last.

    `went_back` lists every counter that was seen below an earlier value, `scrapes` counts the successful ones,
    `failed` those that found no server (killed, reloading) or an error.
    """

    def __init__(self, server: Server, *, every: float = 0.1) -> None:
        self._url = server.url + "/metrics"
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.scrapes = 0
        self.failed: list[str] = []
        self.went_back: list[str] = []
        self.last = Readings()

    def until(self, scrapes: int, within: float = 30.0) -> None:
        """Wait for at least so many successful scrapes."""
        eventually(
            lambda: self.scrapes >= scrapes, within=within, what=f"{scrapes} scrapes; failed: {self.failed}"
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(40)
        assert not self._thread.is_alive(), "the watcher hangs"

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                answer = http.get(self._url, headers={"accept": OPENMETRICS})
            except httpx.TransportError as error:
                self.failed.append(repr(error))
            else:
                if answer.status_code == 200:
                    self._compare(skim(answer.text))
                else:
                    self.failed.append(f"status {answer.status_code}")
            time.sleep(self._every)

    def _compare(self, now: Readings) -> None:
        self.went_back += now.went_back(self.last)
        self.last = now
        self.scrapes += 1


def counted(readings: Readings, **labels: str) -> int:
    """Requests counted, by any of the duration metric's labels."""
    return int(readings.total("http_server_request_duration_seconds_count", **labels))


def settled(server: Server, at_least: int, **labels: Any) -> int:
    """Requests counted, once there are `at_least` so many and every one in flight has ended.

    A response reaches its client a moment before the server has counted it: the last ones are waited for.
    """

    def look() -> int:
        readings = server.glance()
        # The scrape itself is no request in flight: /metrics is not counted.
        in_flight = readings.series("http_server_active_requests")
        assert sum(in_flight.values()) == 0, f"in flight: {in_flight}"
        number = counted(readings, **labels)
        assert number >= at_least, f"{number} counted of {at_least}"
        return number

    return eventually(look, what=f"{at_least} requests counted")
