"""What one look at the host, and one at this process, has found: the points of trends.

A reading is worked out once, by the sampler, with its own earlier look as the only one it compares with. All
readers get the same readings; nobody's asking changes what another one sees.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class HostReading:
    """The host and the container at `time` (seconds since the epoch). None: not told here, or not yet.

    Utilisations and shares are 0-1, memory is in bytes, disk and network are totals in bytes.
    """

    time: float
    cpu_utilization: float | None = None
    """Against the limit that bites, as `restaurant.cpu.utilization`."""
    memory_utilization: float | None = None
    """Against the limit that bites, as `restaurant.memory.utilization`."""
    memory_limit: float | None = None
    """The limit that bites."""
    host_cpu: float | None = None
    """Share of the host's CPUs that was busy since the last reading."""
    host_cpus: float | None = None
    load: float | None = None
    """Threads running or waiting, averaged over a minute."""
    host_memory: float | None = None
    host_memory_available: float | None = None
    container_cpu: float | None = None
    """CPUs that the container used since the last reading."""
    container_cpu_limit: float | None = None
    container_cpu_utilization: float | None = None
    """Share of the quota, or of the CPUs it is kept to."""
    container_memory: float | None = None
    """Working set of the container."""
    container_memory_limit: float | None = None
    container_memory_utilization: float | None = None
    """Share of a container's limit, its own or one around it, whichever is fullest."""
    disk_read: float | None = None
    disk_written: float | None = None
    network_received: float | None = None
    network_sent: float | None = None


@dataclass(slots=True)
class ProcessReading:
    """The process at `time` (seconds since the epoch). None: not told here, or not yet."""

    time: float
    cpu: float | None = None
    """CPUs used since the last reading: 1.0 is one core."""
    memory: float | None = None
    """Resident, in bytes."""
    virtual: float | None = None
    threads: float | None = None
    descriptors: float | None = None
    event_loop_lag: float | None = None
    """The largest since the last reading, in seconds; one that lasts is seen as well."""
    leak_slope: float | None = None
    """Bytes a second; None until there is enough to tell."""
    leak_suspected: bool = False
    time_to_limit: float | None = None
    """Seconds, at that slope."""


@dataclass(frozen=True, slots=True)
class History:
    """The latest 1,000 readings of each sort, oldest first."""

    host: tuple[HostReading, ...] = ()
    process: tuple[ProcessReading, ...] = ()
