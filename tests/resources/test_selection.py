"""Which disks, interfaces and mounts count, on recorded hosts: each transfer and each byte of space once."""

from __future__ import annotations

from pathlib import Path

import pytest

from restaurant_otel.metrics import Registry
from restaurant_otel.usage.disk import Disk
from restaurant_otel.usage.files import Files
from restaurant_otel.usage.filesystem import FileSystem
from restaurant_otel.usage.network import Network
from restaurant_otel.usage.readings import HostReading
from restaurant_otel.usage.sheet import Collector, Sheet
from tests.resources.test_cgroups import tree
from tests.support.readings import Readings, from_families


def collected(collector: Collector[HostReading]) -> tuple[Readings, HostReading]:
    registry = Registry()
    sheet, reading = Sheet(registry), HostReading(0.0)
    sheet.begin(1.0)
    collector.collect(sheet, reading)
    sheet.end()
    return from_families(registry.collect()), reading


# --- disks --------------------------------------------------------------------------------------------

DISKS = (
    *("sda", "sda1", "sda2", "sdb", "nvme0n1", "nvme0n1p1", "vda", "vda1", "mmcblk0", "mmcblk0p1", "xvda"),
    *("loop0", "loop1", "ram0", "zram0", "sr0", "fd0", "dm-0", "md0", "md127", "drbd0"),
)
WHOLE = {"sda", "sdb", "nvme0n1", "vda", "mmcblk0", "xvda"}


def a_host_of_disks(root: Path) -> Files:
    """Each has read one sector and written two; the kernel shows partitions only below their disk."""
    partitions = {name for name in DISKS if name not in WHOLE and name.startswith(tuple(WHOLE))}
    for name in set(DISKS) - partitions:
        (root / "sys/block" / name).mkdir(parents=True)
    lines = [f"   8  {at} {name} 5 0 1 20 6 0 2 30 0 40 50" for at, name in enumerate(DISKS)]
    return tree(root, {"/proc/diskstats": "\n".join(lines)})


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, WHOLE),
        (("sd*",), {"sda", "sda1", "sda2", "sdb"}),
        (("dm-0", "nvme?n?"), {"dm-0", "nvme0n1"}),
        (("nothing",), set()),
    ],
)
def test_disks(tmp_path: Path, wanted: tuple[str, ...] | None, expected: set[str]) -> None:
    files = a_host_of_disks(tmp_path)
    readings, reading = collected(Disk(files, wanted))
    files.let_go()
    assert readings.labels("system_disk_io_bytes_total", "system_device") == expected
    assert (reading.disk_read, reading.disk_written) == (512 * len(expected), 1024 * len(expected))
    for name in expected:
        assert readings.total("system_disk_operations_total", system_device=name) == 5 + 6
        assert readings.total("system_disk_operation_time_seconds_total", system_device=name) == 0.05
        assert readings.total("system_disk_io_time_seconds_total", system_device=name) == 0.04


# --- interfaces ---------------------------------------------------------------------------------------

OUTWARD = {"eth0", "ens5", "enp3s0", "wlan0", "bond0", "ib0", "wwan0"}
INWARD = (
    *("lo", "veth1a2b3c", "docker0", "br-5f6e7d8c9b0a", "br0", "virbr0", "vnet3", "tap0", "tun0", "cni0"),
    *(
        "flannel.1",
        "cali1234567890a",
        "cilium_host",
        "lxcbr0",
        "kube-ipvs0",
        "nodelocaldns",
        "weave",
        "dummy0",
    ),
    *("ifb0", "sit0", "gre0", "eth0.100", "bond0.20", "ens7"),
)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, OUTWARD),
        (("lo", "docker*"), {"lo", "docker0"}),
        (("eth0*",), {"eth0", "eth0.100"}),
    ],
)
def test_interfaces(tmp_path: Path, wanted: tuple[str, ...] | None, expected: set[str]) -> None:
    """Of the two ports of a bond the bond counts: `ens7` is one of them."""
    (tmp_path / "sys/class/net/ens7/bonding_slave").mkdir(parents=True)
    head = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop\n"
    numbers = "100 10 1 2 0 0 0 0 200 20 3 4 0 0 0 0"
    lines = "".join(f"{name:>6}: {numbers}\n" for name in (*sorted(OUTWARD), *INWARD))
    files = tree(tmp_path, {"/proc/self/net/dev": head + lines})
    readings, reading = collected(Network(files, wanted))
    files.let_go()
    assert readings.labels("system_network_io_bytes_total", "network_interface_name") == expected
    assert reading.network_received == 100 * len(expected)
    assert reading.network_sent == 200 * len(expected)
    one = {"network_interface_name": min(expected), "network_io_direction": "transmit"}
    assert readings.total("system_network_io_bytes_total", **one) == 200
    assert readings.total("system_network_packet_count_total", **one) == 20
    assert readings.total("system_network_errors_total", **one) == 3
    assert readings.total("system_network_packet_dropped_total", **one) == 4


