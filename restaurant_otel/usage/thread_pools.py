"""How full the thread pools are that requests wait for: AnyIO's, asyncio's own, gunicorn's threads.

Starlette and FastAPI run every `def` endpoint in AnyIO's pool of 40 threads, on asyncio or trio; when those are busy
requests queue up unseen by any other figure. The pools' owners change them meanwhile in other threads: what is read may
be a moment old.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor, thread
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from restaurant_otel import catalog
from restaurant_otel.metrics.group import gunicorn_worker
from restaurant_otel.usage.event_loop import running_loop
from restaurant_otel.usage.readings import ProcessReading
from restaurant_otel.usage.sheet import Sheet


@dataclass(slots=True)
class _Pool:
    limit: float = 0
    busy: float = 0
    waiting: float = 0


class ThreadPools:
    """Collects this worker's thread pools."""

    def __init__(self) -> None:
        self._limiters: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self._gunicorn: Any = None

    def watch(self) -> None:
        """Look at the pools of the event loop that runs in this thread, if one does, and at gunicorn's."""
        self._gunicorn = getattr(gunicorn_worker(), "tpool", None)
        loop = running_loop()
        if loop is not None and loop not in self._limiters:
            from anyio.to_thread import current_default_thread_limiter  # heavy, and there where a loop runs

            self._limiters[loop] = current_default_thread_limiter()

    def forget(self) -> None:
        """Forget all pools, after a fork."""
        self._limiters = WeakKeyDictionary()
        self._gunicorn = None

    def collect(self, sheet: Sheet, reading: ProcessReading) -> None:  # noqa: ARG002 - the shape of a collector
        """See `Collector`."""
        anyio, default = _Pool(), _Pool()
        for loop, limiter in list(self._limiters.items()):
            told = limiter.statistics()
            anyio.limit += told.total_tokens
            anyio.busy += told.borrowed_tokens
            anyio.waiting += told.tasks_waiting
            # Private, but there since Python 3.4; uvloop and trio have none that can be seen.
            _add_executor(default, getattr(loop, "_default_executor", None))
        gunicorn = _Pool()
        _add_executor(gunicorn, self._gunicorn)
        for name, pool in (("anyio", anyio), ("asyncio", default), ("gunicorn", gunicorn)):
            if pool.limit:
                sheet.put(catalog.THREAD_POOL_LIMIT, pool.limit, name)
                sheet.put(catalog.THREAD_POOL_UTILIZATION, pool.busy / pool.limit, name)
                sheet.put(catalog.THREAD_POOL_WAITING, pool.waiting, name)


def _add_executor(pool: _Pool, executor: object) -> None:
    """Add a standard executor, whose figures are all private: a test tells should they change.

    Its own count of idle threads is a hint for when to start one, and wrong for good once tasks have had to wait. So a
    thread is busy when it is anywhere but in the function in which threads wait for work.
    """
    waits_for_work = getattr(getattr(thread, "_worker", None), "__code__", None)
    queue, threads = getattr(executor, "_work_queue", None), getattr(executor, "_threads", None)
    if not isinstance(executor, ThreadPoolExecutor) or None in (waits_for_work, queue, threads):
        return
    frames = sys._current_frames()  # documented despite its name
    at = (frames.get(worker.ident or 0) for worker in list(threads or ()))
    pool.limit += getattr(executor, "_max_workers", 0)
    pool.busy += sum(frame is not None and frame.f_code is not waits_for_work for frame in at)
    pool.waiting += queue.qsize() if queue is not None else 0
