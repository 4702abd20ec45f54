"""Host and process where there is no ``/proc``: what psutil tells on macOS, Windows and the BSDs.

Slower than reading ``/proc``, and less: no pressure, no containers, no run queue. What psutil does not know on a
platform is absent.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any, Final

import psutil

from restaurant_otel import catalog
from restaurant_otel.usage.readings import HostReading, ProcessReading
from restaurant_otel.usage.selection import Selection
from restaurant_otel.usage.sheet import Rate, Sheet

_MODES: Final = ("user", "nice", "system", "idle", "iowait", "interrupt", "softirq", "steal")

_UNTOLD: Final = (AttributeError, NotImplementedError, OSError, psutil.Error, RuntimeError)
"""All the ways in which psutil says that a platform does not tell something."""


def memory_room() -> tuple[float, float] | None:
    """The host's memory and what is available of it, in bytes; None where nobody knows."""
    try:
        told = psutil.virtual_memory()
    except _UNTOLD:
        return None
    return told.total, told.available


class PortableHost:
    """Collects the host by psutil. `disks`, `interfaces`, `mounts`: patterns, None for all that is sensible."""

    def __init__(
        self,
        disks: tuple[str, ...] | None,
        interfaces: tuple[str, ...] | None,
        mounts: tuple[str, ...] | None,
    ) -> None:
        self._before: dict[str, float] | None = None
        self._disks = Selection(disks, lambda _: True)
        self._interfaces = Selection(interfaces, lambda name: not name.startswith(("lo", "Loopback")))
        self._mounts = Selection(mounts, lambda _: True)

    def collect(self, sheet: Sheet, reading: HostReading) -> None:
        """See `Collector`."""
        for part in (self._cpu, self._load, self._memory, self._disk, self._filesystem, self._network):
            with contextlib.suppress(*_UNTOLD):
                part(sheet, reading)
        with contextlib.suppress(*_UNTOLD):
            sheet.put(catalog.SYSTEM_PROCESS_COUNT, len(psutil.pids()))

    def _cpu(self, sheet: Sheet, reading: HostReading) -> None:
        told = psutil.cpu_times()
        times = {mode: float(getattr(told, mode)) for mode in _MODES if hasattr(told, mode)}
        for mode, seconds in times.items():
            sheet.put(catalog.SYSTEM_CPU_TIME, seconds, mode)
        before, self._before = self._before, times
        gained = (
            {mode: max(0.0, seconds - before.get(mode, 0.0)) for mode, seconds in times.items()}
            if before
            else {}
        )
        total = sum(gained.values())
        if total:
            for mode, seconds in gained.items():
                sheet.put(catalog.SYSTEM_CPU_UTILIZATION, seconds / total, mode)
            reading.host_cpu = 1 - (gained.get("idle", 0.0) + gained.get("iowait", 0.0)) / total
        reading.host_cpus = os.cpu_count()
        sheet.put_if(catalog.SYSTEM_CPU_LOGICAL_COUNT, reading.host_cpus)
        sheet.put(catalog.SYSTEM_UPTIME, max(0.0, time.time() - psutil.boot_time()))

    def _load(self, sheet: Sheet, reading: HostReading) -> None:
        one, five, fifteen = os.getloadavg()
        sheet.put(catalog.SYSTEM_LOAD_1M, one)
        sheet.put(catalog.SYSTEM_LOAD_5M, five)
        sheet.put(catalog.SYSTEM_LOAD_15M, fifteen)
        reading.load = one

    def _memory(self, sheet: Sheet, reading: HostReading) -> None:
        told = psutil.virtual_memory()
        # Of macOS's inactive memory and Windows's standby lists psutil tells only what is available in all.
        states = {"used": told.total - told.available, "free": told.available}
        sheet.put(catalog.SYSTEM_MEMORY_LIMIT, told.total)
        for state, size in states.items():
            sheet.put(catalog.SYSTEM_MEMORY_USAGE, size, state)
            sheet.put(catalog.SYSTEM_MEMORY_UTILIZATION, size / told.total, state)
        reading.host_memory, reading.host_memory_available = told.total, told.available
        swap = psutil.swap_memory()
        if swap.total:
            for state, size in (("used", swap.used), ("free", swap.free)):
                sheet.put(catalog.SYSTEM_PAGING_USAGE, size, state)
                sheet.put(catalog.SYSTEM_PAGING_UTILIZATION, size / swap.total, state)

    def _disk(self, sheet: Sheet, reading: HostReading) -> None:
        told = {
            name: disk
            for name, disk in (psutil.disk_io_counters(perdisk=True) or {}).items()
            if self._disks.has(name)
        }
        for name, disk in told.items():
            sheet.put(catalog.SYSTEM_DISK_IO, disk.read_bytes, "read", name)
            sheet.put(catalog.SYSTEM_DISK_IO, disk.write_bytes, "write", name)
            sheet.put(catalog.SYSTEM_DISK_OPERATIONS, disk.read_count, "read", name)
            sheet.put(catalog.SYSTEM_DISK_OPERATIONS, disk.write_count, "write", name)
        if told:
            reading.disk_read = sum(disk.read_bytes for disk in told.values())
            reading.disk_written = sum(disk.write_bytes for disk in told.values())

    def _filesystem(self, sheet: Sheet, reading: HostReading) -> None:  # noqa: ARG002 - the shape of the parts
        seen = set()
        for part in psutil.disk_partitions(all=False):
            if part.device in seen or not self._mounts.has(part.mountpoint):
                continue
            seen.add(part.device)
            with contextlib.suppress(OSError):
                told = psutil.disk_usage(part.mountpoint)
                labels = (part.device, part.mountpoint, part.fstype)
                sheet.put(catalog.SYSTEM_FILESYSTEM_LIMIT, told.total, *labels)
                sheet.put(catalog.SYSTEM_FILESYSTEM_USAGE, told.used, "used", *labels)
                sheet.put(catalog.SYSTEM_FILESYSTEM_USAGE, told.free, "free", *labels)
                if told.used + told.free:
                    share = told.used / (told.used + told.free)
                    sheet.put(catalog.SYSTEM_FILESYSTEM_UTILIZATION, share, *labels)

    def _network(self, sheet: Sheet, reading: HostReading) -> None:
        received = sent = 0
        for name, told in psutil.net_io_counters(pernic=True).items():
            if not self._interfaces.has(name):
                continue
            for direction, size, packets, faults, dropped in (
                ("receive", told.bytes_recv, told.packets_recv, told.errin, told.dropin),
                ("transmit", told.bytes_sent, told.packets_sent, told.errout, told.dropout),
            ):
                sheet.put(catalog.SYSTEM_NETWORK_IO, size, direction, name)
                sheet.put(catalog.SYSTEM_NETWORK_PACKETS, packets, direction, name)
                sheet.put(catalog.SYSTEM_NETWORK_ERRORS, faults, direction, name)
                sheet.put(catalog.SYSTEM_NETWORK_DROPPED, dropped, direction, name)
            received += told.bytes_recv
            sent += told.bytes_sent
        reading.network_received, reading.network_sent = received, sent


