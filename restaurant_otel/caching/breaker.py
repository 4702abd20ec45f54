"""Whether Redis may be called: closed (yes), open (no, use memory), half-open (one probe is under way).

One failure opens it: each further try would cost its caller a time-out, and the probe that tells when
Redis is back is made in the background (`maintenance`), never by a caller. `epoch` changes with every
opening and closing, so that whoever began an operation before can tell.

Pure state under the caller's lock; no clock, no I/O, no telemetry.
"""

from __future__ import annotations

import random
from enum import IntEnum
from typing import Final

FIRST_DELAY: Final = 0.25
LONGEST_DELAY: Final = 1.0


class State(IntEnum):
    """As the metric `restaurant.cache.breaker.state` shows it."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Breaker:
    """The state, and when to look again. `is_closed` is read by every call, without the lock."""

    __slots__ = ("_failed_probes", "epoch", "is_closed", "state")

    def __init__(self) -> None:
        self.state = State.CLOSED
        self.is_closed = True
        self.epoch = 0
        self._failed_probes = 0

    def trip(self) -> bool:
        """A call failed; whether that opened it."""
        if not self.is_closed:
            return False
        self.state = State.OPEN
        self.is_closed = False
        self.epoch += 1
        self._failed_probes = 0
        return True

    def delay(self) -> float:
        """Seconds to wait before the next probe: doubling up to a bound, and spread so that workers do not march."""
        longest: float = min(FIRST_DELAY * 2**self._failed_probes, LONGEST_DELAY)
        return longest * random.uniform(0.75, 1.0)  # noqa: S311 - no secret

    def probe(self) -> None:
        """The one prober begins."""
        self.state = State.HALF_OPEN

    def probe_failed(self) -> None:
        """Redis is still away."""
        self.state = State.OPEN
        self._failed_probes = min(self._failed_probes + 1, 10)

    def close(self) -> None:
        """Redis is back, and has been told all it missed."""
        self.state = State.CLOSED
        self.epoch += 1
        self.is_closed = True
