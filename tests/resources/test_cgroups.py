"""Control groups as kernels show them: version 1, 2 and both; limited, unlimited, and limited further out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from restaurant_otel.metrics import Registry
from restaurant_otel.usage.cgroups import Cgroups
from restaurant_otel.usage.container import Container, usable_cpus
from restaurant_otel.usage.files import Files
from restaurant_otel.usage.limits import Limits
from restaurant_otel.usage.readings import HostReading
from restaurant_otel.usage.sheet import Sheet

MIB = 1 << 20

V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V2_STAT = (
    "anon 41943040\nfile 20971520\npgfault 1000\npgmajfault 10\ninactive_anon 7\ninactive_file {inactive}\n"
)
V2_CPU = "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\n"
V2_THROTTLED = V2_CPU + "nr_periods 100\nnr_throttled 25\nthrottled_usec 1500000\n"


def tree(root: Path, files: Mapping[str, object]) -> Files:
    for path, content in files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{content}\n" if not str(content).endswith("\n") else str(content))
    return Files(str(root))


def v2_group(at: str, *, current: int, limit: object = "max", cpu: str = "max 100000") -> dict[str, object]:
    return {
        f"{at}/cgroup.events": "populated 1\nfrozen 0\n",
        f"{at}/memory.current": current,
        f"{at}/memory.max": limit,
        f"{at}/memory.stat": V2_STAT.format(inactive=16 * MIB),
        f"{at}/memory.events": "low 0\nhigh 3\nmax 4\noom 2\noom_kill 1\n",
        f"{at}/cpu.max": cpu,
        f"{at}/cpu.stat": V2_THROTTLED if cpu.split()[0] != "max" else V2_CPU,
        f"{at}/pids.current": 12,
        f"{at}/pids.max": "max" if limit == "max" else 100,
        f"{at}/io.stat": "8:0 rbytes=1000 wbytes=2000 rios=1 wios=2\n8:16 rbytes=24 wbytes=48 rios=1 wios=1\n",
    }


def seen(files: Files) -> tuple[HostReading, Cgroups]:
    """What the container's collector makes of a tree, on a host of 1 GiB with half of it free."""
    cgroups, reading, sheet = Cgroups(files), HostReading(time=0.0), Sheet(Registry())
    reading.host_memory, reading.host_memory_available = 1024 * MIB, 512 * MIB
    sheet.begin(1.0)
    Container(cgroups).collect(sheet, reading)
    Limits().collect(sheet, reading)
    sheet.end()
    files.let_go()
    return reading, cgroups


def test_a_container_of_version_2(tmp_path: Path) -> None:
    """As from the inside: the namespace makes the container's own group the root of what is mounted."""
    group = v2_group("/sys/fs/cgroup", current=116 * MIB, limit=128 * MIB, cpu="150000 100000")
    files = {"/proc/self/cgroup": "0::/", "/proc/self/mountinfo": V2_MOUNT, **group}
    reading, cgroups = seen(tree(tmp_path, files))
    assert reading.container_memory == 100 * MIB
    assert reading.memory_limit == reading.container_memory_limit == 128 * MIB
    assert reading.memory_utilization == pytest.approx(100 / 128)
    assert cgroups.cpu_quota() == reading.container_cpu_limit == 1.5
    assert cgroups.cpu_time() == {"total": 2.5, "user": 2.0, "system": 0.5}
    assert cgroups.throttling() == (100, 25, 1.5)
    assert cgroups.tasks() == (12, 100)
    assert cgroups.disk() == {"read": 1024, "write": 2048}
    details = cgroups.memory_details(cgroups.memory()[0].stat)
    assert details == {
        "rss": 40 * MIB,
        "minor": 990,
        "major": 10,
        "high": 3,
        "max": 4,
        "oom": 2,
        "oom_kill": 1,
    }


