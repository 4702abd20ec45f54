"""The container, or any other control group that this process was put into, and what it may use.

Absent where the process is in no group but the host's own root.
"""

from __future__ import annotations

import os

from restaurant_otel import catalog
from restaurant_otel.usage.cgroups import Cgroups
from restaurant_otel.usage.readings import HostReading
from restaurant_otel.usage.sheet import Rate, Sheet


class Container:
    """Collects the container. CPUs in use are measured since this collector's last look."""

    def __init__(self, cgroups: Cgroups) -> None:
        self._cgroups = cgroups
        self._cpu = Rate()

    def collect(self, sheet: Sheet, reading: HostReading) -> None:
        """See `Collector`."""
        if self._cgroups.exist:
            self._collect_cpu(sheet, reading)
            self._collect_memory(sheet, reading)
            self._collect_tasks(sheet)

    def _collect_cpu(self, sheet: Sheet, reading: HostReading) -> None:
        times = self._cgroups.cpu_time()
        for mode in ("user", "system"):
            sheet.put_if(catalog.CONTAINER_CPU_TIME, times.get(mode), mode)
        quota = self._cgroups.cpu_quota()
        sheet.put_if(catalog.CONTAINER_CPU_LIMIT, quota)
        reading.container_cpu_limit = quota
        used = self._cpu.of(times["total"], sheet.now) if times else None
        if used is not None:
            sheet.put(catalog.CONTAINER_CPU_USAGE, used)
            reading.container_cpu = used
            reading.container_cpu_utilization = used / min(quota or usable_cpus(), usable_cpus())
        throttling = self._cgroups.throttling()
        if throttling is not None:
            periods, throttled, seconds = throttling
            sheet.put(catalog.CONTAINER_CPU_PERIODS, throttled, True)
            sheet.put(catalog.CONTAINER_CPU_PERIODS, periods - throttled, False)
            sheet.put(catalog.CONTAINER_CPU_THROTTLED, seconds)

    def _collect_memory(self, sheet: Sheet, reading: HostReading) -> None:
        uses = self._cgroups.memory()
        if not uses:
            return
        own = uses[0]
        sheet.put(catalog.CONTAINER_MEMORY_USAGE, own.usage)
        sheet.put(catalog.CONTAINER_MEMORY_WORKING_SET, own.working_set)
        reading.container_memory = own.working_set
        limited = [(use.limit, use) for use in uses if use.limit]
        if limited:
            tightest = min(limit for limit, _ in limited)
            sheet.put(catalog.CONTAINER_MEMORY_LIMIT, tightest)
            left = min(limit - use.working_set for limit, use in limited)
            sheet.put(catalog.CONTAINER_MEMORY_AVAILABLE, max(0, left))
            reading.container_memory_limit = tightest
            reading.container_memory_utilization = max(use.working_set / limit for limit, use in limited)
        told = self._cgroups.memory_details(own.stat)
        sheet.put_if(catalog.CONTAINER_MEMORY_RSS, told.get("rss"))
        for kind in ("minor", "major"):
            sheet.put_if(catalog.CONTAINER_MEMORY_FAULTS, told.get(kind), kind)
        for event in ("high", "max", "oom", "oom_kill"):
            sheet.put_if(catalog.CONTAINER_MEMORY_EVENTS, told.get(event), event)

    def _collect_tasks(self, sheet: Sheet) -> None:
        current, limit = self._cgroups.tasks()
        sheet.put_if(catalog.CONTAINER_TASKS, current)
        sheet.put_if(catalog.CONTAINER_TASKS_LIMIT, limit)
        for direction, size in self._cgroups.disk().items():
            sheet.put(catalog.CONTAINER_DISK_IO, size, direction)


def usable_cpus() -> int:
    """The CPUs that this process may be run on: those of the host, or fewer by cpuset or affinity."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
