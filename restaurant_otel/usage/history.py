"""The latest readings of the host, for any worker to show: a ring in a file of the workers' folder.

Only one worker samples the host, and not always the same one; any of them may be asked for the trend. The file has
a fixed size, so nothing grows, and survives its writers. Alone, with no folder, a process keeps its own.

One record is a reading's fields as floats (not a number: None), the time first. A record that is being written has no
time, and is passed over.
"""

from __future__ import annotations

import dataclasses
import math
import os
import struct
from collections import deque
from typing import Final

from restaurant_otel.metrics.group import Group
from restaurant_otel.usage.readings import HostReading

READINGS: Final = 1000

_NAMES: Final = tuple(field.name for field in dataclasses.fields(HostReading))
_RECORD: Final = struct.Struct(f"={len(_NAMES)}d")
_TIME: Final = struct.Struct("=d")
_FILE: Final = f"host-{len(_NAMES)}.readings"
"""Versions that read other fields keep out of each other's way."""


class HostHistory:
    """The latest `READINGS` readings. `add` is the elected sampler's, `all` anybody's. For one thread at a time."""

    def __init__(self) -> None:
        self._own: deque[HostReading] = deque(maxlen=READINGS)
        self._next: int | None = None

    def add(self, reading: HostReading, group: Group | None) -> None:
        """Keep a reading. Raises OSError where the folder is gone, not safe, or full."""
        if group is None:
            self._own.append(reading)
            return
        with _opened(group, os.O_RDWR | os.O_CREAT) as descriptor:
            if self._next is None:
                self._next = _after_the_latest(os.pread(descriptor, READINGS * _RECORD.size, 0))
            at = self._next * _RECORD.size
            record = _RECORD.pack(*(_number(getattr(reading, name)) for name in _NAMES))
            os.pwrite(descriptor, bytes(_TIME.size), at)
            os.pwrite(descriptor, record[_TIME.size :], at + _TIME.size)
            os.pwrite(descriptor, record[: _TIME.size], at)
            self._next = (self._next + 1) % READINGS

    def all(self, group: Group | None) -> tuple[HostReading, ...]:
        """All that are kept, oldest first. Raises OSError as `add` does, but not where there are none yet."""
        if group is None:
            return tuple(self._own)
        try:
            with _opened(group, os.O_RDONLY) as descriptor:
                data = os.pread(descriptor, READINGS * _RECORD.size, 0)
        except FileNotFoundError:
            return ()
        whole = len(data) - len(data) % _RECORD.size
        records = [record for record in _RECORD.iter_unpack(data[:whole]) if record[0] > 0]
        return tuple(HostReading(*map(_or_none, record)) for record in sorted(records))  # type: ignore[arg-type]

    def forget(self) -> None:
        """Begin anew: another process may have written meanwhile, or this one is a forked child."""
        self._own.clear()
        self._next = None


class _opened:  # noqa: N801 - used as a function
    def __init__(self, group: Group, flags: int) -> None:
        from restaurant_otel.metrics import folder  # not above: Windows cannot import it, and has no groups

        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        with folder.of_group(group) as place:
            self._descriptor = os.open(_FILE, flags, 0o600, dir_fd=place)

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _after_the_latest(data: bytes) -> int:
    """The record to be written next: after the one that is latest in time."""
    times = [_TIME.unpack_from(data, at)[0] for at in range(0, len(data) - _TIME.size + 1, _RECORD.size)]
    latest = max(range(len(times)), key=times.__getitem__, default=-1)
    return (latest + 1) % READINGS


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _or_none(value: float) -> float | None:
    return None if value != value else value
