"""A real process with all it starts: its own session, its output kept, always stoppable as a whole.

For servers see `servers`, which knows their command lines; this module knows only processes.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import pytest

FIRST_PORT, LAST_PORT = 15000, 32000  # below the kernel's range for outgoing connections
_given: set[int] = set()
_dice = random.SystemRandom()  # no test seeds it: processes with one seed would be after the same ports


def free_port() -> int:
    """A loopback port that nobody listens on, and that this function gives to nobody else.

    Between the look and the server's own bind the port is free for anyone: no outgoing connection is given it, for it
    lies below the kernel's range for those; no other test of this process, for none is given twice; and none of a
    process beside this one under pytest-xdist, for each has a share of its own.
    """
    share, shares = _share()
    for _ in range(1000):
        port = _dice.randrange(FIRST_PORT + share, LAST_PORT, shares)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                _given.add(port)
                return port
    raise RuntimeError("no free loopback port found")


def _share() -> tuple[int, int]:
    """Which of how many processes of this test run this is, from pytest-xdist's variables."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    return int(worker.removeprefix("gw")), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def required(program: str) -> str:
    """The path of `program`; skips the test when it is not installed.

    With REQUIRE_SERVERS=1 in the environment it fails instead: nothing is skipped in silence
    where the set-up is meant to have installed everything.
    """
    path = shutil.which(program)
    if path is None:
        reason = f"{program} is not installed"
        if os.environ.get("REQUIRE_SERVERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


class Process:
    """A running command. `log` receives stdout and stderr, or stdout alone where `errors` is given for stderr."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        errors: Path | None = None,
    ) -> None:
        self.argv = list(argv)
        self.log = log
        with contextlib.ExitStack() as files:
            output = files.enter_context(log.open("wb"))
            self._popen = subprocess.Popen(
                self.argv,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if errors is None else files.enter_context(errors.open("wb")),
                start_new_session=True,  # a group of its own, so that it can be ended as a whole
            )

    @property
    def pid(self) -> int:
        """The main process's id, which is also its group's and session's."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether the main process runs."""
        return self._popen.poll() is None

    @property
    def exit_status(self) -> int | None:
        """The main process's exit status; negative: the signal that ended it; None while it runs."""
        return self._popen.poll()

    def output(self) -> str:
        """All that `log` has received so far."""
        return self.log.read_text(errors="replace")

    def children(self) -> list[int]:
        """Ids of the main process's living direct children."""
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.pid).children()
            return sorted(child.pid for child in found if child.status() != psutil.STATUS_ZOMBIE)
        return []

    def members(self) -> list[int]:
        """Ids of all living processes of the session, the main process included."""
        return sorted(p.pid for p in psutil.process_iter() if _session(p.pid) == self.pid and _alive(p))

    def signal(self, number: int) -> None:
        """Send a signal to the main process."""
        os.kill(self.pid, number)

    def wait(self, within: float) -> int:
        """Wait for the main process's end; its exit status. subprocess.TimeoutExpired when it runs on."""
        return self._popen.wait(within)

    def stop(self, within: float = 10.0) -> float:
        """End the main process by SIGTERM, then whatever is left of its session by SIGKILL.

        Returns the seconds until the main process ended by itself; `within` when it had to be killed.
        """
        began = time.monotonic()
        taken = within
        if self.running:
            self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(within)
            taken = time.monotonic() - began
        self.kill()
        return taken

    def kill(self) -> None:
        """End every process of the session by SIGKILL, now, and wait until they are gone."""
        deadline = time.monotonic() + 10
        while left := self.members():
            assert time.monotonic() < deadline, f"processes that SIGKILL does not end: {left}"
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._popen.poll()  # reap the main process
            time.sleep(0.01)  # a member may have forked while we looked: look again
        self._popen.wait(10)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return -1


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