def test_a_group_of_version_2_without_limits(tmp_path: Path) -> None:
    """There the host's memory is what bites."""
    group = v2_group("/sys/fs/cgroup/app.slice", current=116 * MIB)
    files = {"/proc/self/cgroup": "0::/app.slice", "/proc/self/mountinfo": V2_MOUNT, **group}
    reading, cgroups = seen(tree(tmp_path, files))
    assert reading.container_memory_limit is None
    assert reading.memory_limit == 1024 * MIB
    assert reading.memory_utilization == 0.5
    assert cgroups.cpu_quota() is None
    assert cgroups.throttling() is None
    assert cgroups.tasks() == (12, None)


def test_a_limit_around_the_own_group_bites_too(tmp_path: Path) -> None:
    files = {
        "/proc/self/cgroup": "0::/kubepods/pod1/app",
        "/proc/self/mountinfo": V2_MOUNT,
        **v2_group("/sys/fs/cgroup/kubepods/pod1/app", current=48 * MIB, limit=512 * MIB),
        **v2_group("/sys/fs/cgroup/kubepods/pod1", current=216 * MIB, limit=256 * MIB, cpu="50000 100000"),
        **v2_group("/sys/fs/cgroup/kubepods", current=300 * MIB),
    }
    reading, cgroups = seen(tree(tmp_path, files))
    assert reading.container_memory == 32 * MIB, "the own group's use"
    assert reading.container_memory_limit == 256 * MIB, "the pod's limit"
    assert reading.memory_utilization == pytest.approx(200 / 256)
    assert cgroups.cpu_quota() == 0.5
    assert cgroups.throttling() == (100, 25, 1.5), "of the level with the quota"


V1_MOUNTS = "".join(
    f"{30 + number} 23 0:{26 + number} {{root}} /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{name}\n"
    for number, name in enumerate(("memory", "cpu,cpuacct", "pids", "blkio"))
)


def v1_group(inside: str, *, limit: int, quota: int) -> dict[str, object]:
    cpu = f"/sys/fs/cgroup/cpu,cpuacct{inside}"
    memory = f"/sys/fs/cgroup/memory{inside}"
    disk = "8:0 Read 1000\n8:0 Write 2000\n8:0 Total 3000\nTotal 3000\n"
    return {
        f"{memory}/memory.usage_in_bytes": 116 * MIB,
        f"{memory}/memory.limit_in_bytes": limit,
        f"{memory}/memory.stat": f"inactive_file 1\ntotal_rss {40 * MIB}\ntotal_pgfault 1000\ntotal_pgmajfault 10\n"
        f"total_inactive_file {16 * MIB}\n",
        f"{memory}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        f"{memory}/memory.failcnt": 4,
        f"{cpu}/cpu.cfs_quota_us": quota,
        f"{cpu}/cpu.cfs_period_us": 100000,
        f"{cpu}/cpu.stat": "nr_periods 100\nnr_throttled 25\nthrottled_time 1500000000\n",
        f"{cpu}/cpuacct.usage": 2_500_000_000,
        f"{cpu}/cpuacct.stat": "user 200\nsystem 50\n",
        f"/sys/fs/cgroup/pids{inside}/pids.current": 12,
        f"/sys/fs/cgroup/pids{inside}/pids.max": 100,
        f"/sys/fs/cgroup/blkio{inside}/blkio.throttle.io_service_bytes_recursive": disk,
    }


V1_PATHS = "4:memory:{path}\n3:cpu,cpuacct:{path}\n2:pids:{path}\n1:blkio:{path}\n"


