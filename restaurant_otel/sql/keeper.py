"""What queries leave behind to be done: a daemon thread that saves notes, asks for plans and looks at pools.

It starts with the first thing to do, not before; a forked child gets its own. Nothing a request waits for.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from opentelemetry.instrumentation.utils import suppress_instrumentation

from restaurant_otel import forks
from restaurant_otel.errors import survived
from restaurant_otel.sql.notes import notes

MOST_JOBS: Final = 32
EVERY: Final = 5.0
"""Seconds between two looks at the pools."""


class Keeper:
    """Does jobs one after another, and `observe` every `EVERY` seconds. Any thread may call any method."""

    def __init__(self, observe: Callable[[], None]) -> None:
        self._observe = observe
        self._stopped = False
        self._in_child()
        forks.follow(in_child=self._in_child)

    def _in_child(self) -> None:
        self._jobs: deque[Callable[[], None]] = deque()
        self._starting = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """There are notes to save."""
        if self._thread is None and not self._stopped:
            self._start()
        self._wake.set()

    def do(self, job: Callable[[], None]) -> bool:
        """Do `job` soon; False if there is too much to do already."""
        if len(self._jobs) >= MOST_JOBS:
            return False
        self._jobs.append(job)
        self.wake()
        return True

    def stop(self) -> None:
        """End after the job in hand. Does not wait."""
        self._stopped = True
        self._jobs.clear()
        self._wake.set()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="restaurant-otel-sql", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._stopped:
            self._wake.wait(EVERY)
            self._wake.clear()
            try:
                with suppress_instrumentation():
                    self._observe()
                    notes.save()
                    while self._jobs:
                        self._jobs.popleft()()
                        notes.save()
            except Exception as error:  # noqa: BLE001 - the thread goes on with what comes next
                survived("sql keeper", error)
