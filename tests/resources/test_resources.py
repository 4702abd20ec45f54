"""The observer tells the truth: a process that burns, opens, grows or leaks is seen, and no other is accused."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable

import pytest

from restaurant_otel.metrics import Registry
from restaurant_otel.usage.leaks import LeakWatch
from restaurant_otel.usage.sampler import Sampler

MIB = 1 << 20


@pytest.mark.serial
def test_a_burnt_core_is_seen() -> None:
    sampler = Sampler(Registry(), 15)
    sampler.sample()
    began, used = time.monotonic(), time.process_time()
    while time.process_time() - used < 0.5:
        pass
    sampler.sample()
    truth = (time.process_time() - used) / (time.monotonic() - began)
    found = sampler.history.process[-1].cpu
    assert found == pytest.approx(truth, rel=0.1)


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


def verdicts(shape: Callable[[float], float], hours: float, limit: float = 4096 * MIB) -> list[bool]:
    """Whether a leak is suspected at each quarter of a minute of `shape`, bytes over seconds."""
    watch = LeakWatch(0.0)
    times = [15.0 * step for step in range(int(hours * 240))]
    return [watch.add(now, shape(now), limit, limit - shape(now)).suspected for now in times]


def test_leaks_are_suspected_fast_and_slow_ones() -> None:
    assert any(verdicts(lambda now: 100 * MIB + MIB * now, hours=0.5))
    assert any(verdicts(lambda now: 100 * MIB + 4 * MIB * now / 60, hours=9))


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(lambda now: 200 * MIB, id="flat"),
        pytest.param(lambda now: 200 * MIB + 500 * MIB * (now > 14_400), id="step"),
        pytest.param(lambda now: 100 * MIB + min(now, 240) * MIB, id="plateau"),
        pytest.param(lambda now: 100 * MIB + 400 * MIB * (1 - math.exp(-now / 600)), id="cache fill"),
        pytest.param(lambda now: 200 * MIB + (now % 900) / 900 * 300 * MIB, id="saw-tooth"),
    ],
)
def test_what_is_no_leak_is_not_suspected(shape: Callable[[float], float]) -> None:
    assert not any(verdicts(shape, hours=12))
