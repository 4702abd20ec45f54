"""Leases: keys with a random token that say who may make a value, or who holds one of the app's locks.

Taken here, renewed by `maintenance` while the process lives, stored under by `writing`. While Redis is away locks are
this process's own, and there are no leases.
"""

from __future__ import annotations

import time
from typing import Any, Final

from restaurant_otel.caching import scripts
from restaurant_otel.caching.core import Core

LEASE_MS: Final = 3_000
"""A lease outlives its holder's last renewal by this much at most."""


class Leases:
    """The leases of one `Core`. Any thread."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.forget()

    def forget(self) -> None:
        """In a child process: what was held here is the parent's."""
        self.held: dict[str, tuple[str, float]] = {}
        """By key: the token, and the monotonic time since when; what `maintenance` is to renew."""

    def hold(self, key: str, token: str) -> None:
        """Have the lease or lock renewed until it is released."""
        self.held[key] = (token, time.monotonic())

    def release(self, key: str) -> None:
        """No longer have it renewed."""
        self.held.pop(key, None)

    async def claim(self, name: str, token: str) -> list[Any] | None:
        """Take the lease if it is free: whether it was, the raw value, the sequence number. None: Redis is away."""
        if self._core.link is None:
            return None
        value, lease = self._core.keys.value(name), self._core.keys.lease(name)
        commands = (
            ("SET", lease, token, "NX", "PX", LEASE_MS),
            ("GET", value),
            ("GET", self._core.keys.sequence),
        )
        replies: list[Any] | None = await self._core.through("lease", self._core.link.execute, commands)
        return replies

    async def give_up(self, lease: str, token: str) -> None:
        """Free a lease or lock, if it is still held with `token`."""
        if self._core.link is not None:
            await self._core.through(
                "lease", self._core.link.execute, (("EVAL", scripts.RELEASE, 1, lease, token),)
            )

    async def lock(self, key: str, token: str) -> bool:
        """Take a lock if it is free, in Redis or, while it is away, in this process."""
        if self._core.link is not None:
            command = ("SET", key, token, "NX", "PX", LEASE_MS)
            replies = await self._core.through("lock", self._core.link.execute, (command,))
            if replies is not None:
                return self._core.accepted(replies) and bool(replies[0])
        return self._core.locks.setdefault(key, token) == token

    async def unlock(self, key: str, token: str) -> None:
        """Free it, if it is still held with `token`."""
        if self._core.locks.get(key) == token:
            del self._core.locks[key]
        else:
            await self.give_up(key, token)
