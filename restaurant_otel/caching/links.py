"""Connections to Redis, blocking: commands out, replies in, one exchange at a time on each connection.

A link raises when Redis cannot be reached or does not answer in time, and then has closed the
connection; errors that Redis replies with are returned in their place. It neither retries a
time-out nor remembers failures: that is the breaker's business. Its methods are coroutine functions that
never wait, so that `core` is written once (see `driver`).

Only `core` (through its one guarded door), `maintenance` and `listener` use links. `loop_links` has the asyncio ones.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

import redis
import redis.cluster
import redis.sentinel
from redis.exceptions import AskError, ClusterDownError, ResponseError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from restaurant_otel.caching.address import Address, socket_options

Command = tuple[Any, ...]
_MOST_IDLE: Final = 64


class Link(Protocol):
    """What `core` asks of a connection to Redis, blocking or not."""

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """The replies, in order; an error reply as a ResponseError in its place."""

    async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of `keys`, in one round trip (a cluster: one to each node concerned)."""

    async def each_primary(self, command: Command) -> list[Any]:
        """The reply of every primary to `command`."""

    async def scan(self, pattern: str, cursors: Any) -> tuple[list[bytes], Any]:
        """One SCAN step of 1000 on every primary not yet done, and the cursors for the next (None at the end)."""

    def reset(self) -> None:
        """Close all idle connections, which are suspect; those in use are closed when they come back."""

    def forget(self) -> None:
        """Never use a connection again that was made until now, nor touch it: the parent process owns it."""

    async def aclose(self) -> None:
        """Close what is idle, for good."""


def blocking_link(address: Address, timeout: float) -> Link:
    """A link for threads to `address`. Does not connect yet."""
    if address.kind == "cluster":
        return ClusterLink(address, timeout)
    return PooledLink(_pool(address, timeout))


def primaries(address: Address, timeout: float) -> Callable[[], dict[str, Callable[[], Any]]]:
    """A function that finds the primaries, for `listener`: by address, what makes a connection to each."""
    if address.kind == "cluster":
        return _ClusterPrimaries(address, timeout)
    pool = _pool(address, timeout)
    return lambda: {"": lambda: pool.connection_class(**pool.connection_kwargs)}


class _ClusterPrimaries:
    def __init__(self, address: Address, timeout: float) -> None:
        self._address = address
        self._link = ClusterLink(address, timeout)
        self._options = socket_options(timeout, Retry)

    def __call__(self) -> dict[str, Callable[[], Any]]:
        nodes = self._link.nodes()
        primaries = [
            name for name, node in nodes.items() if "master" in node["flags"] and "fail" not in node["flags"]
        ]
        return {name: partial(self._to, name) for name in primaries}

    def _to(self, name: str) -> Any:
        pool = node_pool(redis, name, self._address, self._options)
        return pool.connection_class(**pool.connection_kwargs)


def _pool(address: Address, timeout: float) -> Any:
    options = socket_options(timeout, Retry)
    if address.kind == "sentinel":
        make: Any = redis.sentinel.Sentinel  # of which redis-py has no types
        sentinel = make(
            address.hosts, sentinel_kwargs=options, db=address.db, **address.credentials(), **options
        )
        pool = sentinel.master_for(address.service).connection_pool
    else:
        pool = redis.ConnectionPool.from_url(address.url, **tcp_only(address, options))
    pool.connection_kwargs.update(socket_timeout=timeout, decode_responses=False)
    return pool


def tcp_only(address: Address, options: dict[str, Any]) -> dict[str, Any]:
    """`options` without what a Unix socket has no use for."""
    if not address.url.startswith("unix:"):
        return options
    return {name: value for name, value in options.items() if not name.startswith("socket_keepalive")}