class PortableProcess:
    """Collects this process by psutil. `cpus` tells how many CPUs it may use."""

    def __init__(self, cpus: Callable[[], float]) -> None:
        self._cpus = cpus
        self._process: Any = psutil.Process()
        self._user, self._system = Rate(), Rate()

    def collect(self, sheet: Sheet, reading: ProcessReading) -> None:
        """See `Collector`."""
        for part in (self._cpu, self._memory, self._counts):
            with contextlib.suppress(*_UNTOLD):
                part(sheet, reading)
        with contextlib.suppress(*_UNTOLD):
            switches = self._process.num_ctx_switches()
            sheet.put(catalog.PROCESS_CONTEXT_SWITCHES, switches.voluntary, "voluntary")
            sheet.put(catalog.PROCESS_CONTEXT_SWITCHES, switches.involuntary, "involuntary")
        with contextlib.suppress(*_UNTOLD):
            io = self._process.io_counters()
            sheet.put(catalog.PROCESS_DISK_IO, io.read_bytes, "read")
            sheet.put(catalog.PROCESS_DISK_IO, io.write_bytes, "write")

    def _cpu(self, sheet: Sheet, reading: ProcessReading) -> None:
        told = self._process.cpu_times()
        sheet.put(catalog.PROCESS_CPU_TIME, told.user, "user")
        sheet.put(catalog.PROCESS_CPU_TIME, told.system, "system")
        user, system = self._user.of(told.user, sheet.now), self._system.of(told.system, sheet.now)
        if user is not None and system is not None:
            sheet.put(catalog.PROCESS_CPU_UTILIZATION, user / self._cpus(), "user")
            sheet.put(catalog.PROCESS_CPU_UTILIZATION, system / self._cpus(), "system")
            reading.cpu = user + system

    def _memory(self, sheet: Sheet, reading: ProcessReading) -> None:
        told = self._process.memory_info()
        reading.memory, reading.virtual = told.rss, told.vms
        sheet.put(catalog.PROCESS_MEMORY_USAGE, told.rss)
        sheet.put(catalog.PROCESS_MEMORY_VIRTUAL, told.vms)

    def _counts(self, sheet: Sheet, reading: ProcessReading) -> None:
        reading.threads = self._process.num_threads()
        sheet.put_if(catalog.PROCESS_THREADS, reading.threads)
        sheet.put(catalog.PROCESS_UPTIME, max(0.0, time.time() - self._process.create_time()))
        reading.descriptors = self._process.num_fds()  # last: Windows has none
        sheet.put_if(catalog.PROCESS_FILE_DESCRIPTORS, reading.descriptors)
