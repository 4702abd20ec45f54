"""Which worker samples the host for all: whoever holds the lock on a file in the workers' folder.

The kernel gives the lock back when its holder dies, however it dies, and the next one that asks gets it. Nobody
waits for it and nobody is told: workers ask at each of their own samples, and before they answer a scrape.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from restaurant_otel.metrics.group import Group

SAMPLER: Final = "sampler"


class Election:
    """The part of this process. Alone, with no group, it is always elected. For one thread at a time."""

    def __init__(self, name: str = SAMPLER) -> None:
        self._name = name
        self._descriptor: int | None = None
        self._identity = (0, 0)
        self._group: Group | None = None

    def won(self, group: Group | None) -> bool:
        """Whether this process samples the host, of all in `group`: asks for the lock if nobody has it.

        Raises OSError where the folder is gone or not safe.
        """
        if group is None:
            return True
        if self._descriptor is not None and group == self._group and self._is_ours():
            return True
        self.resign()
        return self._stand(group)

    def _stand(self, group: Group) -> bool:
        import fcntl  # not above: Windows has none, and no groups

        from restaurant_otel.metrics import folder

        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with folder.of_group(group) as place:
            descriptor = os.open(self._name, flags, 0o600, dir_fd=place)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor, self._group = descriptor, group
        self._identity = _identity(descriptor)
        return True

    def _is_ours(self) -> bool:
        """Whether the descriptor still is our file: some programs close all that they find open."""
        try:
            return self._descriptor is not None and _identity(self._descriptor) == self._identity
        except OSError:
            return False

    def resign(self) -> None:
        """Let go of the lock, or in a forked child of the parent's, which stays with the parent."""
        if self._is_ours() and self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
        self._descriptor = self._group = None


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