def test_a_container_of_version_1(tmp_path: Path) -> None:
    """Docker's: the path is the host's, and the mount shows the container's own part of the tree."""
    files = {
        "/proc/self/cgroup": V1_PATHS.format(path="/docker/abc"),
        "/proc/self/mountinfo": V1_MOUNTS.format(root="/docker/abc"),
        **v1_group("", limit=128 * MIB, quota=150_000),
    }
    reading, cgroups = seen(tree(tmp_path, files))
    assert reading.memory_limit == 128 * MIB
    assert reading.memory_utilization == pytest.approx(100 / 128)
    assert cgroups.cpu_quota() == 1.5
    assert cgroups.cpu_time()["total"] == 2.5
    assert cgroups.throttling() == (100, 25, 1.5)
    assert cgroups.tasks() == (12, 100)
    assert cgroups.disk() == {"read": 1000, "write": 2000}
    details = cgroups.memory_details(cgroups.memory()[0].stat)
    assert details == {"rss": 40 * MIB, "minor": 990, "major": 10, "oom_kill": 1, "max": 4}


def test_version_1_says_no_limit_by_a_huge_number(tmp_path: Path) -> None:
    files = {
        "/proc/self/cgroup": V1_PATHS.format(path="/user"),
        "/proc/self/mountinfo": V1_MOUNTS.format(root="/"),
        **v1_group("/user", limit=9223372036854771712, quota=-1),
        "/sys/fs/cgroup/memory/release_agent": "",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": 9223372036854771712,
        "/sys/fs/cgroup/memory/memory.usage_in_bytes": 900 * MIB,
    }
    reading, cgroups = seen(tree(tmp_path, files))
    assert reading.container_memory == 100 * MIB
    assert reading.container_memory_limit is None
    assert reading.memory_limit == 1024 * MIB
    assert cgroups.cpu_quota() is None
    assert len(cgroups.memory()) == 1, "the host's root is no group that limits"


def test_both_versions_at_once(tmp_path: Path) -> None:
    """Hybrid: the controllers are those of version 1; version 2 is there without any."""
    files = {
        "/proc/self/cgroup": V1_PATHS.format(path="/app") + "0::/app\n",
        "/proc/self/mountinfo": V1_MOUNTS.format(root="/")
        + V2_MOUNT.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified"),
        **v1_group("/app", limit=128 * MIB, quota=50_000),
        "/sys/fs/cgroup/unified/app/cgroup.events": "populated 1\n",
    }
    reading, cgroups = seen(tree(tmp_path, files))
    assert reading.memory_limit == 128 * MIB
    assert cgroups.cpu_quota() == 0.5


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"/proc/self/cgroup": "0::/", "/proc/self/mountinfo": V2_MOUNT},
        {"/proc/self/cgroup": "nonsense", "/proc/self/mountinfo": "more - nonsense"},
        {"/proc/self/cgroup": "0::/../../elsewhere", "/proc/self/mountinfo": V2_MOUNT},
    ],
    ids=["no files", "the host's root", "nonsense", "another namespace"],
)
def test_where_nothing_can_be_read_nothing_is_said(tmp_path: Path, files: dict[str, object]) -> None:
    reading, cgroups = seen(tree(tmp_path, files))
    assert not cgroups.exist
    assert reading.container_memory is reading.container_memory_limit is reading.container_cpu_limit is None
    assert reading.memory_utilization == 0.5, "the host's"


def test_cpus_in_use_are_held_against_the_quota(tmp_path: Path) -> None:
    group = v2_group("/sys/fs/cgroup", current=MIB, limit=128 * MIB, cpu="50000 100000")
    files = tree(tmp_path, {"/proc/self/cgroup": "0::/", "/proc/self/mountinfo": V2_MOUNT, **group})
    container, sheet = Container(Cgroups(files)), Sheet(Registry())
    sheet.begin(10.0)
    container.collect(sheet, HostReading(time=0.0))
    (tmp_path / "sys/fs/cgroup/cpu.stat").write_text(V2_THROTTLED.replace("2500000", "6500000"))
    reading = HostReading(time=0.0)
    sheet.begin(20.0)
    container.collect(sheet, reading)
    files.let_go()
    assert reading.container_cpu == pytest.approx(0.4), "4 s of CPU in 10 s"
    assert reading.container_cpu_utilization == pytest.approx(0.4 / min(0.5, usable_cpus()))
