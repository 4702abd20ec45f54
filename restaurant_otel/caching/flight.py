"""One load under way, and what came of it, for all who wait in this process.

Who finds no flight for a name starts one and leads it; who finds one waits for it. A leader that was torn away
(cancelled, interrupted) abandons its flight and the waiters start over; only an error of the load itself
is theirs as well. Who may load across processes is another matter: see `lease` in `core`.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any


class Flight:
    """`landed` is set once; then `abandoned`, or `error`, or `value` tells."""

    __slots__ = ("abandoned", "error", "landed", "value")

    def __init__(self, landed: Any) -> None:
        self.landed = landed
        self.abandoned = False
        self.error: Exception | None = None
        self.value: Any = None


def join(flights: MutableMapping[str, Flight], name: str, event: Any) -> tuple[Flight, bool]:
    """The flight for `name`, and whether the caller is to lead it. `event` is for a new one."""
    new = Flight(event)
    flight = flights.setdefault(name, new)  # atomic: of several threads one leads
    return flight, flight is new


def land(flights: MutableMapping[str, Flight], name: str, flight: Flight) -> None:
    """The leader is done, whatever came of it."""
    if flights.get(name) is flight:
        del flights[name]
    flight.landed.set()
