"""Something done again and again in a daemon thread, in this process and in those forked from it.

The push of metrics and the mirror of SDK instruments run on it. Not for work that a request waits for.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from restaurant_otel import forks


class Ticker:
    """Calls `tick` every `seconds` (infinity: never), and a last time when stopped. `tick` must not raise."""

    def __init__(self, name: str, seconds: float, tick: Callable[[], None]) -> None:
        self._name = name
        self._pause = None if seconds == math.inf else seconds
        self._tick = tick
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        forks.follow(in_child=self._in_child)

    def start(self) -> None:
        """Begin; forked children go on by themselves."""
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End for good, giving the last tick up to `timeout` seconds."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            self._tick()
        self._tick()

    def _in_child(self) -> None:
        stopped = self._stop.is_set()
        self._stop = threading.Event()  # the old one's lock may have been held at the fork
        if stopped:
            self._stop.set()
        elif self._thread is not None:
            self.start()