class PooledLink:
    """One server, or the master that sentinels name.

    redis-py's connections, through their public methods; but not its pool and client, which take 30 us
    of the 45 that a GET costs. Idle connections wait on a stack: pushing and popping are atomic, and the one used last
    is the one least likely to have been closed.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool  # makes connections; a sentinel's pool also knows the way to the master
        self._idle: list[Any] = []

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """See `Link`."""
        idle = self._idle
        try:
            connection = idle.pop()
        except IndexError:
            return self._exchange(self._connect(), commands, idle)
        try:
            return self._exchange(connection, commands, idle)
        except RedisConnectionError:
            # Closed while it was idle, as after a restart: then so were the others. Once more, on a new one.
            # (A time-out is another exception and is not tried again.)
            self.reset()
            return self._exchange(self._connect(), commands, self._idle)

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
        """See `Link`."""
        # A new list, so that an exchange under way puts its connection back on the old one, which nobody pops from.
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.disconnect()

    def forget(self) -> None:
        """See `Link`."""
        self._idle = []

    async def aclose(self) -> None:
        """See `Link`."""
        self.reset()

    def _connect(self) -> Any:
        connection = self._pool.connection_class(**self._pool.connection_kwargs)
        connection.connect()
        return connection

    def _exchange(self, connection: Any, commands: Sequence[Command], idle: list[Any]) -> list[Any]:
        try:
            connection.send_packed_command(packed(connection, commands), check_health=False)
            replies = []
            for _ in commands:
                try:
                    replies.append(connection.read_response())
                except ResponseError as error:
                    replies.append(error)
        except BaseException:
            # Whatever it was, a reply may still be on its way; nobody else shall read it.
            connection.disconnect()
            raise
        if len(idle) < _MOST_IDLE and idle is self._idle:
            idle.append(connection)
        else:
            connection.disconnect()
        return replies


class ClusterLink:
    """A cluster: redis-py's own client knows where the slots are, a link to each node carries the commands.

    Its client would carry them too, but takes 4 to 9 s (20 nodes' time-outs) to notice that one of three nodes hangs.
    """

    def __init__(self, address: Address, timeout: float) -> None:
        self._address = address
        self._options = socket_options(timeout, Retry)
        self.forget()

    def forget(self) -> None:
        """See `Link`."""
        self._lock = threading.Lock()
        self._client: Any = None  # a RedisCluster, half of which has no types
        self._links: dict[str, PooledLink] = {}

    def _connected(self) -> Any:
        client = self._client
        if client is None:
            with self._lock:
                client = self._client
                if client is None:
                    node: Any = redis.cluster.ClusterNode
                    nodes = [node(host, port) for host, port in self._address.hosts]
                    client = redis.cluster.RedisCluster(
                        startup_nodes=nodes, **self._address.credentials(), **self._options
                    )
                    self._client = client
        return client

    def _link(self, name: str) -> PooledLink:
        link = self._links.get(name)
        if link is None:
            pool = node_pool(redis, name, self._address, self._options)
            link = self._links.setdefault(name, PooledLink(pool))
        return link

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """See `Link`."""
        client = self._connected()
        replies: list[Any] = [None] * len(commands)
        for name, places in by_node(client, commands).items():
            answered = await self._link(name).execute([commands[place] for place in places])
            for place, reply in zip(places, answered, strict=True):
                replies[place] = reply
        for place in redirected(replies):
            replies[place] = self._follow(client, commands[place])
        return replies

    def _follow(self, client: Any, command: Command) -> Any:
        """The slot has moved, or is moving: redis-py's client goes after it, and learns."""
        try:
            return client.execute_command(*command)
        except ResponseError as error:
            return error

    async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """See `Link`."""
        return [read(reply) for reply in await self.execute([("GET", key) for key in keys])]

    def _primaries(self) -> list[str]:
        return [node.name for node in self._connected().get_primaries()]

    async def each_primary(self, command: Command) -> list[Any]:
        """See `Link`."""
        return [(await self._link(name).execute((command,)))[0] for name in self._primaries()]

    async def scan(self, pattern: str, cursors: Any) -> tuple[list[bytes], Any]:
        """See `Link`."""
        found, further = [], {}
        for name, cursor in (cursors or dict.fromkeys(self._primaries())).items():
            keys, cursor = await self._link(name).scan(pattern, cursor)
            found += keys
            if cursor:
                further[name] = cursor
        return found, further or None

    def nodes(self) -> dict[str, Any]:
        """CLUSTER NODES as redis-py gives it: by address."""
        try:
            found: dict[str, Any] = self._connected().cluster_nodes()
        except Exception:
            self.reset()  # the next look starts from the hosts we were given
            raise
        return found

    def reset(self) -> None:
        """See `Link`."""
        client, links = self._client, self._links
        self._client, self._links = None, {}
        if client is not None:
            client.close()
        for link in links.values():
            link.reset()

    async def aclose(self) -> None:
        """See `Link`."""
        self.reset()


def node_pool(library: Any, name: str, address: Address, options: dict[str, Any]) -> Any:
    """What makes connections to one node of a cluster; `library` is `redis` or `redis.asyncio`."""
    host, _, port = name.rpartition(":")
    given = address.credentials()
    connection_class = library.SSLConnection if given.pop("ssl", False) else library.Connection
    return library.ConnectionPool(connection_class, host=host, port=int(port), **given, **options)


def by_node(client: Any, commands: Sequence[Command]) -> dict[str, list[int]]:
    """The places of `commands`, by the node that each belongs to."""
    places: dict[str, list[int]] = {}
    for place, command in enumerate(commands):
        key = command[3] if command[0] == "EVAL" else command[1]
        places.setdefault(client.get_node_from_key(key).name, []).append(place)
    return places


def redirected(replies: Sequence[Any]) -> list[int]:
    """The places of replies that say to ask elsewhere; raises if one says that the cluster is down."""
    for reply in replies:
        if _says(reply, (ClusterDownError, TryAgainError), ("CLUSTERDOWN ", "TRYAGAIN ")):
            raise RedisConnectionError(str(reply))
    return [place for place, reply in enumerate(replies) if _says(reply, (AskError,), ("ASK ", "MOVED "))]


def _says(reply: Any, kinds: tuple[type[Exception], ...], words: tuple[str, ...]) -> bool:
    """Whether `reply` is one of these errors: by class, or, as redis-py 5 leaves it, by its first word."""
    return isinstance(reply, kinds) or (isinstance(reply, ResponseError) and str(reply).startswith(words))


def packed(connection: Any, commands: Sequence[Command]) -> Any:
    """`commands` as bytes; one alone the quicker way."""
    return connection.pack_command(*commands[0]) if len(commands) == 1 else connection.pack_commands(commands)


def scan_command(cursor: int, pattern: str) -> Command:
    """SCAN in steps of 1000, the fastest that does not hold the server up."""
    return ("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)


def raising(reply: Any) -> Any:
    """`reply`, or raised if it is an error."""
    if isinstance(reply, Exception):
        raise reply
    return reply


def read(reply: Any) -> bytes | None:
    """GET's reply; None for a value of another kind, as MGET has it."""
    if isinstance(reply, ResponseError) and "WRONGTYPE" in str(reply):
        return None
    value: bytes | None = raising(reply)
    return value


async def unlink(link: Link, glob: str) -> int:
    """Delete all keys that match, a thousand at a time, on every primary; how many. Raises as the link does."""
    cursors, gone = None, 0
    while True:
        keys, cursors = await link.scan(glob, cursors)
        if keys:
            await link.execute([("UNLINK", key) for key in keys])
            gone += len(keys)
        if cursors is None:
            return gone
