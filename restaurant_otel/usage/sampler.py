"""The observer's clock: one thread a worker, which samples the worker and, where it is elected, the host for all.

Made by `resources.start` and there only once a process. `sample` is one whole turn and may be called without the
thread, by a test with a clock of its own.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from restaurant_otel import catalog, forks
from restaurant_otel.errors import survived
from restaurant_otel.metrics import Registry
from restaurant_otel.usage.backlog import Backlog
from restaurant_otel.usage.cgroups import Cgroups
from restaurant_otel.usage.container import Container, usable_cpus
from restaurant_otel.usage.cpu import Cpu
from restaurant_otel.usage.disk import Disk
from restaurant_otel.usage.election import Election
from restaurant_otel.usage.event_loop import EventLoops
from restaurant_otel.usage.files import Files, number_after
from restaurant_otel.usage.filesystem import FileSystem
from restaurant_otel.usage.garbage import Garbage
from restaurant_otel.usage.history import READINGS, HostHistory
from restaurant_otel.usage.limits import Limits
from restaurant_otel.usage.memory import Memory
from restaurant_otel.usage.memory_trend import MemoryTrend
from restaurant_otel.usage.network import Network
from restaurant_otel.usage.pressure import Pressure
from restaurant_otel.usage.process import Process
from restaurant_otel.usage.processes import Processes
from restaurant_otel.usage.readings import History, HostReading, ProcessReading
from restaurant_otel.usage.sheet import Collector, Sheet
from restaurant_otel.usage.snapshots import tracer
from restaurant_otel.usage.thread_pools import ThreadPools

R = TypeVar("R", HostReading, ProcessReading)

Patterns = tuple[str, ...] | None

_ROOM_SECONDS: Final = 60.0
"""Limits are looked up again after this, and what is left until them."""


class Sampler:
    """All collectors of a process, what they have read, and the thread that makes them.

    `seconds` is the interval. `disks`, `interfaces` and `mounts` are patterns of names that count, None for what is
    sensible. `root` is where ``/proc`` and ``/sys`` are, `clock` a monotonic clock and `wall` the time of day.
    """

    def __init__(
        self,
        registry: Registry,
        seconds: float,
        *,
        disks: Patterns = None,
        interfaces: Patterns = None,
        mounts: Patterns = None,
        root: str = "/",
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.seconds = seconds
        self._registry = registry
        self._selections = disks, interfaces, mounts
        self._clock = clock
        self._wall = wall
        self._files = Files(root)
        self.event_loops = EventLoops(registry)
        self.thread_pools = ThreadPools()
        self.garbage = Garbage(registry)
        self._election = Election()
        self._begin()
        forks.follow(before=self._before_fork, in_parent=self._in_parent, in_child=self.begin_anew)

    def _begin(self) -> None:
        """Begin with no earlier look to compare with."""
        self._lock = threading.Lock()
        self._held = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._host_history = HostHistory()
        self._process_history: deque[ProcessReading] = deque(maxlen=READINGS)
        self._host: Sequence[Collector[HostReading]] | None = None
        self._process: Sequence[Collector[ProcessReading]] | None = None
        self._host_sheet = Sheet(self._registry)
        self._process_sheet = Sheet(self._registry)
        self._elected = False

    # --- sampling ---------------------------------------------------------------------------------------

    def sample(self) -> None:
        """Sample this process, and the host if elected. Any thread; never raises."""
        with self._lock:
            self._sample_process()
            self._sample_host_if_elected()

    def take_over(self) -> None:
        """Sample the host if nobody does any more: before a scrape, so that it misses nothing."""
        if self._elected or not self._lock.acquire(timeout=1.0):
            return
        try:
            if not self._elected:
                self._sample_host_if_elected()
        finally:
            self._lock.release()

    def _sample_process(self) -> None:
        if self._process is None:
            self._process = self._process_collectors()
        reading = ProcessReading(self._wall())
        self._collect(self._process_sheet, self._process, reading)
        self._process_history.append(reading)
        tracer.stop_if_forgotten()

    def _sample_host_if_elected(self) -> None:
        try:
            group = self._registry.group
            elected = self._election.won(group)
        except OSError as error:  # the folder is gone: this process speaks for itself, and so does each other
            survived("resources", error)
            group, elected = None, True
        if not elected:
            if self._elected:
                self._host_sheet.clear()
                self._host_history.forget()
                self._host, self._elected = None, False
            return
        self._elected = True
        if self._host is None:
            self._host = self._host_collectors()
        reading = HostReading(self._wall())
        self._collect(self._host_sheet, self._host, reading)
        try:
            self._host_history.add(reading, group)
        except OSError as error:
            survived("resources", error)

    def _collect(self, sheet: Sheet, collectors: Sequence[Collector[R]], reading: R) -> None:
        sheet.begin(self._clock())
        for collector in collectors:
            try:
                collector.collect(sheet, reading)
            except Exception as error:  # noqa: BLE001 - one subject must not cost the others theirs
                survived("resources", error)
        sheet.end()

    @property
    def history(self) -> History:
        """The latest readings. Any thread."""
        with self._lock:
            try:
                host = self._host_history.all(self._registry.group)
            except OSError as error:
                survived("resources", error)
                host = ()
            return History(host, tuple(self._process_history))

    # --- collectors -------------------------------------------------------------------------------------

    def _host_collectors(self) -> Sequence[Collector[HostReading]]:
        disks, interfaces, mounts = self._selections
        files = self._files
        if not files.exists("/proc/stat"):
            from restaurant_otel.usage.portable import PortableHost  # it takes psutil, which takes 10 ms

            return (PortableHost(disks, interfaces, mounts), Limits())
        cgroups = Cgroups(files)
        return (
            Cpu(files),
            Memory(files),
            Disk(files, disks),
            FileSystem(files, mounts),
            Network(files, interfaces),
            Processes(files),
            Pressure(files, cgroups),
            Container(cgroups),
            Limits(),
        )

    def _process_collectors(self) -> Sequence[Collector[ProcessReading]]:
        cgroups = Cgroups(self._files)
        process: Collector[ProcessReading]
        if self._files.exists("/proc/self/stat"):
            room = _Room(partial(_host_room, self._files), cgroups, self._clock)
            process = Process(self._files, room.cpus)
        else:
            from restaurant_otel.usage.portable import PortableProcess, memory_room

            room = _Room(memory_room, cgroups, self._clock)
            process = PortableProcess(room.cpus)
        runtime = (self.garbage, self.event_loops, self.thread_pools, Backlog(self._files))
        return (process, *runtime, MemoryTrend(self._clock(), room.memory))

    # --- the thread -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to sample, now and at each interval. A second call changes nothing.

        A forked child has to start its own: it may be no worker at all.
        """
        if self._thread is not None or self._stop.is_set():
            return
        self.garbage.start()
        self._registry.counter(catalog.WORKER_STARTS).bind().add(1)
        self._thread = threading.Thread(target=self._run, name="restaurant-otel-resources", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        stop, due = self._stop, time.monotonic()
        wake_ups = self._registry.histogram(catalog.WAKE_UP_DELAY).bind()
        while True:
            self.sample()
            now = time.monotonic()
            # A machine that was suspended does not make up for what it has slept through.
            due = due + self.seconds if due + self.seconds > now else now + self.seconds
            if stop.wait(due - now):
                return
            wake_ups.record(max(0.0, time.monotonic() - due))

    def stop(self, timeout: float = 1.0) -> None:
        """End for good, and leave the host to another worker. Waits for a sample under way."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        self._thread = None
        if self._lock.acquire(timeout=timeout):
            try:
                self.garbage.stop()
                self._host_sheet.clear()
                self._process_sheet.clear()
                self._election.resign()
                self._files.let_go()
                self._elected = False
                self._host = self._process = None
            finally:
                self._lock.release()

    # --- forks ------------------------------------------------------------------------------------------

    def _before_fork(self) -> None:
        self._held = self._lock.acquire(timeout=1.0)

    def _in_parent(self) -> None:
        if self._held:
            self._held = False
            self._lock.release()

    def begin_anew(self) -> None:
        """After a fork, in the child: compare with nothing that the parent has read, and leave it its lock."""
        self.garbage.stop()
        self._election.resign()
        self._files.let_go()
        self.event_loops.forget()
        self.thread_pools.forget()
        self._begin()


class _Room:
    """How much a process may use: CPUs, and memory. Looked up once a minute.

    `host` tells the host's memory and what is left of it.
    """

    def __init__(
        self, host: Callable[[], tuple[float, float] | None], cgroups: Cgroups, clock: Callable[[], float]
    ) -> None:
        self._host = host
        self._cgroups = cgroups
        self._clock = clock
        self._again_at: float | None = None
        self._cpus = 1.0
        self._memory: tuple[float, float] | None = None

    def cpus(self) -> float:
        """CPUs that this process may use."""
        self._look()
        return self._cpus

    def memory(self) -> tuple[float, float] | None:
        """The limit that is nearest, and what is left until then, in bytes."""
        self._look()
        return self._memory

    def _look(self) -> None:
        now = self._clock()
        if self._again_at is not None and now < self._again_at:
            return
        self._again_at = now + _ROOM_SECONDS
        self._cpus = min(self._cgroups.cpu_quota() or usable_cpus(), usable_cpus())
        host = self._host()
        rooms: list[tuple[float, float]] = [
            (use.limit, use.limit - use.working_set) for use in self._cgroups.memory() if use.limit
        ]
        if host is not None:
            rooms.append(host)
        self._memory = min(rooms, key=lambda room: room[1], default=None)


def _host_room(files: Files) -> tuple[float, float] | None:
    """The host's memory and what is available of it, in bytes, by ``/proc/meminfo``."""
    meminfo = files.read("/proc/meminfo") or b""
    total, available = number_after(meminfo, b"MemTotal:"), number_after(meminfo, b"MemAvailable:")
    return None if total is None or available is None else (total * 1024, available * 1024)
