"""One cache's state in a process, and how it stays calm: the door to Redis, the breaker, the memory tier.

    outage:  one failure opens the breaker; from then on memory answers, and the journal remembers what
             Redis must forget; `maintenance` probes, replays, and closes
    writes:  go to Redis, or to memory and the journal, never to both, and never from memory to Redis

Every call to Redis on behalf of a caller passes the one door, `through`; it never raises. Coroutine functions here
wait only through the link and the driver (see `driver`), so that they serve threads and event loops alike. What is
read, written and made is in `reading`, `writing`, `leases` and `loading`, which build on this.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple

from restaurant_otel import catalog
from restaurant_otel.caching import scripts
from restaurant_otel.caching.breaker import Breaker, State
from restaurant_otel.caching.codecs import Packer
from restaurant_otel.caching.driver import Driver
from restaurant_otel.caching.entry import Entry
from restaurant_otel.caching.journal import Journal
from restaurant_otel.caching.keys import Keyspace
from restaurant_otel.caching.links import Command, Link
from restaurant_otel.caching.marks import Marks
from restaurant_otel.caching.memory import MemoryStore
from restaurant_otel.caching.telemetry import Telemetry
from restaurant_otel.errors import survived

logger = logging.getLogger("restaurant_otel")

ROUNDS: Final = 4
"""How often an operation starts over because the breaker opened or closed, or a bulk deletion was made, under it."""
_STRIPES: Final = 1024
_BATCH: Final = 500
"""Names in one exchange: more of them would hold up the others on the connection, and run into the time-out."""


class Replied(Exception):  # noqa: N818 - not a failure of the connection: Redis answered, and said no
    """An error reply of Redis to one command, such as OOM."""


class Moment(NamedTuple):
    """A point in this process's history of one name: the breaker's epoch, and the count of changes to it."""

    epoch: int
    stamp: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Config:
    """How one cache behaves. Times are seconds."""

    name: str
    ttl: float
    jitter: float
    two_tier: bool
    shares: bool
    """Whether reads from memory may hand out the same object again."""
    timeout: float


class Core:
    """One cache's state in this process, and its door to Redis. Any thread."""

    def __init__(
        self,
        config: Config,
        keys: Keyspace,
        packer: Packer,
        link: Link | None,
        driver: Driver,
        *,
        limits: tuple[int, int, int],
    ) -> None:
        entries, capacity, journal = limits
        self.config = config
        self.keys = keys
        self.packer = packer
        self.link = link
        self.driver = driver
        self.telemetry = Telemetry(config.name)
        self.memory: MemoryStore[Entry] = MemoryStore(entries, capacity, self.telemetry.evictions.add)
        self.breaker = Breaker()
        self.journal = Journal(journal)
        self.marks = Marks()
        self.on_trip: Callable[[], None] = lambda: None
        self.ensure_maintained: Callable[[], None] = lambda: None
        self.listening = False  # whether other processes' changes reach the memory tier
        self.forget()

    def forget(self) -> None:
        """Start over without a connection, a lock or a load under way: construction, and a child process."""
        self.gate = threading.Lock()
        """Held while the breaker's state and what depends on it change together: journal, memory, listening."""
        self._stamps = [0] * _STRIPES
        self._overtaken: list[tuple[str, float]] = [("", 0.0)] * _STRIPES
        self._cleared = 0
        self.locks: dict[str, str] = {}
        self.listening = False
        self.memory.forget()
        self.driver.forget()
        if self.link is not None:
            self.link.forget()
        self._settle()

    def _settle(self) -> None:
        # The two flags that every call reads, without the lock.
        self.uses_redis = self.link is not None and self.breaker.is_closed
        self.reads_memory = not self.uses_redis or (self.config.two_tier and self.listening)

    async def through(self, what: str, exchange: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """What `exchange` returns, or None: Redis is away. The one place where calls to Redis are made and fail."""
        self.ensure_maintained()  # also while it is open, and in a child process, where the thread that probes is gone
        if not self.uses_redis:
            return None
        started = time.perf_counter()
        try:
            replies = await exchange(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever the client library raises, the app shall not see it
            self.trip(error)
            return None
        self.telemetry.operation(what, time.perf_counter() - started)
        return replies

    def accepted(self, replies: Iterable[Any]) -> bool:
        """Whether no reply is an error; the errors are counted, and logged once."""
        fine = True
        for reply in replies:
            if isinstance(reply, Exception):
                fine = False
                self.telemetry.error(reply)
                survived("cache", Replied(f"{type(reply).__name__}: {reply}"))
        return fine

    async def marks_at(self, number: bytes | None) -> Marks | None:
        """The marks as of sequence number `number` or later; None if Redis is away."""
        marks = self.marks
        if number is not None and marks.raw == number:
            return marks
        command = ("EVAL", scripts.LOAD_MARKS, 2, self.keys.sequence, self.keys.patterns)
        replies = await self.through("marks", self.link.execute, (command,))  # type: ignore[union-attr]
        if replies is None or not self.accepted(replies):
            return None
        sequence, fields = replies[0]
        marks = Marks(sequence, dict(zip(fields[::2], fields[1::2], strict=True)))
        with self.gate:
            # Of two threads that load at once, the one with the later number wins.
            if self.marks.sequence < marks.sequence:
                self.marks = marks
        return marks

    async def change(self, what: str, names: Iterable[str], commands: Sequence[Command]) -> list[Any] | None:
        """Send `commands`, which change `names`. If nobody knows whether they took effect, forget `names`."""
        if self.link is None:
            return None
        epoch = self.breaker.epoch
        try:
            replies: list[Any] | None = await self.through(what, self.link.execute, commands)
        except (
            BaseException
        ):  # cancelled or interrupted: by now it may have been carried out, or may be still
            self.driver.spawn(partial(self.invalidate, names))
            raise
        if replies is None or self.breaker.epoch != epoch:
            # Failed; or succeeded across an outage, perhaps after a newer change to the same name was
            # journalled and replayed. The value is lost, which a cache may do; a wrong one is not kept.
            await self.invalidate(names)
            return None
        if self.config.two_tier:
            self.changed(names)
        return replies

    async def invalidate(self, names: Iterable[str]) -> None:
        """Whatever Redis holds for `names` must not be read again: deleted now, or noted down to be."""
        while (
            True
        ):  # a failure opens the breaker, so the second round is the last, but for one that closes it
            with self.gate:
                if not self.breaker.is_closed:
                    self.journal_names(names)
                    return
            replies = await self.through("delete", self.link.execute, self.deletion(names))  # type: ignore[union-attr]
            if replies is not None:
                if not self.accepted(replies):
                    self.refused(partial(self.journal_names, names))
                return

    def deletion(self, names: Iterable[str]) -> list[Command]:
        """Commands that delete `names`, two for each."""
        # The lease first: whoever is computing the value cannot store it between the two.
        return [
            command
            for name in names
            for command in (("DEL", self.keys.lease(name)), ("UNLINK", self.keys.value(name)))
        ]

    def trip(self, error: Exception) -> None:
        """A call to Redis failed: use memory from now on."""
        self.telemetry.error(error)
        with self.gate:
            opened = self.breaker.trip()
            self._settle()
        if opened:
            self.telemetry.gauge(catalog.CACHE_BREAKER, State.OPEN)
            if self.link is not None:
                self.link.reset()
            logger.warning(
                "cache %s: Redis is away (%s: %s); using memory",
                self.config.name,
                type(error).__name__,
                error,
            )
            self.on_trip()

    def recover(self, replay: Callable[[Journal], None]) -> None:
        """Close the breaker, dropping what memory kept meanwhile; `replay` the rest of the journal first.

        Callers who would write to the journal wait for that, once, as others would keep it from ever being empty.
        Raises what `replay` raises, and is still away then.
        """
        with self.gate:
            taken = self.journal.take()
            try:
                replay(taken)
            except BaseException:
                self.journal.put_back(taken)
                raise
            self.memory.clear()
            self.marks = Marks()
            self.breaker.close()
            self._settle()
        self.telemetry.gauge(catalog.CACHE_BREAKER, State.CLOSED)
        logger.warning("cache %s: Redis is back", self.config.name)

    def aside(self, change: Callable[[], Any]) -> bool:
        """Make a change in memory and journal while Redis is away; False, and nothing done, if it is not."""
        self.ensure_maintained()
        with self.gate:
            if self.uses_redis:
                return False
            change()
            return True

    def refused(self, note: Callable[[], None]) -> None:
        """Redis would not delete (it has become a replica, or lacks the right): it must not be read from either."""
        with self.gate:
            note()
        self.trip(Replied("a deletion was refused"))

    def journal_names(self, names: Iterable[str]) -> None:
        """Note that `names` have changed. Under the gate."""
        for name in names:
            self.note(lambda journal, name=name: journal.name(name))  # type: ignore[misc]

    def bump(self, names: Iterable[str]) -> None:
        """Whatever was read of `names` before is not to be kept any more. Under the gate."""
        for name in names:
            self._stamps[hash(name) % _STRIPES] += 1

    def note(self, note: Callable[[Journal], None]) -> None:
        """Write to the journal, if there is a Redis to be told later. Under the gate."""
        if self.link is not None:
            note(self.journal)

    def changed(self, names: Iterable[str]) -> None:
        """The values of `names` in Redis are others now."""
        with self.gate:
            for name in names:
                self.bump((name,))
                self.memory.delete(name)

    def all_changed(self, *, listening: bool | None = None) -> None:
        """Any value in Redis may be another now; `listening` says whether single changes will be told from here on."""
        with self.gate:
            self.bump_all()
            if self.breaker.is_closed:  # otherwise memory is the fallback, and holds what was set meanwhile
                self.memory.clear()
            if listening is not None:
                self.listening = listening
                self._settle()

    def bump_all(self) -> None:
        """As `bump`, for all names. Under the gate."""
        self._cleared += 1

    def stamp(self, name: str) -> tuple[int, int]:
        """Changes with every change to `name` that this process makes or is told of."""
        return self._cleared, self._stamps[hash(name) % _STRIPES]

    def moment(self, name: str) -> Moment:
        """What must still be so when a value whose making begins now is stored."""
        return Moment(self.breaker.epoch, self.stamp(name))

    def fill(self, name: str, entry: Entry, stamp: tuple[int, int]) -> None:
        """Keep what was read from Redis in front of it, unless it has changed since `stamp` was taken.

        Several threads may have read `name` at once, each another value; the caller returns its own in any case. So
        that nobody who saw the newer sees the older afterwards, memory takes or keeps none that is older than one read.
        """
        now = time.monotonic()
        with self.gate:
            if not self.uses_redis or not self.listening:
                return
            kept = self.memory.get(name, now)
            if kept is not None and kept.created > entry.created:
                return
            stripe = hash(name) % _STRIPES
            if stamp != self.stamp(name):
                self.memory.delete(name)
                self._overtaken[stripe] = name, entry.created
                return
            overtaken, created = self._overtaken[stripe]
            if overtaken != name or created <= entry.created:
                self.memory.put(name, entry, entry.size + len(name), entry.dead_at)


def batched(names: Iterable[str]) -> Iterator[list[str]]:
    """`names` in lists that are short enough for one exchange."""
    rest = iter(names)
    while batch := list(islice(rest, _BATCH)):
        yield batch
