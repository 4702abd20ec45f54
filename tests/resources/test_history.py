"""What the public functions tell: the trend, where memory grows, how late a loop is; and none of it grows itself."""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from restaurant_otel import resources
from restaurant_otel.metrics import Registry, folder
from restaurant_otel.metrics.group import Group
from restaurant_otel.settings import Settings
from restaurant_otel.usage.event_loop import EventLoops
from restaurant_otel.usage.history import READINGS, HostHistory
from restaurant_otel.usage.readings import HostReading, ProcessReading
from restaurant_otel.usage.sampler import Sampler
from restaurant_otel.usage.sheet import Sheet
from tests.resources.test_cgroups import V2_MOUNT, tree, v2_group
from tests.support.readings import from_families
from tests.support.wait import eventually

MIB = 1 << 20

A_SMALL_HOST: dict[str, object] = {
    "/proc/stat": "cpu  10 0 10 80 0 0 0 0 0 0\ncpu0 10 0 10 80 0 0 0 0 0 0\nbtime 1\nprocesses 5\n",
    "/proc/loadavg": "0.5 0.4 0.3 1/100 1234",
    "/proc/meminfo": f"MemTotal: {1 << 20} kB\nMemFree: {1 << 18} kB\nMemAvailable: {1 << 19} kB\n",
    "/proc/self/stat": "7 (shop) S " + " ".join(["1"] * 19 + ["1000000", "25600"] + ["0"] * 20),
    "/proc/self/net/dev": "Inter-|\n face |\neth0: " + " ".join(["9"] * 16),
    "/proc/self/cgroup": "0::/",
    "/proc/self/mountinfo": V2_MOUNT,
    **v2_group("/sys/fs/cgroup", current=116 * MIB, limit=512 * MIB, cpu="150000 100000"),
}


@pytest.fixture
def observer() -> Iterator[None]:
    """The process's observer, looking once a second."""
    resources.stop()
    resources.start(Settings.resolve(resources_interval=1))
    yield
    resources.stop_leak_snapshot()
    resources.stop()


@pytest.mark.usefixtures("observer")
def test_history_tells_host_and_process() -> None:
    def two() -> resources.History | None:
        found = resources.history()
        return found if min(len(found.host), len(found.process)) >= 2 else None

    found = eventually(two, what="two readings of each")
    assert found is not None
    for readings in (found.host, found.process):
        times = [reading.time for reading in readings]
        assert times == sorted(times)
        assert times[-1] == pytest.approx(time.time(), abs=60)
    assert found.process[-1].memory
    assert found.process[-1].cpu is not None
    assert found.host[-1].cpu_utilization is not None
    assert found.host[-1].memory_utilization is not None
    assert found.host[-1].memory_limit


def test_without_an_observer_there_is_no_history() -> None:
    resources.stop()
    assert resources.history() == resources.History()


@pytest.mark.usefixtures("observer")
def test_a_leak_snapshot_names_the_line_that_grows() -> None:
    assert resources.leak_snapshot().began
    held, line = [bytearray(MIB) for _ in range(8)], sys._getframe().f_lineno
    found = resources.leak_snapshot(top=1)
    assert not found.began
    (growth,) = found.growth
    assert (growth.file, growth.line) == (__file__, line)
    assert growth.size >= len(held) * MIB
    resources.stop_leak_snapshot()
    assert not tracemalloc.is_tracing()


def test_a_blocked_loop_is_seen_during_and_after() -> None:
    registry = Registry()
    loops, sheet = EventLoops(registry, seconds=0.02), Sheet(Registry())
    during, after = ProcessReading(0.0), ProcessReading(0.0)
    times: list[float] = []

    def look_from_outside() -> None:
        loops.collect(sheet, during)

    async def block() -> None:
        loops.watch()
        sampler = threading.Timer(0.6, look_from_outside)
        sampler.start()
        times.append(time.perf_counter())
        time.sleep(0.8)  # noqa: ASYNC251 - that is the fault
        times.append(time.perf_counter())
        sampler.join()
        await asyncio.sleep(0.01)
        times.append(time.perf_counter())
        loops.collect(sheet, after)

    asyncio.run(block())
    began, ended, had_a_turn = times
    assert during.event_loop_lag is not None
    assert during.event_loop_lag > 0.5
    assert after.event_loop_lag is not None
    assert 0.9 * (ended - began) <= after.event_loop_lag <= 1.1 * (had_a_turn - began)
    assert from_families(registry.collect()).total("restaurant_event_loop_lag_seconds_sum") > 0.7


