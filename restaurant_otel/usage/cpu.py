"""The host's CPUs, load and uptime, from ``/proc/stat`` and ``/proc/loadavg``."""

from __future__ import annotations

import os
import time
from typing import Final

from restaurant_otel import catalog
from restaurant_otel.usage.files import Files
from restaurant_otel.usage.readings import HostReading
from restaurant_otel.usage.sheet import Sheet

_MODES: Final = ("user", "nice", "system", "idle", "iowait", "interrupt", "softirq", "steal")
"""The columns of the first line, as the semantic conventions call them. Guests' time is in `user` already."""

_IDLE: Final = (3, 4)
_MENDED: Final = 3.0
"""Seconds; the node exporter's bound for the same."""


class Cpu:
    """Collects the CPUs of a host. Shares are of the time since this collector's last look."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._before: list[int] | None = None

    def collect(self, sheet: Sheet, reading: HostReading) -> None:
        """See `Collector`."""
        stat = self._files.read("/proc/stat")
        if stat is not None:
            self._times(stat, sheet, reading)
        load = self._files.read("/proc/loadavg")
        if load is not None:
            one, five, fifteen = map(float, load.split(None, 3)[:3])
            sheet.put(catalog.SYSTEM_LOAD_1M, one)
            sheet.put(catalog.SYSTEM_LOAD_5M, five)
            sheet.put(catalog.SYSTEM_LOAD_15M, fifteen)
            reading.load = one
        if hasattr(time, "CLOCK_BOOTTIME"):
            sheet.put(catalog.SYSTEM_UPTIME, time.clock_gettime(time.CLOCK_BOOTTIME))

    def _times(self, stat: bytes, sheet: Sheet, reading: HostReading) -> None:
        times = [int(ticks) for ticks in stat[: stat.index(b"\n")].split()[1:9]]
        before = self._before if self._before is not None and len(self._before) == len(times) else None
        if before is not None:
            for i in _IDLE:
                # The kernel guesses these for a CPU that sleeps, and mends them downwards by a tick or two. A counter
                # that goes back looks like a restart, so it waits. A CPU that is taken out takes its time with it.
                if 0 < before[i] - times[i] < _MENDED * self._ticks:
                    times[i] = before[i]
        self._before = times
        cpus = stat.count(b"\ncpu")
        sheet.put(catalog.SYSTEM_CPU_LOGICAL_COUNT, cpus)
        reading.host_cpus = cpus
        for mode, ticks in zip(_MODES, times, strict=False):
            sheet.put(catalog.SYSTEM_CPU_TIME, ticks / self._ticks, mode)
        if before is None:
            return
        gained = [max(0, now - then) for now, then in zip(times, before, strict=True)]
        total = sum(gained)
        if total:
            for mode, ticks in zip(_MODES, gained, strict=False):
                sheet.put(catalog.SYSTEM_CPU_UTILIZATION, ticks / total, mode)
            reading.host_cpu = 1 - sum(gained[i] for i in _IDLE if i < len(gained)) / total
