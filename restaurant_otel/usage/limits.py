"""Use against the limit that bites: what the score, the alerts and the leak's time to the limit go by.

Inside a container the host's memory is the wrong denominator, and so are the host's CPUs. But a host that is full
hurts a container that is not. So each utilisation is the fullest of those that this process is inside of. Runs
last: it only looks at what other collectors have found.
"""

from __future__ import annotations

from restaurant_otel import catalog
from restaurant_otel.usage.readings import HostReading
from restaurant_otel.usage.sheet import Sheet


class Limits:
    """Collects nothing new: draws the line under what the others have found."""

    def collect(self, sheet: Sheet, reading: HostReading) -> None:
        """See `Collector`."""
        cpu = [share for share in (reading.host_cpu, reading.container_cpu_utilization) if share is not None]
        if cpu:
            reading.cpu_utilization = max(cpu)
            sheet.put(catalog.CPU_UTILIZATION, reading.cpu_utilization)
        memory = (
            [] if reading.container_memory_utilization is None else [reading.container_memory_utilization]
        )
        if reading.host_memory and reading.host_memory_available is not None:
            memory.append(1 - reading.host_memory_available / reading.host_memory)
        if memory:
            reading.memory_utilization = max(memory)
            sheet.put(catalog.MEMORY_UTILIZATION, reading.memory_utilization)
        limits = [limit for limit in (reading.host_memory, reading.container_memory_limit) if limit]
        if limits:
            reading.memory_limit = min(limits)
            sheet.put(catalog.PROCESS_MEMORY_LIMIT, reading.memory_limit)