def test_a_day_of_samples_takes_no_more_memory_than_its_morning(tmp_path: Path) -> None:
    """5,760 samples by a clock of the test's; kept are the latest 1,000, so what comes after must add nothing."""
    kernel = tree(tmp_path, A_SMALL_HOST)
    now = itertools.count(1.0, 15.0)
    at = [0.0]
    sampler = Sampler(Registry(), 15, root=kernel.root, clock=lambda: at[0], wall=lambda: at[0])

    def hours(number: float) -> None:
        for _ in range(int(number * 240)):
            at[0] = next(now)
            sampler.sample()

    hours(15)
    tracemalloc.start()
    hours(4.5)  # all that is kept has been made under tracing by now
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    hours(4.5)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    found = sampler.history
    sampler.stop()
    assert grown < 32 * 1024
    assert len(found.host) == len(found.process) == READINGS
    assert found.process[-1].time == 24 * 3600 - 15 + 1
    assert found.process[-1].leak_slope is not None
    assert not any(reading.leak_suspected for reading in found.process)
    assert found.process[-1].memory == 100 * MIB
    assert found.host[-1].memory_utilization == 0.5
    assert found.host[-1].container_memory == 100 * MIB


def test_the_hosts_history_is_one_for_all_workers_and_bounded(tmp_path: Path) -> None:
    """Written by one and then by the next, read by a third, as over the life of a server."""
    group = Group("named-shop", str(tmp_path))
    with folder.base(str(tmp_path), create=True) as parent, folder.inner(parent, group.name, create=True):
        pass
    first, second, reader = HostHistory(), HostHistory(), HostHistory()
    assert reader.all(group) == ()
    for time_of_day in range(1, 1201):
        writer = first if time_of_day <= 700 else second
        writer.add(HostReading(float(time_of_day), cpu_utilization=time_of_day / 2000), group)
    found = reader.all(group)
    assert [reading.time for reading in found] == list(range(201, 1201))
    assert found == first.all(group) == second.all(group)
    assert found[-1].cpu_utilization == 0.6
    assert found[-1].load is None, "what was not told is not zero"
    files = list(tmp_path.glob("*/*/*.readings"))
    assert len(files) == 1
    assert files[0].stat().st_size < 200_000


def test_a_reading_torn_by_a_kill_is_passed_over(tmp_path: Path) -> None:
    group = Group("named-shop", str(tmp_path))
    with folder.base(str(tmp_path), create=True) as parent, folder.inner(parent, group.name, create=True):
        pass
    history = HostHistory()
    for time_of_day in (1.0, 2.0, 3.0):
        history.add(HostReading(time_of_day), group)
    (file,) = tmp_path.glob("*/*/*.readings")
    size = file.stat().st_size // 3
    with file.open("r+b") as opened:
        opened.seek(size)
        opened.write(bytes(8))  # the time of the second: `add` writes it last
    assert [reading.time for reading in HostHistory().all(group)] == [1.0, 3.0]
    following = HostHistory()
    following.add(HostReading(4.0), group)
    assert [reading.time for reading in history.all(group)] == [1.0, 3.0, 4.0]


def test_readers_share_no_delta() -> None:
    """Asking, and asking again in between, changes nothing of what the next reading tells."""
    at = [0.0]
    sampler = Sampler(Registry(), 15, clock=lambda: at[0], wall=lambda: at[0])
    sampler.sample()
    at[0] = 10.0
    began = time.process_time()
    while time.process_time() - began < 0.3:
        assert sampler.history.process[-1].time == 0.0
    sampler.sample()
    readers = [sampler.history for _ in range(3)]
    sampler.stop()
    assert readers[0] == readers[1] == readers[2]
    told = readers[0].process[-1].cpu
    assert told is not None
    assert told * 10 >= 0.3, "all that was used since the reading before, not since somebody looked"
