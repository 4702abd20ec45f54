"""The observer tells the truth: a process that burns, opens or grows is seen. Leaks are in `test_leaks`."""

from __future__ import annotations

import os
import sys
import time

import pytest

from restaurant_otel import catalog
from restaurant_otel.metrics import HistogramPoint, Registry
from restaurant_otel.usage.sampler import Sampler
from tests.support.wait import eventually

MIB = 1 << 20


@pytest.mark.serial
def test_a_burnt_core_is_seen() -> None:
    """Between the least and the most that it can have been: the samples take a moment themselves."""
    sampler = Sampler(Registry(), 15)
    times = [(time.monotonic(), time.process_time())]
    sampler.sample()
    times.append((time.monotonic(), time.process_time()))
    while time.process_time() - times[-1][1] < 0.5:
        pass
    times.append((time.monotonic(), time.process_time()))
    sampler.sample()
    times.append((time.monotonic(), time.process_time()))
    found = sampler.history.process[-1].cpu
    sampler.stop()
    before, began, ended, after = times
    assert found is not None
    assert found >= 0.9 * (ended[1] - began[1]) / (after[0] - before[0])
    assert found <= 1.1 * (after[1] - before[1]) / (ended[0] - began[0])


def test_open_files_and_filled_memory_are_seen() -> None:
    sampler = Sampler(Registry(), 15)
    sampler.sample()

    def are_seen() -> bool:
        sampler.sample()
        before = sampler.history.process[-1]
        files = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]
        filled = bytearray(os.urandom(1) * (64 * MIB))
        sampler.sample()
        after = sampler.history.process[-1]
        for descriptor in files:
            os.close(descriptor)
        assert before.descriptors is not None
        assert after.descriptors is not None
        assert before.memory is not None
        assert after.memory is not None
        assert after.descriptors - before.descriptors == 50
        assert after.memory - before.memory == pytest.approx(len(filled), rel=0.1)
        return True

    eventually(are_seen)  # threads that an earlier test has left may open and close files meanwhile


def test_waiting_for_the_interpreters_lock_is_seen() -> None:
    """A thread that computes keeps the lock for the switch interval; ours, which wants its turn, waits so long."""
    registry = Registry()
    usual = sys.getswitchinterval()
    sampler = Sampler(registry, 0.01)
    sys.setswitchinterval(0.3)
    try:
        sampler.start()
        deadline = time.monotonic() + 30
        while longest(registry, catalog.WAKE_UP_DELAY) < 0.1 and time.monotonic() < deadline:
            sum(range(10_000_000))  # some 0.1 s in one call, in which nobody else gets a turn
    finally:
        sys.setswitchinterval(usual)
        sampler.stop()
    assert longest(registry, catalog.WAKE_UP_DELAY) >= 0.1


def longest(registry: Registry, metric: catalog.Metric) -> float:
    """The lower end of the highest bucket that something fell into; 0 where nothing did."""
    for family in registry.collect():
        if family.metric is metric:
            (point,) = family.points
            assert isinstance(point, HistogramPoint)
            return max(
                (low for low, count in zip((0.0, *metric.bounds), point.counts, strict=True) if count),
                default=0.0,
            )
    return 0.0
