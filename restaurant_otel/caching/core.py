"""What the cache does, once, for threads and event loops alike: read, store, delete, and stay calm.

    hit:      memory, if it may be trusted  ->  Redis  ->  check against `marks`
    outage:   one failure opens the breaker; from then on memory answers, and the journal remembers what
              Redis must forget; `maintenance` probes, replays, and closes
    writes:   go to Redis, or to memory and the journal, never to both, and never from memory to Redis

Every call to Redis on behalf of a caller passes the one door, `through`; it never raises. Coroutine functions here wait
only through the link and the driver (see `driver`). `loading` builds get_or_set on top; `cache.py` has the faces.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple

from restaurant_otel.caching import catalog, scripts
from restaurant_otel.caching.breaker import Breaker, State
from restaurant_otel.caching.codecs import Packer, Unreadable
from restaurant_otel.caching.driver import Driver
from restaurant_otel.caching.entry import TIMES, UNDECODED, Entry, unpack
from restaurant_otel.caching.journal import Journal
from restaurant_otel.caching.keys import Keyspace, checked, matcher
from restaurant_otel.caching.links import Command, Link
from restaurant_otel.caching.marks import LONGEST_LIFE, MARK_LIFE, Marks
from restaurant_otel.caching.memory import MemoryStore
from restaurant_otel.caching.telemetry import Group, Telemetry
from restaurant_otel.errors import survived

logger = logging.getLogger("restaurant_otel")

_ROUNDS: Final = 4
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
    """One cache's state in this process. All methods may be called from any thread."""

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
        self._cleared = 0
        self._locks: dict[str, str] = {}
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

    # --- the door --------------------------------------------------------------------------------

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

    async def _change(self, what: str, names: Iterable[str], commands: Sequence[Command]) -> list[Any] | None:
        """Send `commands`, which change `names`. If nobody knows whether they took effect, forget `names`."""
        if self.link is None:
            return None
        epoch = self.breaker.epoch
        try:
            replies: list[Any] | None = await self.through(what, self.link.execute, commands)
        except (
            BaseException
        ):  # cancelled or interrupted: by now it may have been carried out, or may be still
            self.driver.spawn(partial(self._invalidate, names))
            raise
        if replies is None or self.breaker.epoch != epoch:
            # Failed; or succeeded across an outage, perhaps after a newer change to the same name was
            # journalled and replayed. The value is lost, which a cache may do; a wrong one is not kept.
            await self._invalidate(names)
            return None
        if self.config.two_tier:
            self.changed(names)
        return replies

    async def _invalidate(self, names: Iterable[str]) -> None:
        """Whatever Redis holds for `names` must not be read again: deleted now, or noted down to be."""
        while (
            True
        ):  # a failure opens the breaker, so the second round is the last, but for one that closes it
            with self.gate:
                if not self.breaker.is_closed:
                    for name in names:
                        self.journal.name(name)
                    return
            replies = await self.through("delete", self.link.execute, self._deletion(names))  # type: ignore[union-attr]
            if replies is not None:
                if not self.accepted(replies):
                    self._refused(names)
                return

    def _deletion(self, names: Iterable[str]) -> list[Command]:
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

    def _aside(self, change: Callable[[], Any]) -> bool:
        """Make a change in memory and journal while Redis is away; False, and nothing done, if it is not."""
        self.ensure_maintained()
        with self.gate:
            if self.uses_redis:
                return False
            change()
            return True

    def _journal(self, note: Callable[[Journal], None]) -> None:
        if self.link is not None:
            note(self.journal)

    # --- the memory tier and the changes that others make ----------------------------------------

    def changed(self, names: Iterable[str]) -> None:
        """The values of `names` in Redis are others now."""
        with self.gate:
            for name in names:
                self._stamps[hash(name) % _STRIPES] += 1
                self.memory.delete(name)

    def all_changed(self, *, listening: bool | None = None) -> None:
        """Any value in Redis may be another now; `listening` says whether single changes will be told from here on."""
        with self.gate:
            self._cleared += 1
            if self.breaker.is_closed:  # otherwise memory is the fallback, and holds what was set meanwhile
                self.memory.clear()
            if listening is not None:
                self.listening = listening
                self._settle()

    def _stamp(self, name: str) -> tuple[int, int]:
        return self._cleared, self._stamps[hash(name) % _STRIPES]

    def _fill(self, name: str, entry: Entry, stamp: tuple[int, int]) -> None:
        """Keep what was read from Redis in front of it, unless it has changed since `stamp` was taken."""
        now = time.monotonic()
        with self.gate:
            if not self.uses_redis or not self.listening or stamp != self._stamp(name):
                return
            kept = self.memory.get(name, now)
            # Another thread may have read, and kept, what was written after this was read.
            if kept is None or kept.created <= entry.created:
                self.memory.put(name, entry, entry.size + len(name), entry.dead_at)

    # --- reading ---------------------------------------------------------------------------------

    async def find(self, name: str, group: Group) -> tuple[Entry | None, bool]:
        """The entry, fresh or stale, and whether it was Redis that answered. Counts nothing but unreadable values."""
        if self.reads_memory:
            entry = self.memory.get(name, time.monotonic())
            if entry is not None:
                return entry, False
        stamp = self._stamp(name)
        replies = await self._read((name,))
        if replies is None:
            return self.memory.get(name, time.monotonic()), False
        raw, number = replies
        entry = await self.vouched(name, raw, number, group) if raw is not None else None
        if entry is not None and self.config.two_tier:
            self._fill(name, entry, stamp)
        return entry, True

    async def _read(self, names: Sequence[str]) -> list[bytes | None] | None:
        """The raw values of `names`, and after them the sequence number."""
        if self.link is None or not self.uses_redis:
            self.ensure_maintained()
            return None
        keys = [*map(self.keys.value, names), self.keys.sequence]
        replies: list[bytes | None] | None = await self.through("get", self.link.mget, keys)
        return replies

    async def vouched(self, name: str, raw: bytes, number: bytes | None, group: Group) -> Entry | None:
        """The entry in `raw`, unless it is none or a bulk deletion was made after it."""
        try:
            entry = unpack(raw, time.monotonic(), time.time())
            if entry is None:
                group.unreadable.add()
                return None
            marks = await self.marks_at(number)
            if marks is None or not await self._learn_tags(marks, entry):
                return None
            return entry if marks.allow(entry, name) else None
        except Exception as error:  # noqa: BLE001 - bytes from a shared store: anything may be wrong with them
            survived("cache", error)
            group.unreadable.add()
            return None

    async def _learn_tags(self, marks: Marks, entry: Entry) -> bool:
        """Look up the numbers of the entry's tags that are not known; whether they are known now."""
        unknown = marks.unknown_tags(entry) if entry.tags else None
        if unknown:
            keys = [self.keys.tag(tag) for tag in unknown]
            numbers = await self.through("marks", self.link.mget, keys)  # type: ignore[union-attr]
            if numbers is None:
                return False
            marks.learn(unknown, numbers)
        return True

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

    def accepted(self, replies: Iterable[Any]) -> bool:
        """Whether no reply is an error; the errors are counted, and logged once."""
        fine = True
        for reply in replies:
            if isinstance(reply, Exception):
                fine = False
                self.telemetry.error(reply)
                survived("cache", Replied(f"{type(reply).__name__}: {reply}"))
        return fine

    def value(self, name: str, entry: Entry, declared: Any, group: Group) -> Any:
        """The entry's value as type `declared`; UNDECODED if it cannot be read, which is counted."""
        if entry.value is not UNDECODED and entry.shown_as is declared:
            return entry.value
        try:
            value = self.packer.unpack(entry.letter, entry.flags, entry.shape, entry.data, name, declared)
        except Unreadable:
            group.unreadable.add()
            return UNDECODED
        if self.config.shares:
            entry.shown_as = UNDECODED  # so that no thread sees one value under the type of the other
            entry.value, entry.shown_as = value, declared
        return value

    async def get(self, key: str, default: Any, declared: Any, group: Group) -> Any:
        """The fresh value of `key`, or `default`."""
        name = checked(key)
        entry, remote = await self.find(name, group)
        return self.show(name, entry, default, declared, group, remote=remote)

    def show(
        self, name: str, entry: Entry | None, default: Any, declared: Any, group: Group, *, remote: bool
    ) -> Any:
        """The value of a fresh entry, or `default`; counted as hit or miss."""
        if entry is not None and time.monotonic() < entry.fresh_until:
            value = self.value(name, entry, declared, group)
            if value is not UNDECODED:
                (group.remote_hits if remote else group.memory_hits).add()
                return value
        (group.remote_misses if remote else group.memory_misses).add()
        return default

    async def get_many(self, keys: Iterable[str], declared: Any, group: Group) -> dict[str, Any]:
        """The fresh values among `keys`."""
        names = {key: checked(key) for key in keys}
        found: dict[str, Any] = {}
        for batch in batched(names):
            found |= await self._get_batch({key: names[key] for key in batch}, declared, group)
        return found

    async def _get_batch(self, names: dict[str, str], declared: Any, group: Group) -> dict[str, Any]:
        entries: dict[str, tuple[Entry | None, bool]] = {}
        asked: dict[str, tuple[int, int]] = {}  # what memory does not have, and the stamps to fill it by
        for name in names.values():
            entry = self.memory.get(name, time.monotonic()) if self.reads_memory else None
            if entry is None:
                asked[name] = self._stamp(name)
            entries[name] = entry, False
        replies = await self._read(list(asked)) if asked else None
        for index, (name, stamp) in enumerate(asked.items()):
            if replies is None:
                entries[name] = self.memory.get(name, time.monotonic()), False
                continue
            raw = replies[index]
            entry = await self.vouched(name, raw, replies[-1], group) if raw is not None else None
            if entry is not None and self.config.two_tier:
                self._fill(name, entry, stamp)
            entries[name] = entry, True
        found: dict[str, Any] = {}
        for key, name in names.items():
            entry, remote = entries[name]
            value = self.show(name, entry, UNDECODED, declared, group, remote=remote)
            if value is not UNDECODED:
                found[key] = value
        return found

    async def exists(self, key: str, group: Group) -> bool:
        """Whether `key` has a fresh value. Not a lookup: counted neither as hit nor as miss."""
        entry, _ = await self.find(checked(key), group)
        return entry is not None and time.monotonic() < entry.fresh_until

    # --- storing ---------------------------------------------------------------------------------

    def entry(
        self,
        name: str,
        value: Any,
        ttl: float | None,
        declared: Any,
        tags: tuple[str, ...],
        *,
        stale: float = 0.0,
        load: float = 0.0,
        seq: int = 0,
    ) -> Entry:
        """A new entry. TypeError or ValueError if the value cannot be kept, or the arguments make no sense."""
        ttl = self.config.ttl if ttl is None else ttl
        if not 0.001 <= ttl <= LONGEST_LIFE or not 0 <= stale <= LONGEST_LIFE - ttl:
            raise ValueError(f"a value lives from 1 ms to {LONGEST_LIFE} s, its time of being stale included")
        ttl = max(0.001, ttl * (1 - self.config.jitter * random.random()))  # noqa: S311 - no secret
        letter, flags, shape, data = self.packer.pack(value, name, declared)
        made = Entry(
            letter,
            flags,
            shape,
            data,
            seq=seq,
            created=time.time(),
            ttl=ttl,
            stale=stale,
            load=load,
            tags=tags,
        )
        return made.place(time.monotonic(), made.created)

    def storing(self, name: str, entry: Entry) -> list[Command]:
        """Commands that store `entry` whatever was there, and tell the sequence number they met."""
        return [
            ("DEL", self.keys.lease(name)),  # who is computing the value has begun before this newer one
            *self.tagging(entry),
            ("SET", self.keys.value(name), entry.pack(), "PX", lifetime(entry)),
        ]

    def tagging(self, entry: Entry) -> list[Command]:
        """Commands that see to it that the entry's tags have a number."""
        return [("SET", self.keys.tag(tag), entry.seq, "NX", "EX", MARK_LIFE) for tag in entry.tags]

    async def set_many(self, entries: dict[str, Entry], group: Group) -> bool:
        """Store `entries` by name; whether they are kept, in Redis or, while it is away, in memory."""
        kept = True
        for batch in batched(entries):
            kept = await self._set_batch({name: entries[name] for name in batch}, group) and kept
        return kept

    async def _set_batch(self, entries: dict[str, Entry], group: Group) -> bool:
        for _ in range(_ROUNDS):
            if not self.uses_redis:
                if self._aside(lambda: self._keep(entries)):
                    group.sets.add(len(entries))
                    return True
                continue
            marks = self.marks if self.marks.raw is not None else await self.marks_at(None)
            if marks is None:
                continue
            commands: list[Command] = []
            for name, entry in entries.items():
                entry.seq = marks.sequence
                commands += self.storing(name, entry)
            replies = await self._change("set", entries, (*commands, ("GET", self.keys.sequence)))
            if replies is None:
                continue
            if not self.accepted(replies):  # out of memory, say: but the older value must not stay either
                await self._invalidate(entries)
                return False
            if replies[-1] == marks.raw:
                group.sets.add(len(entries))
                return True
            await self.marks_at(
                replies[-1]
            )  # stored under a number that has just passed: again, under the new one
        return False

    # --- storing what `loading` made --------------------------------------------------------------

    def moment(self, name: str) -> Moment:
        """What must still be so when a value whose making begins now is stored."""
        return Moment(self.breaker.epoch, self._stamp(name))

    async def claim(self, name: str, token: str, lease_ms: int) -> list[Any] | None:
        """Take the lease if it is free: whether it was, the raw value, the sequence number. None: Redis is away."""
        if self.link is None:
            return None
        value, lease = self.keys.value(name), self.keys.lease(name)
        commands = (("SET", lease, token, "NX", "PX", lease_ms), ("GET", value), ("GET", self.keys.sequence))
        replies: list[Any] | None = await self.through("lease", self.link.execute, commands)
        return replies

    async def give_up(self, lease: str, token: str) -> None:
        """Free a lease or lock, if it is still held with `token`."""
        if self.link is not None:
            await self.through("lease", self.link.execute, (("EVAL", scripts.RELEASE, 1, lease, token),))

    async def lock(self, key: str, token: str, lease_ms: int) -> bool:
        """Take a lock if it is free, in Redis or, while it is away, in this process."""
        if self.link is not None:
            command = ("SET", key, token, "NX", "PX", lease_ms)
            replies = await self.through("lock", self.link.execute, (command,))
            if replies is not None:
                return self.accepted(replies) and bool(replies[0])
        return self._locks.setdefault(key, token) == token

    async def unlock(self, key: str, token: str) -> None:
        """Free it, if it is still held with `token`."""
        if self._locks.get(key) == token:
            del self._locks[key]
        else:
            await self.give_up(key, token)

    async def store_leased(self, name: str, entry: Entry, token: str, since: Moment, group: Group) -> bool:
        """Store `entry` and free the lease, if nobody has set or deleted the key meanwhile; whether it was done."""
        if self.breaker.epoch != since.epoch:
            return False
        keys = self.keys.value(name), self.keys.lease(name)
        command = ("EVAL", scripts.STORE, 2, *keys, token, entry.pack(), lifetime(entry))
        replies = await self._change("set", (name,), (*self.tagging(entry), command))
        if replies is None or not self.accepted(replies) or not replies[-1]:
            return False
        group.sets.add()
        return True

    def store_aside(self, name: str, entry: Entry, since: Moment, group: Group) -> None:
        """Keep `entry` in memory while Redis is away, if nothing has changed meanwhile."""

        def keep() -> None:
            if since == self.moment(name):
                self._keep({name: entry})
                group.sets.add()

        self._aside(keep)

    def _keep(self, entries: dict[str, Entry]) -> None:
        for name, entry in entries.items():
            self._stamps[hash(name) % _STRIPES] += 1
            self.memory.put(name, entry, entry.size + len(name), entry.dead_at)
            self._journal(lambda journal, name=name: journal.name(name))  # type: ignore[misc]

    async def touch(self, key: str, ttl: float | None, group: Group) -> bool:
        """Let a fresh value live `ttl` from now; whether there was one."""
        name = checked(key)
        ttl = self.config.ttl if ttl is None else ttl
        if not 0.001 <= ttl <= LONGEST_LIFE:
            raise ValueError(f"a value lives from 1 ms to {LONGEST_LIFE} s")
        entry, remote = await self.find(name, group)
        if entry is None or time.monotonic() >= entry.fresh_until:
            return False
        if not remote and not self.uses_redis:
            with self.gate:
                again = Entry(
                    entry.letter,
                    entry.flags,
                    entry.shape,
                    entry.data,
                    seq=entry.seq,
                    created=time.time(),
                    ttl=ttl,
                    stale=entry.stale,
                    load=entry.load,
                    tags=entry.tags,
                )
                again.place(time.monotonic(), again.created)
                return self.memory.put(name, again, again.size + len(name), again.dead_at)
        stale = min(entry.stale, LONGEST_LIFE - ttl)
        times = TIMES.pack(round(time.time() * 1e6), round(ttl * 1000), round(stale * 1000))
        key = self.keys.value(name)
        seq = entry.seq.to_bytes(8, "big")
        command = ("EVAL", scripts.TOUCH, 1, key, seq, times, round((ttl + stale) * 1000))
        replies = await self._change("touch", (name,), (command,))
        return replies is not None and self.accepted(replies) and bool(replies[0])

    async def incr(self, key: str, amount: int, ttl: float | None, group: Group) -> int:
        """Add to the integer under `key`, from 0 if there is none; the sum. ValueError if it is no integer."""
        name = checked(key)
        fresh = self.entry(name, amount, ttl, None, ())
        for _ in range(_ROUNDS):
            if not self.uses_redis:
                counted: list[int] = []
                if self._aside(lambda counted=counted: counted.append(self._count(name, amount, fresh))):  # type: ignore[misc]
                    group.sets.add()
                    return counted[0]
                continue
            number = await self._read(())
            marks = await self.marks_at(number[-1]) if number is not None else None
            if marks is None:
                continue
            fresh.seq = marks.sequence
            header = fresh.pack()[: -len(fresh.data)]
            command = (
                "EVAL",
                scripts.INCREMENT,
                2,
                self.keys.value(name),
                self.keys.lease(name),
                marks.floor(name),
                amount,
                header,
                lifetime(fresh),
            )
            replies = await self._change("incr", (name,), (command,))
            if replies is None:
                continue
            if isinstance(replies[0], Exception):
                if "NOTANUMBER" in str(replies[0]):
                    raise ValueError(f"the value of {key!r} is not an integer")
                self.accepted(replies)
                return amount
            group.sets.add()
            return int(replies[0])
        return amount

    def _count(self, name: str, amount: int, fresh: Entry) -> int:
        old = self.memory.get(name, time.monotonic())
        total = amount
        if old is not None:
            number = self.packer.unpack(old.letter, old.flags, old.shape, old.data, name)
            if type(number) is not int:
                raise ValueError(f"the value of {name!r} is not an integer")
            total += number
            fresh.fresh_until = fresh.calm_until = fresh.dead_at = old.dead_at
        fresh.data = b"%d" % total
        self._keep({name: fresh})
        return total

    # --- deleting --------------------------------------------------------------------------------

    async def delete_many(self, keys: Iterable[str], group: Group) -> int:
        """Delete; how many there were (while Redis is away: in memory)."""
        names = list(dict.fromkeys(map(checked, keys)))
        group.deletes.add(len(names))
        return sum([await self._delete_batch(batch) for batch in batched(names)])

    async def _delete_batch(self, names: list[str]) -> int:
        for _ in range(_ROUNDS):
            if not self.uses_redis:
                gone: list[int] = []
                if self._aside(lambda gone=gone: gone.append(self._drop(names))):  # type: ignore[misc]
                    return gone[0]
                continue
            replies = await self._change("delete", names, self._deletion(names))
            if replies is not None:
                if not self.accepted(replies):
                    self._refused(names)
                    continue
                return sum(replies[1::2])
        return 0

    def _refused(self, names: Iterable[str]) -> None:
        """Redis would not delete (it has become a replica, or lacks the right): it must not be read from either."""
        with self.gate:
            for name in names:
                self.journal.name(name)
        self.trip(Replied("a deletion was refused"))

    def _drop(self, names: list[str]) -> int:
        for name in names:
            self._stamps[hash(name) % _STRIPES] += 1
            self._journal(lambda journal, name=name: journal.name(name))  # type: ignore[misc]
        return sum(self.memory.delete(name) for name in names)

    async def delete_marked(self, kind: str, what: str, group: Group) -> None:
        """Delete by `kind`: "all", "pattern" or "tag". In O(1), by a mark; a pattern too many key by key."""
        group.deletes.add()
        for _ in range(_ROUNDS):
            if not self.uses_redis:
                if self._aside(partial(self._drop_marked, kind, what)):
                    return
                continue
            try:
                replies = await self.through("mark", self.link.execute, (self.marking(kind, what),))  # type: ignore[union-attr]
            except BaseException:  # cancelled or interrupted, and perhaps not carried out
                self.driver.spawn(partial(self.delete_marked, kind, what, group))
                raise
            if replies is None:
                continue
            if not self.accepted(replies):
                with self.gate:
                    self._drop_marked(kind, what)
                self.trip(Replied("a deletion was refused"))
                return
            if (
                replies[0] == 0
                and await self.through("scan", unlink, self.link, self.keys.glob(what)) is None
            ):
                continue
            self.all_changed()
            return

    def marking(self, kind: str, what: str) -> Command:
        """The command that leaves a mark."""
        keys = [self.keys.sequence, self.keys.patterns]
        if kind == "tag":
            keys.append(self.keys.tag(what))
        return ("EVAL", scripts.MARK, len(keys), *keys, kind, what)

    def _drop_marked(self, kind: str, what: str) -> None:
        self._cleared += 1
        if kind == "all":
            self.memory.clear()
            self._journal(Journal.all)
        elif kind == "tag":
            self.memory.discard(lambda _, entry: what in entry.tags)
            self._journal(lambda journal: journal.tag(what))
        else:
            matches = matcher(what)
            self.memory.discard(lambda name, _: matches(name))
            self._journal(lambda journal: journal.pattern(what))

    async def reclaim(self) -> int:
        """Free the memory of all values in Redis at once, where `clear` leaves it to their expiry; how many keys."""
        if self.link is None:
            return 0
        gone: int | None = await self.through("scan", unlink, self.link, self.keys.everything())
        return gone or 0


def batched(names: Iterable[str]) -> Iterator[list[str]]:
    """`names` in lists that are short enough for one exchange."""
    rest = iter(names)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def lifetime(entry: Entry) -> int:
    """Milliseconds that Redis keeps the entry."""
    return max(1, round((entry.ttl + entry.stale) * 1000))


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
