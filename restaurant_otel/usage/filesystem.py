"""The host's file systems, by ``/proc/self/mountinfo`` and ``statvfs``.

By default those count that lie on a disk, each once, and the root whatever it is (an overlay, in a container).
Network file systems and FUSE do not: asking one that hangs would hang the observer. Of the places where one device
is mounted the shortest that shows all of it is named; bind mounts of single files, such as a container's
``/etc/hosts``, never are.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final

from restaurant_otel import catalog
from restaurant_otel.usage.files import Files
from restaurant_otel.usage.readings import HostReading
from restaurant_otel.usage.selection import Selection
from restaurant_otel.usage.sheet import Sheet

_READ_ONLY_IMAGES: Final = frozenset({"squashfs", "iso9660", "udf", "erofs", "cramfs"})
"""Always full."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of mountinfo: which part (`root`) of which device is seen at `point`."""

    number: str
    root: str
    point: str
    kind: str
    source: str


class FileSystem:
    """Collects the file systems of a host."""

    def __init__(self, files: Files, wanted: tuple[str, ...] | None) -> None:
        self._files = files
        self._wanted = wanted
        self._selection = Selection(wanted, lambda _: True)
        self._told: bytes | None = None
        self._mounts: list[Mount] = []

    def collect(self, sheet: Sheet, reading: HostReading) -> None:  # noqa: ARG002 - the shape of a collector
        """See `Collector`."""
        told = self._files.read("/proc/self/mountinfo")
        if told is None:
            return
        if told != self._told:
            self._told, self._mounts = told, self._choose(parse_mounts(told))
        for mount in self._mounts:
            try:
                found = os.statvfs(self._files.path(mount.point))
            except OSError:
                continue
            _put(sheet, mount, found)

    def _choose(self, mounts: list[Mount]) -> list[Mount]:
        chosen: dict[str, Mount] = {}
        for mount in sorted(mounts, key=lambda mount: (mount.root != "/", len(mount.point))):
            if self._wanted is None and not (mount.point == "/" or _on_a_disk(mount)):
                continue
            if not self._selection.has(mount.point) or not os.path.isdir(self._files.path(mount.point)):
                continue
            # btrfs gives each subvolume a device number of its own; what they share has one source.
            device = mount.source if mount.kind == "btrfs" else mount.number
            chosen.setdefault(device if self._wanted is None else mount.point, mount)
        return list(chosen.values())


def _on_a_disk(mount: Mount) -> bool:
    named = mount.source.startswith("/dev/") and not mount.source.startswith("/dev/loop")
    return (named or mount.kind == "zfs") and mount.kind not in _READ_ONLY_IMAGES and "fuse" not in mount.kind


def parse_mounts(mountinfo: bytes) -> list[Mount]:
    """The lines of mountinfo; see proc(5)."""
    mounts = []
    for line in mountinfo.decode("utf-8", "surrogateescape").splitlines():
        before, dash, after = line.partition(" - ")
        fields, more = before.split(" "), after.split(" ")
        if dash and len(fields) >= 6 and len(more) >= 2:
            mounts.append(Mount(fields[2], _plain(fields[3]), _plain(fields[4]), more[0], _plain(more[1])))
    return mounts


def _plain(text: str) -> str:
    r"""Spaces and the like come as octal numbers: ``\040``."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _put(sheet: Sheet, mount: Mount, found: os.statvfs_result) -> None:
    labels = (mount.source, mount.point, mount.kind)
    size = found.f_frsize
    total, free, available = found.f_blocks * size, found.f_bfree * size, found.f_bavail * size
    if not total:
        return
    used = total - free
    sheet.put(catalog.SYSTEM_FILESYSTEM_LIMIT, total, *labels)
    for state, amount in (("used", used), ("free", available), ("reserved", free - available)):
        sheet.put(catalog.SYSTEM_FILESYSTEM_USAGE, amount, state, *labels)
    if used + available:
        sheet.put(catalog.SYSTEM_FILESYSTEM_UTILIZATION, used / (used + available), *labels)
    if found.f_files:
        sheet.put(catalog.SYSTEM_FILESYSTEM_INODES, found.f_files - found.f_ffree, "used", *labels)
        sheet.put(catalog.SYSTEM_FILESYSTEM_INODES, found.f_ffree, "free", *labels)
