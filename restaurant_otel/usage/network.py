"""The host's network interfaces, from ``/proc/net/dev``, and its TCP connections, as counts.

By default those interfaces count that lead out of the machine or container. Loopback, bridges, the ends of
containers' cables, VLANs and members of a bond would count the same bytes again. Connections are read off the
kernel's own counters: listing sockets costs milliseconds, and more with each one.
"""

from __future__ import annotations

import re
from typing import Final

from restaurant_otel import catalog
from restaurant_otel.usage.files import Files
from restaurant_otel.usage.readings import HostReading
from restaurant_otel.usage.selection import Selection
from restaurant_otel.usage.sheet import Sheet

_INSIDE: Final = re.compile(
    r"lo\d*$|veth|docker|br-|br\d|virbr|vnet|tap|tun|cni|flannel|cali|cilium|lxc|lxd|kube|nodelocaldns|weave|"
    r"dummy|ifb|sit|gre|erspan|ip6tnl|ip6_vti|ip_vti|teql|ovs|azv|.*[.@]"
)


class Network:
    """Collects the network of a host, or of the namespace that it is seen from."""

    def __init__(self, files: Files, wanted: tuple[str, ...] | None) -> None:
        self._files = files
        self._selection = Selection(wanted, self._leads_out)

    def _leads_out(self, name: str) -> bool:
        return not _INSIDE.match(name) and not self._files.exists(f"/sys/class/net/{name}/bonding_slave")

    def collect(self, sheet: Sheet, reading: HostReading) -> None:
        """See `Collector`."""
        devices = self._files.read("/proc/self/net/dev")
        if devices is not None:
            self._interfaces(devices, sheet, reading)
        snmp = self._files.read("/proc/self/net/snmp")
        if snmp is not None:
            self._connections(snmp, sheet)

    def _interfaces(self, devices: bytes, sheet: Sheet, reading: HostReading) -> None:
        received = sent = 0
        for line in devices.splitlines()[2:]:
            label, _, rest = line.rpartition(b":")
            name = label.strip().decode("ascii", "replace")
            if not name or not self._selection.has(name):
                continue
            fields = [int(field) for field in rest.split()[:12]]
            for direction, (size, packets, errors, dropped) in (
                ("receive", fields[0:4]),
                ("transmit", fields[8:12]),
            ):
                sheet.put(catalog.SYSTEM_NETWORK_IO, size, direction, name)
                sheet.put(catalog.SYSTEM_NETWORK_PACKETS, packets, direction, name)
                sheet.put(catalog.SYSTEM_NETWORK_ERRORS, errors, direction, name)
                sheet.put(catalog.SYSTEM_NETWORK_DROPPED, dropped, direction, name)
            received += fields[0]
            sent += fields[8]
        reading.network_received, reading.network_sent = received, sent

    def _connections(self, snmp: bytes, sheet: Sheet) -> None:
        lines = [line.split() for line in snmp.splitlines() if line.startswith(b"Tcp:")]
        if len(lines) == 2 and b"CurrEstab" in lines[0]:
            established = int(lines[1][lines[0].index(b"CurrEstab")])
            sheet.put(catalog.SYSTEM_NETWORK_CONNECTIONS, established, "tcp", "established")
        sockets = self._files.read("/proc/self/net/sockstat")
        if sockets is not None:
            found = re.search(rb"^TCP:.* tw (\d+)", sockets, re.MULTILINE)
            if found:
                sheet.put(catalog.SYSTEM_NETWORK_CONNECTIONS, int(found[1]), "tcp", "time_wait")
