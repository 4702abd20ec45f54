"""The resource observer: what the host, the container and each worker use, and whether a worker's memory leaks.

It starts with the first app that gets ready in a process (`start`), not at import and not before a server has
forked, and runs in one daemon thread a worker. One of an app's workers samples the host for all. Its numbers are
gauges and counters like all others; `history` keeps the latest readings for trends, and `leak_snapshot` tells where
memory grows when an operator asks. The parts are in `usage`.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import threading
from typing import Any

from restaurant_otel import forks
from restaurant_otel.errors import survived
from restaurant_otel.metrics.registry import registry
from restaurant_otel.settings import Settings
from restaurant_otel.usage.readings import History, HostReading, ProcessReading
from restaurant_otel.usage.sampler import Sampler
from restaurant_otel.usage.snapshots import Growth, LeakSnapshot, tracer

__all__ = [
    "Growth",
    "History",
    "HostReading",
    "LeakSnapshot",
    "ProcessReading",
    "history",
    "leak_snapshot",
    "start",
    "stop",
    "stop_leak_snapshot",
]

logger = logging.getLogger(__name__)

_sampler: Sampler | None = None
_pid: int | None = None
_lock = forks.Lock()


def start(settings: Settings | None = None) -> None:
    """Begin to observe, in this process, and to look at the event loop that runs in this thread, if one does.

    The first call in a process decides with which `settings` (default: those of the environment); each further one
    only adds its event loop. Takes about a millisecond the first time: sampling is done elsewhere. Any thread;
    never raises.
    """
    global _pid
    try:
        settings = Settings.resolve() if settings is None else settings
        if not settings.resources:
            return
        with _lock:
            sampler = _sampler_for(settings)
            first, _pid = _pid != os.getpid(), os.getpid()
            if first:
                sampler.start()
        sampler.event_loops.watch()
        sampler.thread_pools.watch()
        if first and settings.leak_snapshot_signal is not None:
            _listen(settings.leak_snapshot_signal)
    except Exception as error:  # noqa: BLE001 - never into the app
        survived("resources", error)


def _sampler_for(settings: Settings) -> Sampler:
    global _sampler
    if _sampler is not None and _pid is not None and _pid != os.getpid():
        _sampler.begin_anew()  # in case that Python was not told of the fork (uWSGI)
    if _sampler is None:
        _sampler = Sampler(
            registry(),
            settings.resources_interval,
            disks=settings.resources_disks,
            interfaces=settings.resources_interfaces,
            mounts=settings.resources_mounts,
        )
        atexit.register(stop)
    return _sampler


def stop() -> None:
    """Observe no longer: the gauges of this process vanish, and another worker takes the host. Any thread.

    Happens by itself at exit. `start` begins anew.
    """
    global _sampler, _pid
    with _lock:
        sampler, _sampler, _pid = _sampler, None, None
    atexit.unregister(stop)
    if sampler is not None:
        sampler.stop()


def before_scrape() -> None:
    """Sample the host if the worker that did so has died. For whoever is about to answer a scrape. Never raises."""
    sampler = _sampler
    if sampler is not None and _pid == os.getpid():
        try:
            sampler.take_over()
        except Exception as error:  # noqa: BLE001 - the scrape is to be answered
            survived("resources", error)


def history() -> History:
    """The latest 1,000 readings of the host and of this process, oldest first; none before `start`.

    The host's are the same in every worker of a group, whichever of them is asked. Any thread; takes a few
    milliseconds.
    """
    sampler = _sampler
    return History() if sampler is None or _pid != os.getpid() else sampler.history


def leak_snapshot(top: int = 20) -> LeakSnapshot:
    """Which lines of code hold more memory than when this was first called; that call only begins to trace.

    For an operator who asks (an admin endpoint, a signal), never for a schedule: while `tracemalloc` traces,
    allocating takes two to four times as long. Tracing ends with `stop_leak_snapshot`, or by itself an hour after
    the last look. Takes up to seconds in a large process: not on an event loop. Any thread.
    """
    return tracer.look(top)


def stop_leak_snapshot() -> None:
    """End what `leak_snapshot` began."""
    tracer.stop()


# --- by signal ----------------------------------------------------------------------------------------


def _listen(number: int) -> None:
    if threading.current_thread() is not threading.main_thread():
        logger.warning("leak_snapshot_signal needs an app that starts in its main thread; it is off")
    elif signal.getsignal(number) not in (signal.SIG_DFL, signal.SIG_IGN):
        logger.warning("%s is handled by somebody else already; leak_snapshot_signal is off", _name(number))
    else:
        signal.signal(number, _on_signal)


def _name(number: int) -> str:
    return signal.Signals(number).name


def _on_signal(*_: Any) -> None:
    # In a thread: the handler runs in the middle of whatever the main thread does, an event loop mostly.
    threading.Thread(target=_log_snapshot, name="restaurant-otel-leaks", daemon=True).start()


def _log_snapshot() -> None:
    try:
        found = leak_snapshot()
        if found.began:
            logger.warning("tracing memory from now on; send the signal again to see what has grown")
            return
        lines = [
            f"{grown.size:>14,} B {grown.count:>8} blocks  {grown.file}:{grown.line}"
            for grown in found.growth
        ]
        logger.warning("grown in %.0f s:\n%s", found.seconds, "\n".join(lines) or "nothing")
    except Exception as error:  # noqa: BLE001 - an operator's tool must not end the thread loudly
        survived("resources", error)
