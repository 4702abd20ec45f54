"""A worker's file while it grows: segments are added, index lines are appended, a lock says who lives.

It only exists where siblings can: `Registry` makes one when it joins a group and gives it to its `Store`,
whose lock covers every call here. Reading is `workers`' part.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from typing import Final

from restaurant_otel.metrics import layout

FIRST_INDEX: Final = 1 << 15
LARGEST_INDEX: Final = 1 << 20

_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class WorkerFile:
    """A worker's file while it grows. An exclusive lock on it says that its worker lives.

    The kernel lets go of the lock however the process ends. It is taken on a descriptor of its own: the mappings'
    copies of the other one outlive a fork, and would make a dead parent look alive.
    """

    def __init__(self, folder: int, head: layout.Head) -> None:
        self.name = f"{head.id}.cells"
        self.full = False
        self._working_name = f"{self.name}.new"
        self._size = 0
        self._index_at = self._index_room = self._index_used = 0
        self._fd = os.open(self._working_name, _CREATE, 0o600, dir_fd=folder)
        self._lock_fd = -1
        self._identity = _identity(self._fd)
        try:
            self._lock_fd = os.open(self._working_name, _READ, dir_fd=folder)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            self._grow(layout.PAGE)
            os.pwrite(self._fd, head.to_bytes(), 0)
        except BaseException:
            self.discard(folder)
            raise

    def add_segment(self, kind: int, size: int) -> mmap.mmap:
        """Room for a block of `size` bytes, all zero. Raises OSError when the disk is full."""
        return mmap.mmap(self._fd, size, offset=self._new_segment(kind, size))

    def _new_segment(self, kind: int, size: int) -> int:
        self._check()
        at = self._size
        self._grow(size)
        os.pwrite(self._fd, layout.segment_head(kind, size), at)
        return at

    def append(self, lines: bytes) -> None:
        """Add whole lines to the index; readers see them all at once. Raises OSError when the disk is full."""
        self._check()
        if not self._index_at or self._index_used + len(lines) > self._index_room:
            doubled = min(max(FIRST_INDEX, 2 * self._index_room), LARGEST_INDEX)
            size = layout.pages(
                max(doubled, layout.SEGMENT_HEAD + len(lines))
            )  # what follows begins on a page
            self._index_at = self._new_segment(layout.INDEX, size)
            self._index_room, self._index_used = size - layout.SEGMENT_HEAD, 0
        at = self._index_at + layout.SEGMENT_HEAD + self._index_used
        if os.pwrite(self._fd, lines, at) != len(lines):
            raise OSError("the index was written in part only")
        self._index_used += len(lines)
        os.pwrite(self._fd, *layout.used_field(self._index_at, self._index_used))

    def publish(self, folder: int) -> None:
        """Take the name under which siblings look for it."""
        os.rename(self._working_name, self.name, src_dir_fd=folder, dst_dir_fd=folder)

    def close(self) -> None:
        """Let go of the file without touching it."""
        for fd in (self._lock_fd, self._fd):
            if self._ours(fd):
                os.close(fd)
        self._lock_fd = self._fd = -1

    def discard(self, folder: int) -> None:
        """Remove a file that was not published."""
        with contextlib.suppress(OSError):
            os.unlink(self._working_name, dir_fd=folder)
        self.close()

    def _grow(self, size: int) -> None:
        # Room is made before it is mapped: touching a page that the disk has no room for kills the process.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._fd, self._size, size)
        else:
            for at in range(self._size, self._size + size, layout.PAGE):
                os.pwrite(self._fd, bytes(layout.PAGE), at)
        self._size += size

    def _check(self) -> None:
        if self.full:
            raise OSError("the file has stopped growing")
        if not self._ours(self._fd):
            raise OSError("the file's descriptor was closed by somebody else")

    def _ours(self, fd: int) -> bool:
        """Whether `fd` still is our file: some programs close every descriptor and reuse the numbers."""
        try:
            return _identity(fd) == self._identity
        except OSError:
            return False


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
