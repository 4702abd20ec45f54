"""The numbers are those that others read: the test itself from ``/proc``, and Prometheus's node exporter, in one run.

The machine goes on meanwhile, so both are asked before and after ours, which has to lie between. What goes up and down
(free memory, say) may have been elsewhere in between, so a look that does not fit is followed by another; a number that
is wrong fits at none.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from restaurant_otel.metrics import Registry
from restaurant_otel.usage.sampler import Sampler
from tests.support import node_exporter
from tests.support.readings import Readings, from_families
from tests.support.wait import eventually

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="there is no /proc")

Facts = Mapping[tuple[str, ...], float]
"""A number by the name of our metric and the values of its labels, in any order."""

MIB = 1 << 20
TICK = 0.01

SLACK = {
    "system_cpu_time_seconds_total": 4 * TICK * (os.cpu_count() or 1),  # each CPU is rounded for itself
    "system_memory_linux_available_bytes": 32 * MIB,
    "system_memory_usage_bytes": 32 * MIB,
    "system_filesystem_usage_bytes": 32 * MIB,
    "system_filesystem_inodes_usage": 100,
    "system_disk_io_time_seconds_total": TICK,
    "system_disk_operation_time_seconds_total": TICK,
    "boot": 2.0,
    "process_cpu_time_seconds_total": 3 * TICK,
    "process_memory_usage_bytes": MIB,
    "process_memory_virtual_bytes": MIB,
    "process_uptime_seconds": 3 * TICK,
}
"""How far beyond the two looks ours may lie, where that is not nothing."""

IDLE = 1.0
"""Idle and waiting time of a sleeping CPU are guessed by the kernel, and the exporter mends them when they go back."""


def ours(readings: Readings, names: set[str]) -> Facts:
    """The same numbers by our sampler, as scraped."""
    found = {
        (name, *(value for label, value in labels if label != "worker")): value
        for name in names
        for labels, value in readings.samples.get(name, {}).items()
    }
    return in_order(found) | {("boot",): time.time() - readings.total("system_uptime_seconds")}


def in_order(facts: Facts) -> dict[tuple[str, ...], float]:
    return {(name, *sorted(labels)): value for (name, *labels), value in facts.items()}


def off(before: Facts, found: Facts, after: Facts) -> list[str]:
    """What of `found` does not lie between two looks of somebody else."""
    wrong = []
    before, after = in_order(before), in_order(after)
    for key in before.keys() & after.keys():
        slack = IDLE if key[-1] in ("idle", "iowait") else SLACK.get(key[0], 0.0)
        low, high = sorted((before[key], after[key]))
        if key not in found or not low - slack <= found[key] <= high + slack:
            wrong.append(f"{key}: {low} .. {high}, ours {found.get(key)}")
    return wrong


# --- the test's own reading of /proc ------------------------------------------------------------------


def lines(path: str) -> list[list[str]]:
    return [line.split() for line in Path(path).read_text().splitlines()]


def proc() -> Facts:
    facts: dict[tuple[str, ...], float] = {}
    stat = lines("/proc/stat")
    modes = ("user", "nice", "system", "idle", "iowait", "interrupt", "softirq", "steal")
    for mode, ticks in zip(modes, stat[0][1:9], strict=True):
        facts["system_cpu_time_seconds_total", mode] = int(ticks) / os.sysconf("SC_CLK_TCK")
    told = {line[0]: line[1] for line in stat if len(line) == 2}
    facts[("boot",)] = int(told["btime"])
    facts[("system_process_created_total",)] = int(told["processes"])
    for minutes, load in zip((1, 5, 15), lines("/proc/loadavg")[0], strict=False):
        facts[(f"system_cpu_load_average_{minutes}m",)] = float(load)
    memory = {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines("/proc/meminfo")}
    facts[("system_memory_limit_bytes",)] = memory["MemTotal"]
    facts[("system_memory_linux_available_bytes",)] = memory["MemAvailable"]
    facts["system_memory_usage_bytes", "free"] = memory["MemFree"]
    facts["system_memory_usage_bytes", "buffers"] = memory["Buffers"]
    facts["system_memory_usage_bytes", "cached"] = memory["Cached"] + memory["SReclaimable"] - memory["Shmem"]
    paging = {line[0]: int(line[1]) for line in lines("/proc/vmstat")}
    facts["system_paging_faults_total", "major"] = paging["pgmajfault"]
    facts["system_paging_faults_total", "minor"] = paging["pgfault"] - paging["pgmajfault"]
    for _, _, name, *numbers in lines("/proc/diskstats"):
        reads, _, sectors, reading, writes, _, written, writing, _, busy = map(int, numbers[:10])
        for direction, count, size, took in (
            ("read", reads, sectors, reading),
            ("write", writes, written, writing),
        ):
            facts["system_disk_io_bytes_total", direction, name] = size * 512
            facts["system_disk_operations_total", direction, name] = count
            facts["system_disk_operation_time_seconds_total", direction, name] = took / 1000
        facts["system_disk_io_time_seconds_total", name] = busy / 1000
    for line in Path("/proc/net/dev").read_text().splitlines()[2:]:
        name, _, rest = line.strip().partition(":")
        numbers = rest.split()
        for direction, at in (("receive", 0), ("transmit", 8)):
            for what, number in zip(
                ("io_bytes", "packet_count", "errors", "packet_dropped"), numbers[at:], strict=False
            ):
                facts[f"system_network_{what}_total", direction, name] = int(number)
    root = os.statvfs("/")
    source, kind = next((f[0], f[2]) for f in reversed(lines("/proc/mounts")) if f[1] == "/")
    facts["system_filesystem_limit_bytes", source, "/", kind] = root.f_frsize * root.f_blocks
    for state, blocks in (("used", root.f_blocks - root.f_bfree), ("free", root.f_bavail)):
        facts["system_filesystem_usage_bytes", source, "/", state, kind] = root.f_frsize * blocks
    for path in sorted(Path("/proc/pressure").glob("*")):
        for share, *told_pressure in lines(str(path)):
            if (path.name, share) != ("cpu", "full"):
                total = int(told_pressure[-1].partition("=")[2]) / 1e6
                facts["restaurant_pressure_stalled_time_seconds_total", share, path.name, "host"] = total
    return facts


# --- the node exporter's ------------------------------------------------------------------------------


def exported(told: Readings) -> Facts:
    facts: dict[tuple[str, ...], float] = {}
    for mode in told.labels("node_cpu_seconds_total", "mode"):
        total = told.total("node_cpu_seconds_total", mode=mode)
        facts["system_cpu_time_seconds_total", {"irq": "interrupt"}.get(mode, mode)] = total
    for minutes in (1, 5, 15):
        facts[(f"system_cpu_load_average_{minutes}m",)] = told.total(f"node_load{minutes}")
    facts[("boot",)] = told.total("node_boot_time_seconds")
    facts[("system_process_created_total",)] = told.total("node_forks_total")
    facts[("system_memory_limit_bytes",)] = told.total("node_memory_MemTotal_bytes")
    facts[("system_memory_linux_available_bytes",)] = told.total("node_memory_MemAvailable_bytes")
    facts["system_memory_usage_bytes", "free"] = told.total("node_memory_MemFree_bytes")
    for name, theirs, direction in (
        ("system_disk_io_bytes_total", "node_disk_read_bytes_total", "read"),
        ("system_disk_io_bytes_total", "node_disk_written_bytes_total", "write"),
        ("system_disk_operations_total", "node_disk_reads_completed_total", "read"),
        ("system_disk_operations_total", "node_disk_writes_completed_total", "write"),
        ("system_network_io_bytes_total", "node_network_receive_bytes_total", "receive"),
        ("system_network_io_bytes_total", "node_network_transmit_bytes_total", "transmit"),
        ("system_network_packet_count_total", "node_network_receive_packets_total", "receive"),
        ("system_network_packet_count_total", "node_network_transmit_packets_total", "transmit"),
        ("system_network_packet_dropped_total", "node_network_receive_drop_total", "receive"),
        ("system_network_errors_total", "node_network_receive_errs_total", "receive"),
    ):
        for labels, value in told.samples.get(theirs, {}).items():
            facts[name, direction, dict(labels)["device"]] = value
    for name, theirs, state in (
        ("system_filesystem_limit_bytes", "node_filesystem_size_bytes", ""),
        ("system_filesystem_usage_bytes", "node_filesystem_avail_bytes", "free"),
        ("system_filesystem_inodes_usage", "node_filesystem_files_free", "free"),
    ):
        for labels, value in told.samples.get(theirs, {}).items():
            named = dict(labels)
            states = (state,) if state else ()
            if value:
                facts[name, named["device"], named["mountpoint"], *states, named["fstype"]] = value
    return facts


@pytest.fixture
def sampler() -> Iterator[tuple[Sampler, Registry]]:
    registry = Registry()
    made = Sampler(registry, 15, disks=("*",), interfaces=("*",), mounts=("/",))
    yield made, registry
    made.stop()


def test_the_host_is_what_proc_and_the_node_exporter_say(
    sampler: tuple[Sampler, Registry], tmp_path: Path
) -> None:
    made, registry = sampler
    exporter = node_exporter.start(tmp_path)
    compared: set[tuple[str, ...]] = set()

    def agree() -> bool:
        before = proc(), exported(exporter.read())
        made.sample()
        found = from_families(registry.collect())
        after = proc(), exported(exporter.read())
        for earlier, later in zip(before, after, strict=True):
            wrong = off(earlier, ours(found, {key[0] for key in earlier}), later)
            assert not wrong, "\n".join(wrong)
            compared.update(earlier)
        states = found.series("system_memory_usage_bytes").values()
        assert sum(states) == found.total("system_memory_limit_bytes"), "the states add up"
        return True

    try:
        eventually(agree, within=60, every=0.1, what="all three say the same")
    finally:
        exporter.stop()
    names = {key[0] for key in compared}
    subjects = ("cpu_time", "cpu_load", "memory_linux", "filesystem_limit", "network_io", "disk_io_bytes")
    assert all(any(name.startswith(f"system_{subject}") for name in names) for subject in subjects)
    assert "boot" in names


def own() -> Facts:
    """This process by ``/proc/self``."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    facts: dict[tuple[str, ...], float] = {
        ("process_cpu_time_seconds_total", "user"): int(fields[11]) / ticks,
        ("process_cpu_time_seconds_total", "system"): int(fields[12]) / ticks,
        ("process_uptime_seconds",): time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / ticks,
        ("process_unix_file_descriptor_count",): len(os.listdir("/proc/self/fd")) - 1,
    }
    told = [line for line in lines("/proc/self/status") if line[1:] and line[1].isdigit()]
    status = {line[0].rstrip(":"): int(line[1]) for line in told}
    facts[("process_thread_count",)] = status["Threads"]
    facts[("process_memory_usage_bytes",)] = status["VmRSS"] * 1024
    facts[("process_memory_virtual_bytes",)] = status["VmSize"] * 1024
    io = {line[0].rstrip(":"): int(line[1]) for line in lines("/proc/self/io")}
    facts["process_disk_io_bytes_total", "read"] = io["read_bytes"]
    facts["process_disk_io_bytes_total", "write"] = io["write_bytes"]
    return facts