# --- file systems -------------------------------------------------------------------------------------

A_SERVER = """\
22 28 0:21 / /proc rw,nosuid shared:12 - proc proc rw
23 28 0:22 / /sys rw,nosuid shared:7 - sysfs sysfs rw
25 28 0:23 / /run rw,nosuid shared:5 - tmpfs tmpfs rw,size=804996k
28 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw
31 28 8:1 / /boot/efi rw,relatime shared:30 - vfat /dev/sda1 rw
33 28 7:0 / /snap/core20/1974 ro,nodev shared:40 - squashfs /dev/loop0 ro
34 28 7:1 / /mnt/image rw shared:41 - ext4 /dev/loop1 rw
35 28 8:16 / /data rw,relatime shared:42 - xfs /dev/sdb rw
36 28 8:16 / /srv/the\\040same rw,relatime shared:42 - xfs /dev/sdb rw
37 28 8:16 /part /var/part rw,relatime shared:42 - xfs /dev/sdb rw
38 28 0:45 / /mnt/nfs rw,relatime shared:43 - nfs4 filer:/export rw
39 28 0:46 / /mnt/sshfs rw,nosuid shared:44 - fuse.sshfs user@host: rw
40 28 8:33 / /mnt/ntfs rw,nosuid shared:45 - fuseblk /dev/sdc1 rw
41 28 0:50 /@ /pool rw,relatime shared:46 - btrfs /dev/sdd rw
42 28 0:51 /@home /pool/home rw,relatime shared:47 - btrfs /dev/sdd rw
43 28 0:52 / /tank rw,relatime shared:48 - zfs tank rw
44 28 0:60 / /var/lib/docker/overlay2/abc/merged rw shared:49 - overlay overlay rw
45 28 11:0 / /media/cdrom ro shared:50 - iso9660 /dev/sr0 ro
"""
A_CONTAINER = """\
1200 900 0:120 / / rw,relatime master:300 - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
1201 1200 0:121 / /proc rw - proc proc rw
1203 1200 0:123 / /dev rw - tmpfs tmpfs rw,size=65536k
1210 1200 8:2 /var/lib/docker/containers/abc/resolv.conf /etc/resolv.conf rw - ext4 /dev/sda2 rw
1211 1200 8:2 /var/lib/docker/containers/abc/hosts /etc/hosts rw - ext4 /dev/sda2 rw
1212 1200 8:16 /volumes/menu /menu rw - xfs /dev/sdb rw
1213 1200 8:16 /volumes/menu/specials /menu/specials rw - xfs /dev/sdb rw
"""
FILES = {"/etc/resolv.conf", "/etc/hosts"}


@pytest.mark.parametrize(
    ("mounts", "wanted", "expected"),
    [
        (A_SERVER, None, {"/", "/boot/efi", "/data", "/pool", "/tank"}),
        (A_SERVER, ("/srv/*", "/mnt/nfs"), {"/srv/the same", "/mnt/nfs"}),
        (A_CONTAINER, None, {"/", "/menu"}),
        (A_CONTAINER, ("/etc/*", "/menu/*"), {"/menu/specials"}),
    ],
    ids=["server", "server by setting", "container", "container by setting"],
)
def test_file_systems(
    tmp_path: Path, mounts: str, wanted: tuple[str, ...] | None, expected: set[str]
) -> None:
    for line in mounts.splitlines():
        point = line.split()[4].replace("\\040", " ")
        place = tmp_path / point.lstrip("/")
        if point in FILES:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        else:
            place.mkdir(parents=True, exist_ok=True)
    files = tree(tmp_path, {"/proc/self/mountinfo": mounts})
    readings, _ = collected(FileSystem(files, wanted))
    files.let_go()
    points = [
        dict(labels)["system_filesystem_mountpoint"]
        for labels in readings.series("system_filesystem_limit_bytes")
    ]
    assert sorted(points) == sorted(expected)
