"""Connections to Redis for asyncio: one for each event loop, shared by all its tasks.

Commands are written as they come and replies belong to them in order, so many tasks share one connection without
waiting for another. A cancelled caller leaves its place in that order, and its reply is dropped when it comes: no
reply ever reaches another caller. One timer watches the oldest command; if no reply comes for too long, the
connection is closed and everything waiting on it fails.

See `links` for what a link is, and for the blocking ones.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.sentinel
from redis.asyncio.retry import Retry
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from restaurant_otel.caching.address import Address, socket_options
from restaurant_otel.caching.links import (
    Command,
    Link,
    by_node,
    node_pool,
    packed,
    raising,
    read,
    redirected,
    scan_command,
    tcp_only,
)

_GRACE: Final = 0.02
"""Seconds a reply that is overdue is still waited for: if the app held up the loop, it is here already and only has
not been read."""


def loop_link(address: Address, timeout: float) -> Link:
    """A link for event loops to `address`. Does not connect yet."""
    if address.kind == "cluster":
        return LoopClusterLink(address, timeout)
    return MultiplexedLink(partial(_pool, address, timeout), timeout)


def _pool(address: Address, timeout: float) -> Any:
    options = socket_options(timeout, Retry)
    if address.kind == "sentinel":
        make: Any = redis.asyncio.sentinel.Sentinel  # of which redis-py has no types
        sentinel = make(
            address.hosts, sentinel_kwargs=options, db=address.db, **address.credentials(), **options
        )
        pool = sentinel.master_for(address.service).connection_pool
    else:
        pool = redis.asyncio.ConnectionPool.from_url(address.url, **tcp_only(address, options))
    # Time is kept here, by one timer a connection: redis-py's costs 20 us a command.
    pool.connection_kwargs.update(socket_timeout=None, decode_responses=False)
    return pool


class _Waiting:
    __slots__ = ("count", "future", "replies", "sent")

    def __init__(self, future: asyncio.Future[list[Any]], count: int, sent: float) -> None:
        self.future = future
        self.count = count
        self.replies: list[Any] = []
        self.sent = sent


class _Wire:
    """One connection, its queue of callers, and the task that reads for them."""

    def __init__(self, connection: Any, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._overdue: _Waiting | None = None
        self._heard = self._graced = 0.0
        self.alive = True
        self._reader = self._loop.create_task(self._read(), name="restaurant-otel cache reader")

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        if not self.alive:  # redis-py would connect it again
            raise RedisConnectionError("the connection to Redis was closed")
        connection, loop = self._connection, self._loop
        data = packed(connection, commands)
        waiting = _Waiting(loop.create_future(), len(commands), loop.time())
        # No await between here and the write inside of send_packed_command: the queue is in the order of the bytes.
        self._queue.append(waiting)
        if self._timer is None:
            self._timer = loop.call_later(self._timeout, self._watch)
        try:
            await connection.send_packed_command(data, check_health=False)
        except BaseException:
            # Perhaps half a command is on its way: what follows it would be misread.
            waiting.future.cancel()
            self.fail(RedisConnectionError("writing to Redis was cut short"))
            raise
        return await waiting.future

    def fail(self, error: Exception) -> None:
        """Close, and let everybody who waits fail."""
        self.alive = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        queue, self._queue = self._queue, deque()
        for waiting in queue:
            if not waiting.future.done():
                waiting.future.set_exception(type(error)(*error.args))  # one each: tracebacks grow on them
        if asyncio.current_task() is not self._reader:
            self._reader.cancel()

    async def aclose(self) -> None:
        self.fail(RedisConnectionError("the cache was closed"))
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        connection = self._connection
        error: Exception = RedisConnectionError("the connection to Redis was closed")
        try:
            while True:
                try:
                    reply = await connection.read_response()
                except ResponseError as response:
                    reply = response
                waiting = self._queue[0]
                self._heard = self._loop.time()  # nobody is overdue while replies keep coming
                waiting.replies.append(reply)
                if len(waiting.replies) == waiting.count:
                    self._queue.popleft()
                    if not waiting.future.done():
                        waiting.future.set_result(waiting.replies)
        except (RedisConnectionError, RedisTimeoutError) as failure:
            error = failure
        except Exception as failure:  # noqa: BLE001 - bytes that are no reply, or a reply to nobody
            error = RedisConnectionError(f"{type(failure).__name__}: {failure}")
        finally:
            if self.alive:
                self.fail(error)
            await connection.disconnect(nowait=True)

    def _watch(self) -> None:
        self._timer = None
        if not self._queue:
            return
        oldest = self._queue[0]
        left = max(oldest.sent, self._heard) + self._timeout - self._loop.time()
        if left <= 0 and self._overdue is oldest and self._graced == self._heard:
            self.fail(RedisTimeoutError(f"no reply from Redis in {self._timeout:g} s"))
            return
        self._overdue, self._graced = (oldest, self._heard) if left <= 0 else (None, 0.0)
        self._timer = self._loop.call_later(left if left > 0 else _GRACE, self._watch)


class MultiplexedLink:
    """One server, or the master that sentinels name."""

    def __init__(self, make_pool: Callable[[], Any], timeout: float) -> None:
        self._make_pool = make_pool
        self._timeout = timeout
        self._forget()

    def _forget(self) -> None:
        self._wires: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Wire] = weakref.WeakKeyDictionary()
        self._connecting: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[_Wire]] = (
            weakref.WeakKeyDictionary()
        )
        # One a loop as well: that of sentinels keeps connections to them.
        self._pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = weakref.WeakKeyDictionary()

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """See `Link`."""
        wire = self._wires.get(asyncio.get_running_loop())
        if wire is not None and wire.alive:
            try:
                return await wire.call(commands)
            except RedisConnectionError:
                pass  # closed while it was idle, as after a restart: once more, on a new one
        return await (await self._connected()).call(commands)

    async def _connected(self) -> _Wire:
        loop = asyncio.get_running_loop()
        wire = self._wires.get(loop)
        if wire is not None and wire.alive:
            return wire
        task = self._connecting.get(loop)
        if task is None or task.done():
            task = loop.create_task(self._connect(), name="restaurant-otel cache connect")
            self._connecting[loop] = task
        # Shielded: all callers wait for the one task, and one that is cancelled must not cancel it for the others.
        return await asyncio.shield(task)

    async def _connect(self) -> _Wire:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            pool = self._pools[loop] = self._make_pool()
        connection = pool.connection_class(**pool.connection_kwargs)
        try:
            async with asyncio.timeout(self._timeout):
                await connection.connect()
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, TimeoutError):
                raise RedisTimeoutError(f"no connection to Redis in {self._timeout:g} s") from None
            raise
        wire = _Wire(connection, self._timeout)
        self._wires[loop] = wire
        return wire

    async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """See `Link`."""
        replies: list[bytes | None] = raising((await self.execute((("MGET", *keys),)))[0])
        return replies

    async def each_primary(self, command: Command) -> list[Any]:
        """See `Link`."""
        return await self.execute((command,))

    async def scan(self, pattern: str, cursors: Any) -> tuple[list[bytes], Any]:
        """See `Link`."""
        cursor, keys = raising((await self.execute((scan_command(cursors or 0, pattern),)))[0])
        return keys, int(cursor) or None

    def reset(self) -> None:
        """Do nothing: a wire that fails is closed at once, and there are no idle ones."""

    def forget(self) -> None:
        """See `Link`."""
        self._forget()

    async def aclose(self) -> None:
        """Close the wire of the running loop."""
        loop = asyncio.get_running_loop()
        wire, pool = self._wires.pop(loop, None), self._pools.pop(loop, None)
        if wire is not None:
            await wire.aclose()
        sentinels = getattr(pool, "sentinel_manager", None)
        for client in sentinels.sentinels if sentinels is not None else ():
            await client.connection_pool.disconnect()


class _Cluster:
    """A cluster as one loop sees it: redis-py's client, which knows the slots, and a link to each node."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.ready = False  # before it has learnt the slots
        self.links: dict[str, MultiplexedLink] = {}


