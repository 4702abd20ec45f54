"""Which processes are siblings, that is, workers of one app: found with no setting wherever that is certain.

A group is named after its leader, the process that started the workers, and two processes are siblings when
they have the same leader. A leader is only believed where the server itself says that it made this process a
worker: having the same parent is not enough, for two apps started from one shell have that too. Where nothing
is certain there is no group, and the numbers stay in memory.

`Registry.attach` asks `find`; `workers` asks whether a leader still lives. Nothing here touches files other
than those of ``/proc``.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import threading
from dataclasses import dataclass
from functools import cache
from types import FrameType
from typing import Any, Final
from zlib import crc32

_WORKER_MODULES: Final = frozenset(
    {"uvicorn._subprocess", "granian.server.mp", "hypercorn.asyncio.run", "hypercorn.trio.run"}
)
"""Where the functions live that these servers run in the processes they start."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group by its name, which is a folder's name too; `root` is the folder that it is somewhere below.

    Named by the operator, a group has no leader.
    """

    name: str
    root: str
    leader: Leader | None = None


@dataclass(frozen=True, slots=True)
class Leader:
    """A process, told apart from a later one with the same id by when it started and since which boot.

    `start` is in the kernel's clock ticks since the boot; `namespace` tells containers apart, whose process ids
    mean nothing to each other.
    """

    pid: int
    start: int
    namespace: int
    boot: str

    @property
    def name(self) -> str:
        """The name of its group."""
        return f"{self.pid}-{self.start}-{self.namespace:x}-{self.boot}"

    @classmethod
    def parse(cls, name: str) -> Leader | None:
        """The leader that a group is named after; None where a group is named otherwise."""
        match = re.fullmatch(r"(\d+)-(\d+)-([0-9a-f]+)-([0-9a-f]+)", name)
        return cls(int(match[1]), int(match[2]), int(match[3], 16), match[4]) if match else None

    @property
    def lives(self) -> bool:
        """Whether it may still be there; True also where another container has to be asked."""
        if self.boot != boot():
            return False
        return self.namespace != pid_namespace() or started(self.pid) == self.start


def leader(pid: int) -> Leader | None:
    """The process `pid`, if it is there."""
    start = started(pid)
    return None if start is None else Leader(pid, start, pid_namespace(), boot())


def find(forked_from: Leader | None) -> Group | None:
    """The group of this process; `forked_from` is the process with this library in use that it was forked from.

    Costs well under a millisecond; never raises but OSError.
    """
    name = os.environ.get("RESTAURANT_OTEL_GROUP")
    if name:
        return Group("named-" + _file_name(name), default_root())
    if os.environ.get("RESTAURANT_OTEL_WORKERS_DIR"):
        return Group("shared", default_root())
    if os.name != "posix":
        return None
    found = _gunicorn() or _uwsgi() or _supervised() or forked_from
    return None if found is None else Group(found.name, default_root(), found)


def named_by_operator() -> bool:
    """Whether a variable says that there are siblings, so that nothing has to be found out."""
    return bool(os.environ.get("RESTAURANT_OTEL_GROUP") or os.environ.get("RESTAURANT_OTEL_WORKERS_DIR"))


def predecessor() -> int | None:
    """The process id of the gunicorn master that this worker's master was started by to take over (USR2)."""
    text = os.environ.get("GUNICORN_PID", "")
    return int(text) if text.isascii() and text.isdigit() and "gunicorn.arbiter" in sys.modules else None


def default_root() -> str:
    """Where groups are kept: the same answer in all processes of an app."""
    wished = os.environ.get("RESTAURANT_OTEL_WORKERS_DIR")
    if wished:
        return os.path.abspath(wished)
    for place in (os.environ.get("XDG_RUNTIME_DIR"), "/dev/shm"):  # noqa: S108 - see `folder`
        if place and os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK):
            return place
    return tempfile.gettempdir()


def _file_name(name: str) -> str:
    """`name` as a file name: itself where that is plain, otherwise something as good."""
    if re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", name):
        return name
    return (
        f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)[:80]}-{crc32(name.encode('utf-8', 'surrogateescape')):08x}"
    )


# --- the servers -------------------------------------------------------------------------------------


def _gunicorn() -> Leader | None:
    """The master, in a worker of gunicorn. That the module is loaded is not enough: anybody may import it."""
    pid = getattr(gunicorn_worker(), "ppid", None)
    return leader(pid) if isinstance(pid, int) and pid > 0 else None


def gunicorn_worker() -> object | None:
    """The worker object, in a worker of gunicorn; None anywhere else."""
    if "gunicorn.arbiter" not in sys.modules:
        return None
    return _gunicorn_worker_by_stack() or _gunicorn_worker_by_signals()


def _gunicorn_worker_by_stack() -> object | None:
    """The worker object, where the main thread is inside the call in which gunicorn's worker spends its life."""
    frame: FrameType | None = sys._current_frames().get(
        threading.main_thread().ident or 0
    )  # documented despite its name
    while frame is not None:
        if frame.f_code.co_name == "spawn_worker" and frame.f_globals.get("__name__") == "gunicorn.arbiter":
            return frame.f_locals.get("worker")
        frame = frame.f_back
    return None


def _gunicorn_worker_by_signals() -> object | None:
    """The worker object, where it handles this process's signals: for gevent, where the main stack is out of sight."""
    base: type | tuple[()] = getattr(sys.modules.get("gunicorn.workers.base"), "Worker", ())
    for number in (signal.SIGUSR1, signal.SIGABRT):
        worker: object = getattr(signal.getsignal(number), "__self__", None)
        if isinstance(worker, base):
            return worker
    return None


def _uwsgi() -> Leader | None:
    """The master of uWSGI, whose module exists only inside of it. Not imported by name: apps are called that too."""
    module: Any = sys.modules.get("uwsgi")
    if module is None and "uwsgi" in sys.builtin_module_names:
        module = importlib.import_module("uwsgi")
    if not callable(getattr(module, "masterpid", None)):
        return None
    pid = module.masterpid()
    if not pid and module.numproc > 1:  # without a master the first worker starts the others
        pid = os.getpid() if module.worker_id() == 1 else os.getppid()
    return leader(pid) if pid else None


def _supervised() -> Leader | None:
    """The parent of a worker that uvicorn, granian or hypercorn started by way of `multiprocessing`.

    A child of uvicorn's reloader looks the same; it is alone in its group, and its counters outlive the reload.
    """
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None:
        return None
    # Private, but there since Python 2.6; a test with a real server tells should it go.
    target = getattr(multiprocessing.current_process(), "_target", None)
    module = getattr(getattr(target, "func", target), "__module__", None)
    return leader(parent.pid) if module in _WORKER_MODULES else None


# --- processes ---------------------------------------------------------------------------------------


def started(pid: int) -> int | None:
    """When a process started, in ticks since the boot; None if there is no such process, or only its remains."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None if os.path.exists("/proc/self/stat") else _started_elsewhere(pid)
    # Counted from the third field: state, ..., threads (20th), start (22nd). A zombie may have threads left.
    if fields[0] in (b"Z", b"X") and int(fields[17]) <= 1:
        return None
    return int(fields[19])


def _started_elsewhere(pid: int) -> int | None:
    """Where there is no /proc: milliseconds since the epoch do as well."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time() * 1000)
    except psutil.Error:
        return None


@cache
def boot() -> str:
    """What tells this boot of the machine from others, in hexadecimal digits."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().replace("-", "")[:12]
    except OSError:
        return "0"


@cache
def pid_namespace() -> int:
    """The namespace that this process's view of process ids belongs to."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0
