"""The host's disks, from ``/proc/diskstats``.

By default whole disks count: no partitions, no loop or RAM devices, and nothing that is made of other disks (device
mapper, RAID), whose transfers would be counted twice.
"""

from __future__ import annotations

from typing import Final

from restaurant_otel import catalog
from restaurant_otel.usage.files import Files
from restaurant_otel.usage.readings import HostReading
from restaurant_otel.usage.selection import Selection
from restaurant_otel.usage.sheet import Sheet

_SECTOR: Final = 512
"""Whatever a disk's own sectors are: the kernel counts in these."""

_NO_DISKS: Final = ("loop", "ram", "zram", "sr", "fd", "dm-", "md", "drbd")


class Disk:
    """Collects the disks of a host."""

    def __init__(self, files: Files, wanted: tuple[str, ...] | None) -> None:
        self._files = files
        self._selection = Selection(wanted, self._is_whole_disk)

    def _is_whole_disk(self, name: str) -> bool:
        return not name.startswith(_NO_DISKS) and self._files.exists(f"/sys/block/{name}")

    def collect(self, sheet: Sheet, reading: HostReading) -> None:
        """See `Collector`."""
        diskstats = self._files.read("/proc/diskstats")
        if diskstats is None:
            return
        read = written = 0
        for line in diskstats.splitlines():
            fields = line.split(None, 13)
            name = fields[2].decode("ascii", "replace") if len(fields) > 13 else ""
            if not name or not self._selection.has(name):
                continue
            reads, sectors_read, reading_ms = int(fields[3]), int(fields[5]), int(fields[6])
            writes, sectors_written, writing_ms = int(fields[7]), int(fields[9]), int(fields[10])
            sheet.put(catalog.SYSTEM_DISK_IO, sectors_read * _SECTOR, "read", name)
            sheet.put(catalog.SYSTEM_DISK_IO, sectors_written * _SECTOR, "write", name)
            sheet.put(catalog.SYSTEM_DISK_OPERATIONS, reads, "read", name)
            sheet.put(catalog.SYSTEM_DISK_OPERATIONS, writes, "write", name)
            sheet.put(catalog.SYSTEM_DISK_OPERATION_TIME, reading_ms / 1000, "read", name)
            sheet.put(catalog.SYSTEM_DISK_OPERATION_TIME, writing_ms / 1000, "write", name)
            sheet.put(catalog.SYSTEM_DISK_IO_TIME, int(fields[12]) / 1000, name)
            read += sectors_read * _SECTOR
            written += sectors_written * _SECTOR
        reading.disk_read, reading.disk_written = read, written
