"""Pressure stall information: for how long tasks had to wait for CPU, memory or disks.

Source: https://docs.kernel.org/accounting/psi.html. Absent on kernels before 4.20 and where it is switched off.
"""

from __future__ import annotations

import re
from typing import Final

from restaurant_otel import catalog
from restaurant_otel.usage.cgroups import Cgroups
from restaurant_otel.usage.files import Files
from restaurant_otel.usage.readings import HostReading
from restaurant_otel.usage.sheet import Sheet

_RESOURCES: Final = ("cpu", "memory", "io")
_LINE: Final = re.compile(rb"(some|full) avg10=([\d.]+) .*total=(\d+)")


class Pressure:
    """Collects the pressure on a host and on its container."""

    def __init__(self, files: Files, cgroups: Cgroups) -> None:
        self._files = files
        self._cgroups = cgroups

    def collect(self, sheet: Sheet, reading: HostReading) -> None:  # noqa: ARG002 - the shape of a collector
        """See `Collector`."""
        container = self._cgroups.unified()
        for resource in _RESOURCES:
            self._put(sheet, f"/proc/pressure/{resource}", resource, "host")
            if container is not None:
                self._put(sheet, f"{container}/{resource}.pressure", resource, "container")

    def _put(self, sheet: Sheet, path: str, resource: str, scope: str) -> None:
        for kind, share, total in _LINE.findall(self._files.read(path) or b""):
            if (resource, kind, scope) == ("cpu", b"full", "host"):
                continue  # undefined, and always zero
            labels = (resource, kind.decode(), scope)
            sheet.put(catalog.PRESSURE_STALLED_TIME, int(total) / 1e6, *labels)
            sheet.put(catalog.PRESSURE_STALLED_SHARE, float(share) / 100, *labels)
