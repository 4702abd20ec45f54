"""Where memory grows, by line of code: `tracemalloc`, started when an operator asks, and never else.

Tracing makes every allocation slower and takes memory itself. So it ends by itself when nobody has looked for a while.
"""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import dataclass
from typing import Final

from restaurant_otel import forks

MOST_SECONDS: Final = 3600.0
"""After this long without another look tracing ends."""


@dataclass(frozen=True, slots=True)
class Growth:
    """A line of code, the bytes by which what it allocated has grown, and how many blocks more that is."""

    file: str
    line: int
    size: int
    count: int


@dataclass(frozen=True, slots=True)
class LeakSnapshot:
    """What has grown in `seconds`, the most first. `began`: tracing has only begun now, so look again later."""

    began: bool
    seconds: float
    growth: tuple[Growth, ...] = ()


class Tracer:
    """Begins to trace at the first look, and compares with that at each later one. Any thread."""

    def __init__(self) -> None:
        self._lock = forks.Lock()
        self._baseline: tracemalloc.Snapshot | None = None
        self._since = 0.0
        self._looked = 0.0

    def look(self, top: int = 20) -> LeakSnapshot:
        """The `top` lines of code whose memory has grown the most since tracing began.

        Takes up to a second or two in a large process. The host app's own tracing, if there is some, is used and
        left on.
        """
        with self._lock:
            now = self._looked = time.monotonic()
            if self._baseline is None or not tracemalloc.is_tracing():
                self._ours = not tracemalloc.is_tracing()
                if self._ours:
                    tracemalloc.start()
                self._baseline, self._since = _snapshot(), now
                return LeakSnapshot(True, 0.0)
            differences = _snapshot().compare_to(self._baseline, "lineno")
            grown = sorted(differences, key=lambda found: found.size_diff, reverse=True)[: max(0, top)]
            growth = tuple(
                Growth(
                    found.traceback[0].filename, found.traceback[0].lineno, found.size_diff, found.count_diff
                )
                for found in grown
                if found.size_diff > 0
            )
            return LeakSnapshot(False, now - self._since, growth)

    def stop(self) -> None:
        """End tracing, if this began it."""
        with self._lock:
            self._stop()

    def stop_if_forgotten(self) -> None:
        """End tracing when nobody has looked for `MOST_SECONDS`."""
        if self._baseline is not None:
            with self._lock:
                if time.monotonic() - self._looked > MOST_SECONDS:
                    self._stop()

    def _stop(self) -> None:
        if self._baseline is not None and self._ours and tracemalloc.is_tracing():
            tracemalloc.stop()
        self._baseline = None

    _ours = False


def _snapshot() -> tracemalloc.Snapshot:
    leave_out = (tracemalloc.Filter(False, tracemalloc.__file__), tracemalloc.Filter(False, __file__))
    return tracemalloc.take_snapshot().filter_traces(leave_out)


tracer: Final = Tracer()
"""The process's: tracing is one for all."""
