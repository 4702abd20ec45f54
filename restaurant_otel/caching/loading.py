"""get_or_set: a value is made once, by one caller in all processes, and the others wait or take the stale one.

    fresh                          -> served; near its end, one reader in many starts an early refresh (XFetch)
    stale, within while_revalidate -> served, and a refresh is started beside the caller
    stale or missing               -> one caller leads: takes the lease in Redis, makes the value, stores it while
                                      the lease is still its own; others in this process wait for it,
                                      others elsewhere look again every few ms

The lease (a key with a random token) is renewed by `maintenance` while its holder lives, and expires in seconds
when it dies (see `leases`). Every set and delete of the key takes the lease away: a value made from what was
true before is then not stored. While Redis is away values are made once a process, and kept in memory; a value
whose making began on the other side of an opening or closing of the breaker goes to its callers and nowhere
else.
"""

from __future__ import annotations

import contextvars
import math
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any, Final

from restaurant_otel.caching.core import Core
from restaurant_otel.caching.entry import UNDECODED, Entry
from restaurant_otel.caching.flight import Flight, join, land
from restaurant_otel.caching.keys import checked
from restaurant_otel.caching.leases import Leases
from restaurant_otel.caching.reading import Reader
from restaurant_otel.caching.telemetry import Group
from restaurant_otel.caching.writing import Writer
from restaurant_otel.errors import survived

_LOOK_AGAIN: Final = (0.005, 0.05)
"""Seconds between looks at a value that another process is making: at first, and at most."""

_loading: contextvars.ContextVar[frozenset[tuple[int, str]]] = contextvars.ContextVar(
    "restaurant_otel_cache_loading", default=frozenset()
)


class CacheTimeout(TimeoutError):  # noqa: N818 - a TimeoutError to whoever catches those
    """The hard time-out passed with no value; the factory goes on, and its value will be stored."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How a value is made and kept. Seconds; None for the time-outs is for ever."""

    ttl: float | None = None
    tags: tuple[str, ...] = ()
    declared: Any = None
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    soft_timeout: float | None = None
    hard_timeout: float | None = None
    early: float = 1.0
    """XFetch's beta: 0 never refreshes early, more than 1 does so earlier."""
    wait: float = 10.0
    """How long to wait for another process's value before making one for this caller alone."""
    stale: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        """Check the times, once, where the policy is written down."""
        times = (self.stale_while_revalidate, self.stale_if_error, self.early, self.wait)
        limits = (self.soft_timeout, self.hard_timeout)
        if min(times) < 0 or any(limit is not None and limit <= 0 for limit in limits):
            raise ValueError("times of a cache policy are not negative, and time-outs are more than nothing")
        object.__setattr__(self, "stale", max(self.stale_while_revalidate, self.stale_if_error))


