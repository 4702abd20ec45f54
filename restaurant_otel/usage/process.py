"""The worker itself: CPU, memory, threads, descriptors, switches, disks, from ``getrusage`` and ``/proc/self``.

What `getrusage` tells costs a microsecond and is exact to one, where ``/proc/self/stat`` counts in ticks of 10 ms.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

from restaurant_otel import catalog
from restaurant_otel.usage.files import Files, number_after
from restaurant_otel.usage.readings import ProcessReading
from restaurant_otel.usage.sheet import Rate, Sheet

_MOST_THREADS: Final = 32
"""With more threads than this the time in the run queue is not told: it takes a file for each."""

_UNIQUE_EVERY: Final = 8
_UNIQUE_SECONDS: Final = 0.002
"""The kernel walks all of a process's pages to tell USS: every eighth time, and never again once it took this long."""


class Process:
    """Collects this process. `cpus` tells how many CPUs it may use: the denominator of its utilisation."""

    def __init__(self, files: Files, cpus: Callable[[], float]) -> None:
        self._files = files
        self._cpus = cpus
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._user, self._system = Rate(), Rate()
        self._round = 0
        self._unique: int | None = None
        self._unique_is_cheap = True
        self._waited: dict[str, int] = {}
        self._waited_in_all = 0

    def collect(self, sheet: Sheet, reading: ProcessReading) -> None:
        """See `Collector`."""
        self._usage(sheet, reading)
        stat = self._files.read("/proc/self/stat")
        if stat is not None:
            # Counted from the third field, the state; the name before it may hold anything.
            fields = stat.rpartition(b")")[2].split()
            reading.threads, reading.virtual = int(fields[17]), int(fields[20])
            reading.memory = int(fields[21]) * self._page
            sheet.put(catalog.PROCESS_THREADS, reading.threads)
            sheet.put(catalog.PROCESS_MEMORY_VIRTUAL, reading.virtual)
            sheet.put(catalog.PROCESS_MEMORY_USAGE, reading.memory)
            if hasattr(time, "CLOCK_BOOTTIME"):
                age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / self._ticks
                sheet.put(catalog.PROCESS_UPTIME, max(0.0, age))
        io = self._files.read("/proc/self/io")
        if io is not None:
            sheet.put_if(catalog.PROCESS_DISK_IO, number_after(io, b"read_bytes: "), "read")
            sheet.put_if(catalog.PROCESS_DISK_IO, number_after(io, b"write_bytes: "), "write")
        self._descriptors(sheet, reading)
        self._run_queue(sheet)
        self._unique_memory(sheet)

    def _usage(self, sheet: Sheet, reading: ProcessReading) -> None:
        import resource  # not above: Windows has none

        used = resource.getrusage(resource.RUSAGE_SELF)
        sheet.put(catalog.PROCESS_CPU_TIME, used.ru_utime, "user")
        sheet.put(catalog.PROCESS_CPU_TIME, used.ru_stime, "system")
        sheet.put(catalog.PROCESS_CONTEXT_SWITCHES, used.ru_nvcsw, "voluntary")
        sheet.put(catalog.PROCESS_CONTEXT_SWITCHES, used.ru_nivcsw, "involuntary")
        sheet.put(catalog.PROCESS_FAULTS, used.ru_minflt, "minor")
        sheet.put(catalog.PROCESS_FAULTS, used.ru_majflt, "major")
        user, system = self._user.of(used.ru_utime, sheet.now), self._system.of(used.ru_stime, sheet.now)
        if user is not None and system is not None:
            cpus = self._cpus()
            sheet.put(catalog.PROCESS_CPU_UTILIZATION, user / cpus, "user")
            sheet.put(catalog.PROCESS_CPU_UTILIZATION, system / cpus, "system")
            reading.cpu = user + system
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit != resource.RLIM_INFINITY:
            sheet.put(catalog.PROCESS_FILE_DESCRIPTOR_LIMIT, limit)

    def _descriptors(self, sheet: Sheet, reading: ProcessReading) -> None:
        path = self._files.path("/proc/self/fd")
        try:
            # Since Linux 6.2 their number is the folder's size; before that they are listed, and the list is one.
            count = os.stat(path).st_size or len(os.listdir(path)) - 1
        except OSError:
            return
        sheet.put(catalog.PROCESS_FILE_DESCRIPTORS, count)
        reading.descriptors = count

    def _run_queue(self, sheet: Sheet) -> None:
        """What threads that have ended had waited stays in the sum, up to the last look at them."""
        threads = self._files.names("/proc/self/task")
        if not 0 < len(threads) <= _MOST_THREADS:
            return
        waited = {}
        for thread in threads:
            told = (self._files.read_once(f"/proc/self/task/{thread}/schedstat") or b"").split()
            if len(told) == 3:
                now = waited[thread] = int(told[1])
                before = self._waited.get(thread, 0)
                self._waited_in_all += now - before if now >= before else now  # else another with its number
        self._waited = waited
        if waited:
            sheet.put(catalog.PROCESS_RUN_QUEUE_TIME, self._waited_in_all / 1e9)

    def _unique_memory(self, sheet: Sheet) -> None:
        if self._unique_is_cheap and self._round % _UNIQUE_EVERY == 0:
            began = time.perf_counter()
            rollup = self._files.read_once("/proc/self/smaps_rollup") or b""
            self._unique_is_cheap = time.perf_counter() - began < _UNIQUE_SECONDS
            clean, dirty = number_after(rollup, b"Private_Clean:"), number_after(rollup, b"Private_Dirty:")
            self._unique = None if clean is None or dirty is None else (clean + dirty) * 1024
        self._round += 1
        if self._unique_is_cheap:
            sheet.put_if(catalog.PROCESS_MEMORY_UNIQUE, self._unique)
