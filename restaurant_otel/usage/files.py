"""The kernel's small files: ``/proc``, ``/sys`` and cgroups, read again and again at the least cost.

Files stay open and are read from their beginning each time. That is one system call instead of three, and it counts
twice: each call lets go of the interpreter's lock, and under a busy event loop getting it back takes up to 5 ms.

Not for ``/proc/<pid>`` of processes that come and go, nor for files of any size.
"""

from __future__ import annotations

import os
from typing import Final

_MOST: Final = 64
_FIRST_SIZE: Final = 4096
_LARGEST: Final = 1 << 20


class Files:
    """Open files below `root`, by their absolute paths. For one thread at a time.

    A forked child must call `let_go` before anything else: what is open here of ``/proc/self`` is its parent's.
    """

    def __init__(self, root: str = "/") -> None:
        self.root = root.rstrip("/")
        self._open: dict[str, tuple[int, tuple[int, int]]] = {}
        self._sizes: dict[str, int] = {}

    def path(self, path: str) -> str:
        """Where `path` is, for calls of `os`."""
        return self.root + path

    def read(self, path: str) -> bytes | None:
        """All of a file; None where it is not there, or not for us to read. At most a mebibyte."""
        known = self._open.get(path)
        try:
            if known is None:
                known = self._opened(path)
            return self._contents(path, known[0])
        except OSError:
            self._close(path)
            return None

    def read_once(self, path: str) -> bytes | None:
        """The same without keeping it open: for what is looked at rarely."""
        try:
            descriptor = os.open(self.root + path, os.O_RDONLY)
            try:
                return os.read(descriptor, _LARGEST)
            finally:
                os.close(descriptor)
        except OSError:
            return None

    def names(self, path: str) -> list[str]:
        """What is in a folder; nothing where it is not there."""
        try:
            return os.listdir(self.root + path)
        except OSError:
            return []

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        return os.path.exists(self.root + path)

    def _opened(self, path: str) -> tuple[int, tuple[int, int]]:
        descriptor = os.open(self.root + path, os.O_RDONLY)
        known = descriptor, _identity(descriptor)
        if len(self._open) < _MOST:
            self._open[path] = known
        return known

    def _contents(self, path: str, descriptor: int) -> bytes:
        size = self._sizes.get(path, _FIRST_SIZE)
        try:
            data = os.pread(descriptor, size, 0)
            while len(data) == size and size < _LARGEST:
                size *= 4
                # From the beginning again: a file of the kernel's is one picture only when read in one go.
                data = os.pread(descriptor, size, 0)
        finally:
            if path not in self._open:
                os.close(descriptor)
        if size != _FIRST_SIZE:
            self._sizes[path] = size
        return data

    def _close(self, path: str) -> None:
        known = self._open.pop(path, None)
        if known is not None:
            _close_if_still(*known)

    def let_go(self) -> None:
        """Close all files."""
        for path in list(self._open):
            self._close(path)


def _close_if_still(descriptor: int, identity: tuple[int, int]) -> None:
    """Close a file of ours: some programs close every descriptor, and the number may be another file's now."""
    try:
        if _identity(descriptor) == identity:
            os.close(descriptor)
    except OSError:
        pass


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def number_after(data: bytes, word: bytes) -> int | None:
    """The whole number that follows `word`, as in ``number_after(vmstat, b"pgfault ")``; None where there is none.

    `word` must stand at the beginning of a line.
    """
    at = 0 if data.startswith(word) else data.find(b"\n" + word) + 1
    if at == 0 and not data.startswith(word):
        return None
    end = data.find(b"\n", at)
    fields = data[at + len(word) : end if end >= 0 else len(data)].split(None, 1)
    return int(fields[0]) if fields else None