class Loader:
    """get_or_set on a `Core`. Any thread."""

    def __init__(self, core: Core, reader: Reader, writer: Writer, leases: Leases) -> None:
        self._core = core
        self._reader = reader
        self._writer = writer
        self._leases = leases

    async def get_or_set(self, key: str, factory: Callable[[], Any], policy: Policy, group: Group) -> Any:
        """The value of `key`, made by `factory` if need be. Raises what the factory raises, and CacheTimeout."""
        name = checked(key)
        entry, remote = await self._reader.find(name, group)
        if entry is not None:
            value = self._reader.value(name, entry, policy.declared, group)
            if value is not UNDECODED:
                now = time.monotonic()
                if now < entry.fresh_until:
                    (group.remote_hits if remote else group.memory_hits).add()
                    if now >= entry.calm_until and _early(entry, now, policy.early):
                        self._refresh(name, factory, policy, group)
                    return value
                if now < entry.fresh_until + policy.stale_while_revalidate:
                    (group.remote_stale if remote else group.memory_stale).add()
                    self._refresh(name, factory, policy, group)
                    return value
                if now < entry.fresh_until + policy.stale_if_error:
                    return await self._load(name, factory, policy, group, remote=remote, stale=value)
        return await self._load(name, factory, policy, group, remote=remote, stale=UNDECODED)

    async def refresh(self, key: str, factory: Callable[[], Any], policy: Policy, group: Group) -> Any:
        """The value of `key`, made anew whatever is stored."""
        name = checked(key)
        return await self._make(name, factory, policy, group, forced=True)

    def _refresh(self, name: str, factory: Callable[[], Any], policy: Policy, group: Group) -> None:
        """Make the value anew beside the caller, unless that is happening already or too much else is."""
        driver = self._core.driver
        flights = driver.flights()
        flight, leads = join(flights, name, driver.event())
        if leads and not driver.spawn(
            partial(self._lead, name, flight, factory, policy, group, background=True)
        ):
            flight.abandoned = True
            land(flights, name, flight)

    async def _load(
        self, name: str, factory: Callable[[], Any], policy: Policy, group: Group, *, remote: bool, stale: Any
    ) -> Any:
        """Lead or wait, within the time-outs; `stale` is what may be served instead, or UNDECODED."""
        driver = self._core.driver
        missed, staled = (
            (group.remote_misses, group.remote_stale) if remote else (group.memory_misses, group.memory_stale)
        )
        if (id(self._core), name) in _loading.get():
            missed.add()  # a factory that asks for its own key would wait for itself
            return await driver.call(factory)
        limit = policy.hard_timeout if stale is UNDECODED else (policy.soft_timeout or policy.hard_timeout)
        deadline = None if limit is None else time.monotonic() + limit
        waited = False
        while True:
            flights = driver.flights()
            flight, leads = join(flights, name, driver.event())
            if leads:
                await self._begin(partial(self._lead, name, flight, factory, policy, group), limit)
            elif not waited:
                waited = True
                group.coalesced.add()
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not await driver.wait(flight.landed, left):
                if stale is not UNDECODED:
                    staled.add()
                    return stale
                missed.add()
                raise CacheTimeout(f"no value for {name!r} within {limit:g} s")
            if not flight.abandoned:
                break
        if flight.error is not None:
            if stale is not UNDECODED:
                staled.add()
                return stale
            missed.add()
            raise flight.error
        missed.add()
        return flight.value

    async def _begin(self, lead: Callable[[], Any], limit: float | None) -> None:
        """Lead beside the caller where the caller may stop waiting; on a thread without a limit, as the caller."""
        driver = self._core.driver
        if (driver.detaches or limit is not None) and driver.spawn(lead):
            return
        await lead()

    async def _lead(
        self,
        name: str,
        flight: Flight,
        factory: Callable[[], Any],
        policy: Policy,
        group: Group,
        *,
        background: bool = False,
    ) -> None:
        flights = self._core.driver.flights()
        try:
            flight.value = await self._make(name, factory, policy, group, background=background)
        except _Elsewhere:
            flight.abandoned = True
        except Exception as error:  # noqa: BLE001 - raised to every caller that waits
            flight.error = error
            if background:  # nobody may be there to see it
                survived("cache refresh", error)
        except BaseException:
            flight.abandoned = True
            raise
        finally:
            land(flights, name, flight)

    # --- making a value, alone in all processes ---------------------------------------------------

    async def _make(
        self,
        name: str,
        factory: Callable[[], Any],
        policy: Policy,
        group: Group,
        *,
        background: bool = False,
        forced: bool = False,
    ) -> Any:
        core, lease, token = self._core, self._core.keys.lease(name), os.urandom(12).hex()
        before = core.moment(name)
        turn = await self._turn(name, token, policy, group, background=background, forced=forced)
        if turn.kind is _Kind.FOUND:
            return turn.value
        stored = False
        if turn.kind is _Kind.LEASED:
            self._leases.hold(lease, token)
        try:
            value, load = await self._call(name, factory, group)
            entry = self._entry(name, value, policy, load=load, seq=turn.number)
            if entry is not None and turn.kind is _Kind.LEASED:
                stored = await self._writer.store_leased(name, entry, token, before, group)
            elif entry is not None and turn.kind is _Kind.AWAY:
                self._writer.store_aside(name, entry, before, group)
            return value
        finally:
            if turn.kind is _Kind.LEASED:
                self._leases.release(lease)
                if not stored:
                    await self._leases.give_up(lease, token)

    async def _turn(
        self, name: str, token: str, policy: Policy, group: Group, *, background: bool, forced: bool
    ) -> _Turn:
        """Whose turn it is: wait until the value is found or the lease is ours, within bounds."""
        core = self._core
        deadline = time.monotonic() + policy.wait
        pause, longest = _LOOK_AGAIN
        waited = False
        while True:
            replies = await self._leases.claim(name, token)
            if replies is None:
                return _Turn(_Kind.AWAY)
            if not core.accepted(replies):
                return _Turn(_Kind.ALONE)  # Redis has no room even for a lease
            claimed, raw, number = replies
            marks = await core.marks_at(number)
            if marks is None:
                return _Turn(_Kind.AWAY)
            value = UNDECODED
            if raw is not None and not forced:
                entry = await self._reader.vouched(name, raw, number, group)
                if entry is not None and time.monotonic() < entry.fresh_until:
                    value = self._reader.value(name, entry, policy.declared, group)
            if value is not UNDECODED:  # made by another since we missed it
                if claimed:
                    await self._leases.give_up(core.keys.lease(name), token)
                return _Turn(_Kind.FOUND, value)
            if claimed:
                return _Turn(_Kind.LEASED, number=marks.sequence)
            if background:
                raise _Elsewhere
            if not waited:
                waited = True
                group.coalesced.add()
            if time.monotonic() >= deadline:
                return _Turn(_Kind.ALONE)
            await core.driver.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause = min(pause * 2, longest)

    def _entry(self, name: str, value: Any, policy: Policy, *, load: float, seq: int) -> Entry | None:
        core = self._core
        try:
            return self._writer.entry(
                name, value, policy.ttl, policy.declared, policy.tags, stale=policy.stale, load=load, seq=seq
            )
        except Exception as error:  # noqa: BLE001 - the app gets the value it made, whether it can be kept or not
            core.telemetry.error(error)
            survived("cache", error)
            return None

    async def _call(self, name: str, factory: Callable[[], Any], group: Group) -> tuple[Any, float]:
        loading = _loading.set(_loading.get() | {(id(self._core), name)})
        started = time.perf_counter()
        try:
            value = await self._core.driver.call(factory)
        except Exception as error:
            group.loaded(time.perf_counter() - started, error)
            raise
        finally:
            _loading.reset(loading)
        load = time.perf_counter() - started
        group.loaded(load)
        return value, load


class _Kind(Enum):
    FOUND = "the value is there"
    LEASED = "make it, and store it while the lease is ours"
    ALONE = "make it for this caller only"
    AWAY = "make it, and keep it in memory while Redis is away"


@dataclass(frozen=True, slots=True)
class _Turn:
    kind: _Kind
    value: Any = None
    number: int = 0


class _Elsewhere(Exception):  # noqa: N818 - an outcome
    """Another process is refreshing the value; the background refresh of this one is not needed."""


def _early(entry: Entry, now: float, beta: float) -> bool:
    # Source: Vattani, Chierichetti, Lowenstein, Optimal Probabilistic Cache Stampede Prevention, VLDB 2015.
    return now - entry.load * beta * math.log(1.0 - random.random()) >= entry.fresh_until  # noqa: S311 - no secret
