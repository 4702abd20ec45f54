"""How a worker's memory may go over time: bytes over seconds since its start, and which of it is a leak."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping

MIB = 1 << 20
HOUR = 3600.0
LIMIT = 4096.0 * MIB

Shape = Callable[[float], float]


def noisy(shape: Shape, most: float) -> Shape:
    """The same with up to `most` bytes more, by dice that always fall alike."""
    return lambda now: shape(now) + random.Random(now).random() * most


def _sawtooth(now: float) -> float:
    return (now % 900) / 900 * 300 * MIB


def _slow(now: float) -> float:
    return 100 * MIB + 4 * MIB * now / 60


LEAKS: Mapping[str, Shape] = {
    "slow": _slow,
    "slow and noisy": noisy(_slow, 60 * MIB),
    "slow below a saw-tooth": lambda now: _slow(now) + _sawtooth(now) / 3,
    "slow after a warm-up": lambda now: _slow(now) + 300 * MIB * (1 - math.exp(-now / 300)),
}
"""Each loses 4 MiB a minute, and is full after 17 hours at most."""

FAST_LEAKS: Mapping[str, Shape] = {
    "1 MiB/s": lambda now: 100 * MIB + MIB * now,
    "1 MiB/s, noisy": noisy(lambda now: 100 * MIB + MIB * now, 20 * MIB),
}

NO_LEAKS: Mapping[str, Shape] = {
    "flat": lambda now: 200 * MIB,
    "noise": noisy(lambda now: 200 * MIB, 400 * MIB),
    "step": lambda now: 200 * MIB + 500 * MIB * (now > 4 * HOUR),
    "late step": lambda now: 200 * MIB + 900 * MIB * (now > 9 * HOUR),
    "warm-up": lambda now: 100 * MIB + 600 * MIB * min(now / 1500, 1),
    "plateau": lambda now: 100 * MIB + min(now, 240) * MIB,
    "cache fill": lambda now: 100 * MIB + 400 * MIB * (1 - math.exp(-now / 600)),
    "slow cache fill": lambda now: 100 * MIB + 800 * MIB * (1 - math.exp(-now / HOUR)),
    "saw-tooth": lambda now: 200 * MIB + _sawtooth(now),
    "long saw-tooth": lambda now: 200 * MIB + (now % (3 * HOUR)) / (3 * HOUR) * 300 * MIB,
    "day and night": lambda now: 500 * MIB - 200 * MIB * math.cos(now / (24 * HOUR) * 2 * math.pi),
}
