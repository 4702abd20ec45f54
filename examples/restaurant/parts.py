"""The processes of the demo: started with their output in a file, watched, and ended with all they started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import httpx

START_SECONDS = 30.0
END_SECONDS = 8.0
LAST_LINES = 20


class DemoError(Exception):
    """The demo cannot go on; the message says why, for whoever runs it."""


class Part:
    """A running program; made by `running`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    def check(self) -> None:
        """DemoError, with the program's last words, when it does not run any more."""
        if self._process.returncode is not None:
            raise self.error(f"ended with status {self._process.returncode}")

    def error(self, what: str) -> DemoError:
        """An error about this program, with its last words."""
        words = self._log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        return DemoError("\n".join([f"{self.name} {what}; its last output:", *(words or ["(none)"])]))

    async def answers(self, url: str, stop: asyncio.Event) -> None:
        """Wait until `url` answers (with anything) or `stop` is set; DemoError when neither comes."""
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        async with httpx.AsyncClient(trust_env=False) as http:
            while not stop.is_set():
                self.check()
                if asyncio.get_running_loop().time() > deadline:
                    raise self.error(f"did not answer within {START_SECONDS:.0f} s")
                with contextlib.suppress(httpx.TransportError):
                    await http.get(url)
                    return
                await asyncio.sleep(0.1)

    async def end(self) -> None:
        """SIGTERM, and SIGKILL for what has not ended in time; its children too."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), END_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()


@contextlib.asynccontextmanager
async def running(
    name: str, command: Sequence[str], env: Mapping[str, str], log: Path
) -> AsyncIterator[Part]:
    """Run `command` for as long as the context is open, in a session of its own.

    So Ctrl-C reaches only the demo itself, which then ends its parts in order.
    """
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    part = Part(name, process, log)
    try:
        yield part
    finally:
        await part.end()


def free_port(wanted: int = 0) -> int:
    """The loopback port `wanted`, or any for 0, that nobody listens on now; DemoError where it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server itself will do
        try:
            probe.bind(("127.0.0.1", wanted))
        except (OSError, OverflowError) as error:
            raise DemoError(f"PORT={wanted}: {error}") from error
        port: int = probe.getsockname()[1]
        return port
