"""Where there is no ``/proc``, psutil tells of host and process; and nothing that Unix alone has is needed."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from restaurant_otel.metrics import Registry
from restaurant_otel.usage.sampler import Sampler
from tests.support.readings import Readings, from_families

MIB = 1 << 20
NOT_ON_WINDOWS = (
    *("sysconf", "pread", "pwrite", "O_CLOEXEC", "O_NOFOLLOW", "getloadavg", "sched_getaffinity", "statvfs"),
    "register_at_fork",
)


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What the test's observer has survived: where a platform only tells less, that is nothing.

    Those that other tests have left running, in threads of theirs, find things missing that they know.
    """
    found: list[BaseException] = []
    ours = threading.get_ident()

    def survived(_: str, error: BaseException) -> None:
        if threading.get_ident() == ours:
            found.append(error)

    monkeypatch.setattr("restaurant_otel.usage.sampler.survived", survived)
    return found


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away from `os` what Windows's has not, and the modules that it lacks."""
    psutil.Process().create_time()  # psutil for Linux needs some of them, once
    for name in NOT_ON_WINDOWS:
        monkeypatch.delattr(os, name, raising=False)
    for name in ("fcntl", "resource"):
        monkeypatch.setitem(sys.modules, name, None)


def sample(root: Path) -> tuple[Sampler, Readings]:
    """Two samples of a machine without ``/proc``, between which half a second of CPU is burnt."""
    registry = Registry()
    sampler = Sampler(registry, 15, root=str(root))
    sampler.sample()
    used = time.process_time()
    while time.process_time() - used < 0.5:
        pass
    sampler.sample()
    return sampler, from_families(registry.collect())


def assert_told(sampler: Sampler, readings: Readings) -> None:
    process, host = sampler.history.process[-1], sampler.history.host[-1]
    assert process.cpu is not None
    assert process.cpu > 0.1
    assert process.memory == pytest.approx(psutil.Process().memory_info().rss, abs=32 * MIB)
    assert process.threads == psutil.Process().num_threads()
    assert host.host_cpu is not None
    assert 0 < host.host_cpu <= 1
    assert host.cpu_utilization == host.host_cpu
    assert host.host_memory == host.memory_limit == psutil.virtual_memory().total
    assert host.memory_utilization is not None
    assert 0 < host.memory_utilization < 1
    assert host.container_memory is None
    assert readings.total("restaurant_cpu_utilization_ratio") == host.cpu_utilization
    assert readings.total("process_memory_usage_bytes") == process.memory
    assert readings.total("process_cpu_time_seconds_total") > 0.5
    assert readings.total("restaurant_process_memory_limit_bytes") == host.host_memory


def test_without_proc_psutil_tells(tmp_path: Path, failures: list[BaseException]) -> None:
    sampler, readings = sample(tmp_path)
    assert_told(sampler, readings)
    assert sampler.history.process[-1].descriptors
    assert sampler.history.host[-1].load is not None
    assert failures == []
    sampler.stop()


@pytest.mark.usefixtures("windows")
def test_what_windows_lacks_is_not_needed(tmp_path: Path, failures: list[BaseException]) -> None:
    sampler, readings = sample(tmp_path)
    assert_told(sampler, readings)
    assert sampler.history.host[-1].load is None
    assert failures == []
    sampler.stop()


def test_leaks_are_looked_for_without_proc_too(tmp_path: Path) -> None:
    """The verdict needs a limit: there the host's memory."""
    clock = itertools.count(0.0, 5.0)  # the sampler asks it a few times a sample
    sampler = Sampler(Registry(), 15, root=str(tmp_path), clock=lambda: next(clock))
    for _ in range(200):
        sampler.sample()
    assert sampler.history.process[-1].leak_slope is not None
    sampler.stop()
