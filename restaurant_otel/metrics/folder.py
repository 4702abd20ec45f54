"""A folder that only this user can look into, and the few things done in it safely.

Temporary folders are shared with strangers, who may have put a link, a folder of their own or a pipe where
ours should be. So every step is taken relative to a descriptor that was checked, and nothing follows a link.
What the files hold is no matter here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from restaurant_otel.metrics.group import Group

_MEBIBYTE: Final = 1 << 20
_PLANTED: Final = (errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM)  # a link, a socket, somebody else's
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # does not wait at a planted pipe


class UnsafeError(OSError):
    """A folder or file that belongs to somebody else, can be written by others, or is a link."""


@contextlib.contextmanager
def base(root: str, create: bool = False) -> Iterator[int]:
    """A descriptor of this user's folder in `root`, ``restaurant-otel-<uid>``.

    Raises OSError: FileNotFoundError when it is not there and not to be created, `UnsafeError`.
    """
    path = os.path.join(root, f"restaurant-otel-{os.geteuid()}")
    with _private(path, None, create) as descriptor:
        yield descriptor


@contextlib.contextmanager
def inner(parent: int, name: str, create: bool = False) -> Iterator[int]:
    """A descriptor of the folder `name` in `parent`. Raises as `base` does."""
    with _private(name, parent, create) as descriptor:
        yield descriptor


@contextlib.contextmanager
def of_group(group: Group) -> Iterator[int]:
    """A descriptor of the folder that the workers of a group share. Raises as `base` does."""
    with base(group.root) as parent, inner(parent, group.name) as place:
        yield place


@contextlib.contextmanager
def _private(path: str, parent: int | None, create: bool) -> Iterator[int]:
    if create:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700, dir_fd=parent)
    try:
        descriptor = os.open(path, _READ | os.O_DIRECTORY, dir_fd=parent)
    except NotADirectoryError as error:
        raise UnsafeError(f"{path} is a link or not a folder") from error
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            raise UnsafeError(f"{path} belongs to user {status.st_uid}")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise UnsafeError(f"{path} is open to other users (mode {stat.S_IMODE(status.st_mode):o})")
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def whatever(path: str) -> Iterator[int]:
    """A descriptor of any folder, unchecked: for looking, at what a person has named."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def opened(folder: int, name: str) -> Iterator[tuple[int, os.stat_result]]:
    """A file of ours, to be read, and its status. Raises OSError, of which `UnsafeError` is one."""
    try:
        descriptor = os.open(name, _READ, dir_fd=folder)
    except OSError as error:
        if error.errno in _PLANTED:
            raise UnsafeError(f"{name} cannot be opened: {error}") from error
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise UnsafeError(f"{name} is not a plain file of this user")
        yield descriptor, status
    finally:
        os.close(descriptor)


def is_locked(descriptor: int) -> bool:
    """Whether a living process holds the file's lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


@contextlib.contextmanager
def exclusively(folder: int, name: str) -> Iterator[bool]:
    """Hold the lock `name` of a folder; False where somebody else holds it: nobody waits."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            try:
                yield True
            finally:  # a child forked meanwhile has the descriptor too, and would keep the lock
                fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def read(descriptor: int, size: int) -> bytes:
    """The first `size` bytes, or fewer where the file is shorter.

    Copied rather than mapped: should somebody cut a mapped file short, looking at it would kill the process.
    """
    data = os.pread(descriptor, size, 0)
    while len(data) < size and (more := os.pread(descriptor, size - len(data), len(data))):
        data += more
    return data


def contents(folder: int, name: str, most: int) -> bytes:
    """What a file of ours holds, its first `most` bytes. Raises OSError, of which `UnsafeError` is one."""
    with opened(folder, name) as (descriptor, status):
        return read(descriptor, min(status.st_size, most))


def replace(folder: int, name: str, data: bytes) -> None:
    """`write_new`, in one step. Raises OSError."""
    for _ in write_new(folder, name, (data,)):
        pass


def write_new(folder: int, name: str, parts: Iterable[bytes | bytearray | memoryview]) -> Iterator[None]:
    """Put a whole file in place at once: other processes see the old one or this one. A step a mebibyte."""
    working_name = f"{name}.{os.getpid()}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(working_name, flags, 0o600, dir_fd=folder)
    try:
        try:
            for part in parts:
                view = memoryview(part)
                while view:
                    view = view[os.write(descriptor, view[:_MEBIBYTE]) :]
                    yield
        finally:
            os.close(descriptor)
        os.rename(working_name, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        remove(folder, working_name)
        raise


def remove(folder: int, name: str) -> None:
    """Remove a file; no matter if it is gone already."""
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)
