"""The host's memory and paging, from ``/proc/meminfo`` and ``/proc/vmstat``."""

from __future__ import annotations

from restaurant_otel import catalog
from restaurant_otel.usage.files import Files, number_after
from restaurant_otel.usage.readings import HostReading
from restaurant_otel.usage.sheet import Sheet


class Memory:
    """Collects memory and swap of a host.

    Used is what is neither free nor a cache that can be given up, so that the states add up to the whole. Shared
    memory and tmpfs are in the kernel's ``Cached``, but cannot be given up: they count as used.
    """

    def __init__(self, files: Files) -> None:
        self._files = files

    def collect(self, sheet: Sheet, reading: HostReading) -> None:
        """See `Collector`."""
        meminfo = self._files.read("/proc/meminfo")
        if meminfo is not None:
            self._memory(meminfo, sheet, reading)
            self._swap(meminfo, sheet)
        vmstat = self._files.read("/proc/vmstat")
        if vmstat is not None:
            self._paging(vmstat, sheet)

    def _memory(self, meminfo: bytes, sheet: Sheet, reading: HostReading) -> None:
        total, free = _bytes(meminfo, b"MemTotal:"), _bytes(meminfo, b"MemFree:")
        if not total or free is None:
            return
        buffers = _bytes(meminfo, b"Buffers:") or 0
        cached = (_bytes(meminfo, b"Cached:") or 0) + (_bytes(meminfo, b"SReclaimable:") or 0)
        cached = max(0, cached - (_bytes(meminfo, b"Shmem:") or 0))
        states = {"free": free, "buffers": buffers, "cached": cached}
        states["used"] = max(0, total - sum(states.values()))
        sheet.put(catalog.SYSTEM_MEMORY_LIMIT, total)
        for state, size in states.items():
            sheet.put(catalog.SYSTEM_MEMORY_USAGE, size, state)
            sheet.put(catalog.SYSTEM_MEMORY_UTILIZATION, size / total, state)
        available = _bytes(meminfo, b"MemAvailable:")
        sheet.put_if(catalog.SYSTEM_MEMORY_AVAILABLE, available)
        reading.host_memory = total
        reading.host_memory_available = free + buffers + cached if available is None else available

    def _swap(self, meminfo: bytes, sheet: Sheet) -> None:
        total, free = _bytes(meminfo, b"SwapTotal:"), _bytes(meminfo, b"SwapFree:")
        if total and free is not None:
            for state, size in (("used", total - free), ("free", free)):
                sheet.put(catalog.SYSTEM_PAGING_USAGE, size, state)
                sheet.put(catalog.SYSTEM_PAGING_UTILIZATION, size / total, state)

    def _paging(self, vmstat: bytes, sheet: Sheet) -> None:
        faults, major = number_after(vmstat, b"pgfault "), number_after(vmstat, b"pgmajfault ")
        if faults is not None and major is not None:
            sheet.put(catalog.SYSTEM_PAGING_FAULTS, faults - major, "minor")
            sheet.put(catalog.SYSTEM_PAGING_FAULTS, major, "major")
        sheet.put_if(catalog.SYSTEM_PAGING_OPERATIONS, number_after(vmstat, b"pswpin "), "in")
        sheet.put_if(catalog.SYSTEM_PAGING_OPERATIONS, number_after(vmstat, b"pswpout "), "out")


def _bytes(meminfo: bytes, word: bytes) -> int | None:
    kibibytes = number_after(meminfo, word)
    return None if kibibytes is None else kibibytes * 1024
