"""A process that works for a job: it is given one task, says how far it is, and at last what came of it.

`converse` is the app's side, called in a job's thread; `advising` is the other. What is said is a line of JSON each.
The process ends when its work does, when nobody wants that any longer, or when the app is gone, however that went: it
is told by SIGTERM and has `GRACE` seconds to put things in order, then SIGKILL ends it. That the app is gone it sees
by itself (`follow`), for one that was killed can tell nobody.
"""

from __future__ import annotations

import json
import logging
import os
import select
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from restaurant_otel.administration.jobs import FailedError, Report

logger = logging.getLogger(__name__)

GRACE: Final = 3.0
"""Seconds to put things in order: to cancel a query, to drop an index that is half made."""

LARGEST: Final = 4_194_304
"""Bytes that are listened to."""

_LOOK: Final = 0.25
"""Seconds between two looks whether the work is still wanted."""


# --- the app's side ----------------------------------------------------------------------------------


def converse(
    command: Sequence[str], task: dict[str, Any], report: Report, most: float | None
) -> dict[str, Any]:
    """The outcome of `task`, done by `command` within `most` seconds.

    Raises FailedError, whose message is fit to be shown, and whatever `report` raises; the process has ended then.
    """
    until = None if most is None else time.monotonic() + most
    progress, step, outcome = 0.0, "", None
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:  # noqa: S603 - our own
        try:
            for line in _lines(process, {"parent": os.getpid(), **task}):
                said = _read(line) if line is not None else {}
                progress, step = said.get("progress", progress), said.get("step", step)
                outcome = said.get("outcome", outcome)
                report(progress, step)
                if until is not None and time.monotonic() > until:
                    raise FailedError(f"It took more than {most:g} s.")
        finally:
            _end(process)
    if outcome is None:
        raise FailedError("The index advisor ended without an answer.")
    if "error" in outcome:
        raise FailedError(outcome["error"])
    return dict(outcome)


def python() -> str:
    """The interpreter's program: servers that embed Python call themselves ``sys.executable``."""
    if Path(sys.executable).name.startswith(("python", "pypy")):
        return sys.executable
    return str(Path(sys.prefix, "bin", "python"))


def _lines(process: subprocess.Popen[bytes], task: dict[str, Any]) -> Iterator[bytes | None]:
    """The lines that `process` says until it has nothing to say any more; None now and then meanwhile."""
    assert process.stdin is not None  # noqa: S101 - for the type checker
    assert process.stdout is not None  # noqa: S101
    assert process.stderr is not None  # noqa: S101
    with suppress(BrokenPipeError):  # it has ended: why, it says
        process.stdin.write(json.dumps(task).encode() + b"\n")
        process.stdin.flush()  # and stays open: that is how the process sees us
    heard, complaints, left = b"", b"", LARGEST
    with selectors.DefaultSelector() as both:
        both.register(process.stdout, selectors.EVENT_READ)
        both.register(process.stderr, selectors.EVENT_READ)
        while both.get_map():
            yield None
            for key, _ in both.select(_LOOK):
                data = os.read(key.fd, 65_536)
                if not data:
                    both.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    complaints = (complaints + data)[-2_000:]
                else:
                    left -= len(data)
                    if left < 0:
                        raise FailedError("The index advisor has too much to say.")
                    *lines, heard = (heard + data).split(b"\n")
                    yield from lines
    if complaints.strip():
        logger.warning("the index advisor says: %s", complaints.decode(errors="replace").strip())


def _read(line: bytes) -> dict[str, Any]:
    with suppress(ValueError):
        said = json.loads(line)
        if isinstance(said, dict):
            return said
    return {}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(BrokenPipeError):  # what it has not read
        process.stdin.close()  # type: ignore[union-attr]
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()


# --- the process's side ------------------------------------------------------------------------------


def follow(parent: int) -> None:
    """End when the process `parent`, which holds our standard input, is gone; and by SIGTERM as by Ctrl-C.

    For the main thread of a process that has read its task: from now on standard input says nothing but that.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _watch(parent: int) -> None:
    # A process forked from the parent may hold the other end of the pipe as well: so both are looked at.
    while os.getppid() == parent:
        readable, _, _ = select.select([0], [], [], 1.0)
        if readable and not os.read(0, 4096):
            break
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)
