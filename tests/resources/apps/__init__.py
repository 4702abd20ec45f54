"""Apps whose workers can be made to burn, block, wait and forget, and tell what their observer has read."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
from pathlib import Path
from typing import Any

from restaurant_otel import resources

RELEASE = "TEST_RELEASE_FILE"
"""The variable that names the file whose coming ends `wait`: a request to end it might find no thread."""


def wait() -> str:
    """Hold a thread until the test lets go, or a minute at most."""
    given_up = time.monotonic() + 60
    while not Path(os.environ[RELEASE]).exists() and time.monotonic() < given_up:
        time.sleep(0.02)
    return "at last"


def burn(seconds: float) -> None:
    """Use CPU for so long."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def hold(seconds: float) -> None:
    """Hold the interpreter's lock for so long: no other thread of the process runs."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


def garbage() -> str:
    """Make some, a thousand rings, and have it collected."""
    for _ in range(1000):
        ring: list[Any] = []
        ring.append(ring)
    del ring
    gc.collect()
    return "collected"


def observed() -> dict[str, Any]:
    """What this worker's observer has read, by its own clock."""
    history = resources.history()
    return {
        "pid": os.getpid(),
        "threads": [thread.name for thread in threading.enumerate()],
        "process": [[reading.time, reading.event_loop_lag] for reading in history.process],
        "host": [[reading.time, reading.memory_limit] for reading in history.host],
    }
