"""How many processes and threads the host has, from ``/proc/stat`` and the numbers in ``/proc``.

Not what each is doing: that would take a file a process.
"""

from __future__ import annotations

from typing import Final

from restaurant_otel import catalog
from restaurant_otel.usage.files import Files, number_after
from restaurant_otel.usage.readings import HostReading
from restaurant_otel.usage.sheet import Sheet

_COUNT_EVERY: Final = 4
"""Listing all processes takes as long as half of all else, and longer where there are thousands."""


class Processes:
    """Collects the processes of a host, as far as they can be seen from here."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._round = 0
        self._seen = 0

    def collect(self, sheet: Sheet, reading: HostReading) -> None:  # noqa: ARG002 - the shape of a collector
        """See `Collector`."""
        if self._round % _COUNT_EVERY == 0:
            self._seen = sum(map(str.isdigit, self._files.names("/proc")))
        self._round += 1
        if self._seen:
            sheet.put(catalog.SYSTEM_PROCESS_COUNT, self._seen)
        stat = self._files.read("/proc/stat")
        if stat is not None:
            sheet.put_if(catalog.SYSTEM_PROCESS_CREATED, number_after(stat, b"processes "))
            sheet.put_if(catalog.SYSTEM_THREADS, number_after(stat, b"procs_running "), "running")
            sheet.put_if(catalog.SYSTEM_THREADS, number_after(stat, b"procs_blocked "), "blocked")
