"""The observer tells the truth: a process that burns, opens or grows is seen. Leaks are in `test_leaks`."""

from __future__ import annotations

import os
import time

import pytest

from restaurant_otel.metrics import Registry
from restaurant_otel.usage.sampler import Sampler

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