class LoopClusterLink:
    """A cluster: as `links.ClusterLink`, with the nodes' links at work at the same time."""

    def __init__(self, address: Address, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._options = socket_options(timeout, Retry)
        self.forget()

    def forget(self) -> None:
        """See `Link`."""
        self._clusters: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Cluster] = (
            weakref.WeakKeyDictionary()
        )

    def reset(self) -> None:
        """Do nothing: a cluster that fails is forgotten at once, and looked for anew."""

    async def _cluster(self) -> _Cluster:
        loop = asyncio.get_running_loop()
        cluster = self._clusters.get(loop)
        if cluster is None:
            make: Any = redis.asyncio.cluster.ClusterNode
            nodes = [make(host, port) for host, port in self._address.hosts]
            client = redis.asyncio.cluster.RedisCluster(
                startup_nodes=nodes, **self._address.credentials(), **self._options
            )
            cluster = self._clusters[loop] = _Cluster(client)
        if not cluster.ready:
            await self._whole(cluster.client.initialize())
            cluster.ready = True
        return cluster

    def _link(self, cluster: _Cluster, name: str) -> MultiplexedLink:
        link = cluster.links.get(name)
        if link is None:
            link = cluster.links[name] = MultiplexedLink(partial(self._node_pool, name), self._timeout)
        return link

    def _node_pool(self, name: str) -> Any:
        return node_pool(redis.asyncio, name, self._address, self._options | {"socket_timeout": None})

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """See `Link`."""
        cluster = None
        try:
            cluster = await self._cluster()
            return await self._execute(cluster, commands)
        except Exception:
            await self._drop(
                cluster
            )  # it may have changed; who comes next looks for it from the hosts we were given
            raise

    async def _execute(self, cluster: _Cluster, commands: Sequence[Command]) -> list[Any]:
        groups = by_node(cluster.client, commands)
        replies: list[Any] = [None] * len(commands)

        async def ask(name: str, places: list[int]) -> None:
            answered = await self._link(cluster, name).execute([commands[place] for place in places])
            for place, reply in zip(places, answered, strict=True):
                replies[place] = reply

        failures = await asyncio.gather(*(ask(*group) for group in groups.items()), return_exceptions=True)
        for failure in failures:
            raising(failure)
        for place in redirected(replies):
            replies[place] = await self._follow(cluster.client, commands[place])
        return replies

    async def _follow(self, client: Any, command: Command) -> Any:
        try:
            return await self._whole(client.execute_command(*command))
        except ResponseError as error:
            return error

    async def _drop(self, cluster: _Cluster | None) -> None:
        loop = asyncio.get_running_loop()
        if cluster is None:
            cluster = self._clusters.get(loop)
        if cluster is None or self._clusters.get(loop) is not cluster:
            return
        del self._clusters[loop]
        for link in cluster.links.values():
            await link.aclose()
        close = getattr(cluster.client, "aclose", None) or cluster.client.close  # before redis-py 5.0.1
        await close()

    async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """See `Link`."""
        return [read(reply) for reply in await self.execute([("GET", key) for key in keys])]

    async def each_primary(self, command: Command) -> list[Any]:
        """See `Link`."""
        cluster = await self._cluster()
        names = [node.name for node in cluster.client.get_primaries()]
        return [(await self._link(cluster, name).execute((command,)))[0] for name in names]

    async def scan(self, pattern: str, cursors: Any) -> tuple[list[bytes], Any]:
        """See `Link`."""
        cluster = await self._cluster()
        if cursors is None:
            cursors = dict.fromkeys(node.name for node in cluster.client.get_primaries())
        found, further = [], {}
        for name, cursor in cursors.items():
            keys, cursor = await self._link(cluster, name).scan(pattern, cursor)
            found += keys
            if cursor:
                further[name] = cursor
        return found, further or None

    async def aclose(self) -> None:
        """Let go of the cluster as the running loop sees it."""
        await self._drop(None)

    async def _whole(self, exchange: Any) -> Any:
        # In a task of its own: a cancelled caller must not cut an exchange short on a connection others will use.
        # Five time-outs: redis-py asks one node after the other for the slots.
        task = asyncio.ensure_future(exchange)
        done, _ = await asyncio.wait((task,), timeout=5 * self._timeout)
        if not done:
            task.cancel()
            raise RedisTimeoutError("no reply from the cluster")
        return task.result()
