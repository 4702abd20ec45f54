"""Hears what changes in Redis, so that the memory tier in front of it forgets it at once.

Redis tracks the namespace's prefix for one connection to each primary (CLIENT TRACKING in broadcast mode) and tells
it of every key that anybody sets, deletes or lets expire: nothing is published, writers pay nothing, and
changes made by other programs count too. One key told is one entry dropped; the sequence number told (see
`marks`) drops all. While any of the connections is down the tier is not used, and it starts empty.

Over RESP2 on purpose: the invalidations come as messages on a channel of their own, which every redis-py since 5.0
reads alike, and never between the replies of the connections that carry the data.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Final

from restaurant_otel.caching.core import Core
from restaurant_otel.errors import survived

_CHANNEL: Final = b"__redis__:invalidate"
_PING_EVERY: Final = 1.0
_LOOK_UP: Final = 0.2
"""Seconds after which a thread that hears nothing sees whether it is to end."""
_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 2.0
_LOOK_EVERY: Final = 2.0
"""Seconds between looks at a cluster's primaries: a new one is heard before it holds slots, or this much later."""

Primaries = Callable[[], dict[str, Callable[[], Any]]]
"""Finds the primaries by address; each value makes a new, unconnected connection to that one."""


class Listener:
    """The thread that keeps the memory tier true; one for each primary, each for the whole tier."""

    def __init__(self, core: Core, find_primaries: Primaries) -> None:
        self._core = core
        self._find_primaries = find_primaries
        self.forget()

    def forget(self) -> None:
        """In a child process: nobody is listening here."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def ensure(self) -> None:
        """See to it that somebody listens."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None:
                self._stop = threading.Event()
                thread = threading.Thread(
                    target=_supervise,
                    args=(weakref.ref(self._core), self._find_primaries, self._stop),
                    name="restaurant-otel cache listener",
                    daemon=True,
                )
                try:
                    thread.start()
                except RuntimeError as error:  # no more threads to be had
                    survived("cache", error)
                    return
                self._thread = thread

    def close(self) -> None:
        """Stop listening, and no longer trust the tier."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stop.set()
        if thread is not None:
            thread.join(3 * _PING_EVERY)
        self._core.all_changed(listening=False)


def _supervise(core: weakref.ref[Core], find_primaries: Primaries, stop: threading.Event) -> None:
    """Listen to all primaries or to none, and start over when one fails or another joins."""
    pause = _PAUSE
    while not stop.is_set() and core() is not None:
        began = time.monotonic()
        over = threading.Event()
        primaries = _found(find_primaries)
        ears = [_Ear(connect(), core, over) for connect in primaries.values()]
        threads = [
            threading.Thread(target=ear.listen, name="restaurant-otel cache ear", daemon=True) for ear in ears
        ]
        for thread in threads:
            thread.start()
        if ears and all(ear.ready.wait(5.0) for ear in ears) and not over.is_set():
            _tell(core, listening=True)
            looked_at = time.monotonic()
            while not (stop.is_set() or over.wait(_LOOK_UP) or core() is None):
                if time.monotonic() - looked_at > _LOOK_EVERY:
                    looked_at = time.monotonic()
                    if _found(find_primaries).keys() != primaries.keys():
                        break
        over.set()
        _tell(core, listening=False)
        for thread in threads:
            thread.join(2 * _PING_EVERY)
        pause = _PAUSE if time.monotonic() - began > 10 else min(pause * 2, _LONGEST_PAUSE)
        stop.wait(pause)


def _found(find_primaries: Primaries) -> dict[str, Callable[[], Any]]:
    try:
        return find_primaries()
    except Exception:  # noqa: BLE001 - not reachable now; callers' own failures are counted and logged
        return {}


def _tell(core: weakref.ref[Core], *, listening: bool) -> None:
    target = core()
    if target is not None:
        target.all_changed(listening=listening)


class _Ear:
    """One connection that is told."""

    def __init__(self, connection: Any, core: weakref.ref[Core], over: threading.Event) -> None:
        self._connection = connection
        self._core = core
        self._over = over
        self.ready = threading.Event()

    def listen(self) -> None:
        connection = self._connection
        try:
            connection.connect()
            self._subscribe()
            self.ready.set()
            self._hear()
        except Exception:  # noqa: BLE001, S110 - the connection is gone; the supervisor starts over
            pass
        finally:
            self._over.set()
            self.ready.set()
            connection.disconnect()

    def _subscribe(self) -> None:
        core = self._core()
        if core is None:
            return
        ask = self._ask
        number = ask("CLIENT", "ID")
        ask("CLIENT", "TRACKING", "ON", "REDIRECT", number, "BCAST", "PREFIX", core.keys.prefix)
        ask("SUBSCRIBE", _CHANNEL)

    def _ask(self, *command: Any) -> Any:
        self._connection.send_command(*command, check_health=False)
        return self._connection.read_response()

    def _hear(self) -> None:
        connection = self._connection
        heard = time.monotonic()
        awaited = False
        while not self._over.is_set():
            if not connection.can_read(timeout=_LOOK_UP):
                if time.monotonic() - heard > _PING_EVERY:
                    if awaited:
                        return  # a second without an answer: what changed meanwhile, nobody knows
                    connection.send_command("PING", check_health=False)
                    heard, awaited = time.monotonic(), True
                continue
            heard = time.monotonic()
            message = connection.read_response()
            core = self._core()
            if core is None:
                return
            if message[0] == b"message":
                _pass_on(core, message[2])
            elif message[0] == b"pong":
                awaited = False


def _pass_on(core: Core, keys: list[bytes] | None) -> None:
    if keys is None:  # everything was flushed
        core.all_changed()
        return
    names = []
    sequence = core.keys.sequence.encode()
    for key in keys:
        if key == sequence:
            core.all_changed()
            return
        name = core.keys.name(key.decode(errors="replace"))
        if name is not None:
            names.append(name)
    core.changed(names)
