"""One background thread a cache and process: probes and replays after an outage, renews leases, shows gauges.

It starts with the first call to Redis, keeps no process from ending, ends with `close` or with its
cache, and is started anew in a child process. It has a blocking link of its own, also for an `AsyncCache`: an
outage ends whether or not an event loop is running. Nothing it does is waited for by a caller.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from redis.exceptions import ResponseError

from restaurant_otel import catalog
from restaurant_otel.caching import scripts
from restaurant_otel.caching.breaker import State
from restaurant_otel.caching.core import Core
from restaurant_otel.caching.driver import run
from restaurant_otel.caching.inspect import parsed
from restaurant_otel.caching.journal import Journal
from restaurant_otel.caching.leases import LEASE_MS, Leases
from restaurant_otel.caching.links import Command, Link, raising, unlink
from restaurant_otel.caching.writing import marking
from restaurant_otel.errors import survived

_RENEW_EVERY: Final = LEASE_MS / 1000 / 4
_GAUGES_EVERY: Final = 5.0
_REDIS_EVERY: Final = 15.0
_BATCH: Final = 500
_ROUNDS: Final = 2
"""How often the journal is replayed beside its writers before they are made to wait for the little that is left."""


class Maintenance:
    """The thread, and what it has to do. `make_link` makes its own blocking link."""

    def __init__(self, core: Core, leases: Leases, make_link: Callable[[], Link]) -> None:
        self._core = core
        self._leases = leases
        self._make_link = make_link
        self.forget()

    def forget(self) -> None:
        """In a child process: the thread is the parent's."""
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._link: Link | None = None
        self._probe_at = 0.0
        self._gauges_at = 0.0
        self._redis_at = 0.0

    # --- for callers, any thread -----------------------------------------------------------------

    def ensure(self) -> None:
        """See to it that the thread runs. Called before every call to Redis: one attribute read when it does."""
        if self._thread is None:
            self._start()

    def tripped(self) -> None:
        """The breaker has opened."""
        self._probe_at = time.monotonic() + self._core.breaker.delay()
        self._gauges_at = min(self._gauges_at, time.monotonic() + 1)  # an outage shall show while it lasts
        self._wake.set()

    def close(self) -> None:
        """Let the thread end, and wait for it a moment."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(2 * self._core.config.timeout + 1)

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            self._closed = False
            wake = self._wake = threading.Event()
            # The reference tells the thread at once when the cache is collected.
            reference = weakref.ref(self, lambda _: wake.set())
            thread = threading.Thread(
                target=_body, args=(reference, wake), name="restaurant-otel cache", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:  # no more threads to be had, or the interpreter is ending
                survived("cache", error)
                return
            self._thread = thread

    # --- on the thread ---------------------------------------------------------------------------

    def step(self) -> float | None:
        """Do what is due; seconds until the next thing is, or None to end."""
        if self._closed:
            if self._link is not None:
                run(self._link.aclose())
            return None
        now = time.monotonic()
        breaker = self._core.breaker
        if not breaker.is_closed and now >= self._probe_at:
            self._probe()
        if breaker.is_closed:
            self._renew(now)
        if now >= self._gauges_at:
            self._gauges_at = now + _GAUGES_EVERY
            self._show()
        if breaker.is_closed and now >= self._redis_at:
            self._redis_at = now + _REDIS_EVERY
            self._show_redis()
        return self._next(time.monotonic())

    def _next(self, now: float) -> float:
        due = [self._gauges_at]
        if self._core.breaker.is_closed:
            due.append(now + _RENEW_EVERY if self._leases.held else self._redis_at)
        else:
            due.append(self._probe_at)
        # Leases may be taken while the thread sleeps, so it never sleeps for as long as one lasts.
        return min(max(0.01, min(due) - now), _RENEW_EVERY * 2)

    def _connected(self) -> Link:
        if self._link is None:
            self._link = self._make_link()
        return self._link

    def _probe(self) -> None:
        core, breaker = self._core, self._core.breaker
        with core.gate:
            breaker.probe()
        core.telemetry.gauge(catalog.CACHE_BREAKER, State.HALF_OPEN)
        try:
            link = self._connected()
            for reply in run(link.each_primary(("PING",))):
                raising(reply)
            for _ in range(_ROUNDS):
                self._replay_most(link)
            core.recover(partial(self._replay, link))
        except Exception:  # noqa: BLE001 - still away; the trip that opened the breaker was counted and logged
            if self._link is not None:
                self._link.reset()
            with core.gate:
                breaker.probe_failed()
            core.telemetry.gauge(catalog.CACHE_BREAKER, State.OPEN)
            self._probe_at = time.monotonic() + breaker.delay()

    def _replay_most(self, link: Link) -> None:
        """Replay what is in the journal now, while callers go on writing to it."""
        core = self._core
        with core.gate:
            taken = core.journal.take()
        try:
            self._replay(link, taken)
        except BaseException:
            with core.gate:
                core.journal.put_back(taken)
            raise

    def _replay(self, link: Link, taken: Journal) -> None:
        core = self._core
        for commands in _batched(self._commands(taken)):
            for reply in run(link.execute(commands)):
                raising(reply)
        for pattern in sorted(taken.patterns):
            marked = raising(run(link.execute((marking(core.keys, "pattern", pattern),)))[0])
            if marked == 0:
                run(unlink(link, core.keys.glob(pattern)))

    def _commands(self, taken: Journal) -> Iterator[Command]:
        core = self._core
        if taken.everything:
            yield marking(core.keys, "all", "")
        for tag in taken.tags:
            yield marking(core.keys, "tag", tag)
        for name in taken.names:
            yield ("UNLINK", core.keys.lease(name), core.keys.value(name))

    def _renew(self, now: float) -> None:
        due = [
            (lease, token)
            for lease, (token, since) in list(self._leases.held.items())
            if now - since > _RENEW_EVERY
        ]
        if not due:
            return
        commands = [("EVAL", scripts.RENEW, 1, lease, token, LEASE_MS) for lease, token in due]
        try:
            run(self._connected().execute(commands))
        except Exception as error:  # noqa: BLE001 - the lease runs out, and its value is not stored
            self._core.trip(error)

    def _show(self) -> None:
        core = self._core
        core.telemetry.gauge(catalog.CACHE_ITEMS, len(core.memory))
        core.telemetry.gauge(catalog.CACHE_BYTES, core.memory.bytes)
        core.telemetry.gauge(catalog.CACHE_JOURNAL, len(core.journal))
        core.telemetry.gauge(catalog.CACHE_BREAKER, core.breaker.state)

    def _show_redis(self) -> None:
        gauge = self._core.telemetry.gauge
        try:
            link = self._connected()
            started = time.perf_counter()
            primaries = len(run(link.each_primary(("PING",))))
            gauge(catalog.CACHE_REDIS_LATENCY, (time.perf_counter() - started) / primaries)
            memory = [parsed(raising(reply)) for reply in run(link.each_primary(("INFO", "memory")))]
            stats = [parsed(raising(reply)) for reply in run(link.each_primary(("INFO", "stats")))]
        except ResponseError as error:  # a managed Redis may refuse INFO; the cache does not need it
            survived("cache", error)
            return
        except Exception:  # noqa: BLE001 - not reachable: callers find that out, count it and log it
            return
        gauge(catalog.CACHE_REDIS_MEMORY, _total(memory, "used_memory"))
        gauge(catalog.CACHE_REDIS_MEMORY_LIMIT, _total(memory, "maxmemory") or None)
        gauge(catalog.CACHE_REDIS_EVICTED, _total(stats, "evicted_keys"))


def _body(reference: weakref.ref[Maintenance], wake: threading.Event) -> None:
    # Only a weak reference while it sleeps: a cache nobody holds any more is collected, and its thread ends.
    while True:
        maintenance = reference()
        if maintenance is None:
            return
        try:
            delay = maintenance.step()
        except Exception as error:  # noqa: BLE001 - the thread must live on, or no outage would ever end
            survived("cache", error)
            delay = 1.0
        del maintenance
        if delay is None:
            return
        wake.wait(delay)
        wake.clear()


def _batched(commands: Iterator[Command]) -> Iterator[list[Command]]:
    batch: list[Command] = []
    for command in commands:
        batch.append(command)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _total(sections: list[dict[str, Any]], field: str) -> float:
    return sum(float(section.get(field, 0)) for section in sections)
