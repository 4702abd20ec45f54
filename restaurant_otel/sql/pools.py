"""Connection pools: how many connections they have, asked of the pool; how long callers wait for one and keep it.

The counts are the pool's own answers at the moment of a look (each scrape, and every few seconds for the siblings'),
not a tally of events, so they are right after `detach`, `invalidate` and however late the observation began. The
times come from `Engine.raw_connection`, through which every connection is borrowed: it is replaced by one that looks
at the clock before and after, because SQLAlchemy has no event for the wait. A borrowed connection's record remembers
when, and whose it is, until it is returned.

In-memory SQLite's pools, which share nothing, and pools that keep nothing (`NullPool`) have times but no counts.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import Pool

from restaurant_otel import catalog
from restaurant_otel.current import present
from restaurant_otel.errors import survived
from restaurant_otel.metrics.registry import registry
from restaurant_otel.sql.databases import sqlite_namespace

MOST_POOLS: Final = 1_000
"""Names of pools; further ones share `other`. Apps that make an engine a request exist."""

_BORROWED: Final = "restaurant-otel-borrowed"
_CREATED: Final = "restaurant-otel-created"


class PoolCells:
    """The cells of all pools of one name, and the pools."""

    def __init__(self, name: str) -> None:
        cells = registry()
        self.name = name
        self.wait = cells.histogram(catalog.DB_CLIENT_CONNECTION_WAIT_TIME).bind(name)
        self.use = cells.histogram(catalog.DB_CLIENT_CONNECTION_USE_TIME).bind(name)
        self.create = cells.histogram(catalog.DB_CLIENT_CONNECTION_CREATE_TIME).bind(name)
        self.timeouts = cells.counter(catalog.DB_CLIENT_CONNECTION_TIMEOUTS).bind(name)
        counts = cells.gauge(catalog.DB_CLIENT_CONNECTION_COUNT)
        self._used, self._idle = counts.bind(name, "used"), counts.bind(name, "idle")
        self._max = cells.gauge(catalog.DB_CLIENT_CONNECTION_MAX).bind(name)
        self._idle_max = cells.gauge(catalog.DB_CLIENT_CONNECTION_IDLE_MAX).bind(name)
        self._pending = cells.gauge(catalog.DB_CLIENT_CONNECTION_PENDING_REQUESTS).bind(name)
        self.waiting: set[object] = set()
        self.pools: weakref.WeakSet[Pool] = weakref.WeakSet()

    def observe(self) -> None:
        """Ask the pools."""
        pools: list[Any] = [pool for pool in self.pools if hasattr(pool, "checkedout")]
        if not pools:
            for cell in (self._used, self._idle, self._max, self._idle_max, self._pending):
                cell.clear()
            return
        self._used.set(sum(pool.checkedout() for pool in pools))
        self._idle.set(sum(pool.checkedin() for pool in pools))
        self._idle_max.set(sum(pool.size() for pool in pools))
        self._pending.set(len(self.waiting))
        overflows = [getattr(pool, "_max_overflow", -1) for pool in pools]
        if min(overflows) < 0:  # without a limit, or not known
            self._max.clear()
        else:
            self._max.set(sum(pool.size() for pool in pools) + sum(overflows))


class Pools:
    """All pools of this process, while they are observed."""

    def __init__(self) -> None:
        # By identity, a fifth of what a WeakKeyDictionary takes at each look.
        self._by_pool: dict[int, PoolCells] = {}
        self._references: dict[int, weakref.ref[Pool]] = {}
        self._by_name: dict[str, PoolCells] = {}
        self._before: Callable[..., Any] | None = None
        self._ours: Callable[..., Any] | None = None

    def start(self) -> None:
        """Observe every pool from which a connection is borrowed from now on."""
        before, by_pool, meet = Engine.raw_connection, self._by_pool, self._meet

        def raw_connection(self: Engine, *arguments: Any, **keywords: Any) -> Any:
            try:
                pool = self.pool
                cells = by_pool.get(id(pool)) or meet(self, pool)
            except Exception as error:  # noqa: BLE001 - a pool of another make
                survived("sql pools", error)
                cells = None
            if cells is None:
                return before(self, *arguments, **keywords)
            waiter = object()
            waiting = cells.waiting
            waiting.add(waiter)
            began = perf_counter()
            try:
                borrowed = before(self, *arguments, **keywords)
            except PoolTimeout:
                cells.timeouts.add(1)
                raise
            finally:
                now = perf_counter()
                waiting.discard(waiter)
            try:
                cells.wait.record(now - began)
                info = borrowed.record_info
                if info is not None:
                    if _CREATED in info:
                        cells.create.record(info.pop(_CREATED))
                    info[_BORROWED] = (now, cells.use)
            except Exception as error:  # noqa: BLE001 - the connection is good, whatever we make of it
                survived("sql pools", error)
            return borrowed

        self._before, self._ours = before, raw_connection
        Engine.raw_connection = raw_connection  # type: ignore[method-assign]
        event.listen(Pool, "connect", self._created)
        event.listen(Pool, "checkin", self._returned)

    def stop(self) -> None:
        """Leave pools alone, as far as nobody else has put something on top."""
        if Engine.raw_connection is self._ours and self._before is not None:
            Engine.raw_connection = self._before  # type: ignore[method-assign]
        event.remove(Pool, "connect", self._created)
        event.remove(Pool, "checkin", self._returned)
        self._by_pool.clear()
        self._references.clear()
        self.observe()

    def observe(self) -> None:
        """Bring the counts up to date. Any thread."""
        for cells in list(self._by_name.values()):
            cells.observe()

    def _meet(self, engine: Engine, pool: Pool) -> PoolCells | None:
        if present().get("suppress_instrumentation"):
            return None  # our own, or an exporter's
        name = pool.logging_name or _name(engine)
        cells = self._by_name.get(name)
        if cells is None:
            if len(self._by_name) >= MOST_POOLS:
                name = "other"
            cells = self._by_name.setdefault(name, self._by_name.get(name) or PoolCells(name))
        cells.pools.add(pool)
        key, by_pool, references = id(pool), self._by_pool, self._references

        def gone(_: object) -> None:
            by_pool.pop(key, None)
            references.pop(key, None)

        references[key] = weakref.ref(pool, gone)
        by_pool[key] = cells
        return cells

    def _created(self, _: Any, record: Any) -> None:
        # The record's clock began just before the driver was called; it is the system's, which may be set back.
        began = getattr(record, "starttime", None)
        if isinstance(began, int | float):
            _info(record)[_CREATED] = max(0.0, time.time() - began)

    def _returned(self, _: Any, record: Any) -> None:
        borrowed = _info(record).pop(_BORROWED, None)
        if borrowed is not None:
            began, use = borrowed
            use.record(perf_counter() - began)


def _info(record: Any) -> dict[str, Any]:
    info: dict[str, Any] = record.record_info  # not `info`, which is emptied with each new connection
    return info


def _name(engine: Engine) -> str:
    """``host:port/database``, as the conventions advise; never a user or a password."""
    url = engine.url
    if engine.dialect.name == "sqlite":
        return f"sqlite/{sqlite_namespace(url)}"
    host = url.host or engine.dialect.name
    return f"{host}{f':{url.port}' if url.port else ''}/{url.database or ''}"