def test_the_process_is_what_proc_says(sampler: tuple[Sampler, Registry]) -> None:
    made, registry = sampler
    made.sample()  # opens its files

    def agree() -> bool:
        before = own()
        made.sample()
        found = from_families(registry.collect())
        after = own()
        wrong = off(before, ours(found, {key[0] for key in before}), after)
        assert not wrong, "\n".join(wrong)
        return True

    eventually(agree, within=30, every=0.1, what="both say the same")


def test_switches_are_counted_as_the_kernel_counts_them(sampler: tuple[Sampler, Registry]) -> None:
    """Gains only: the totals hold those of threads that have ended, which no file tells any more."""
    made, registry = sampler

    def switches() -> int:
        (line,) = (
            line for line in lines("/proc/thread-self/status") if line[0] == "voluntary_ctxt_switches:"
        )
        return int(line[1])

    def total() -> float:
        made.sample()
        readings = from_families(registry.collect())
        return readings.total("process_context_switches_total", process_context_switch_type="voluntary")

    before, told_before = total(), switches()
    for _ in range(50):
        time.sleep(0.001)
    told_after, after = switches(), total()
    assert told_after - told_before >= 50
    assert after - before >= told_after - told_before


@pytest.mark.skipif(not os.path.exists("/proc/thread-self/schedstat"), reason="the kernel does not tell")
def test_time_in_the_run_queue_is_what_the_kernel_says(sampler: tuple[Sampler, Registry]) -> None:
    """Two that burn one CPU wait for each other."""
    made, registry = sampler

    def waited() -> float:
        (numbers,) = lines("/proc/thread-self/schedstat")
        return int(numbers[1]) / 1e9

    def total() -> float:
        made.sample()
        return from_families(registry.collect()).total("restaurant_process_run_queue_time_seconds_total")

    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])  # on the same CPU: it is inherited
    try:
        before, told_before = total(), waited()
        while waited() - told_before < 0.1:
            pass
        told_after, after = waited(), total()
    finally:
        other.kill()
        other.wait()
        os.sched_setaffinity(0, everywhere)
    assert after - before >= told_after - told_before
