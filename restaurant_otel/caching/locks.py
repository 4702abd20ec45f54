"""`cache.lock(name)`: one holder at a time in all processes, freed within seconds of its holder's death.

One of the `leases`, renewed while the process lives. While Redis is away the lock holds between the threads
or tasks of one process only; a lock taken before is then not renewed. It is for sparing work done
twice, not for guarding what must never happen twice: for that, check a fence where the writing happens.
"""

from __future__ import annotations

import os
import random
import time
from types import TracebackType
from typing import Final, Self

from restaurant_otel.caching.core import Core
from restaurant_otel.caching.driver import run
from restaurant_otel.caching.keys import checked
from restaurant_otel.caching.leases import Leases

_LOOK_AGAIN: Final = (0.005, 0.1)


class LockTimeout(TimeoutError):  # noqa: N818 - a TimeoutError to whoever catches those
    """Somebody else held the lock all the time."""


class _Lock:
    def __init__(self, core: Core, leases: Leases, name: str, wait: float) -> None:
        if wait < 0:
            raise ValueError("a lock is waited for zero seconds or more")
        self._driver = core.driver
        self._leases = leases
        self._name = checked(name)
        self._key = core.keys.lock(self._name)
        self._wait = wait
        self._token = ""

    async def _acquire(self) -> None:
        token = os.urandom(12).hex()
        deadline = time.monotonic() + self._wait
        pause, longest = _LOOK_AGAIN
        while not await self._leases.lock(self._key, token):
            if time.monotonic() >= deadline:
                raise LockTimeout(f"the lock {self._name!r} was not free within {self._wait:g} s")
            spread = random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            await self._driver.sleep(min(pause * spread, max(0.0, deadline - time.monotonic())))
            pause = min(pause * 2, longest)
        self._token = token
        self._leases.hold(self._key, token)

    async def _free(self) -> None:
        self._leases.release(self._key)
        await self._leases.unlock(self._key, self._token)


class Lock(_Lock):
    """For threads: ``with cache.lock("report"):``. One use at a time; LockTimeout if it is not free in time."""

    def __enter__(self) -> Self:
        run(self._acquire())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run(self._free())


class AsyncLock(_Lock):
    """For tasks: ``async with cache.lock("report"):``. As `Lock`."""

    async def __aenter__(self) -> Self:
        await self._acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._free()
