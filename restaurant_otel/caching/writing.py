"""Storing and deleting values: in Redis or, while it is away, in memory, with a note in the journal.

Each operation goes round again when the breaker opens or closes under it, a few times at most; whatever came of
it, no older value outlives it. Values that were made on a miss are stored here too, under the conditions that
`loading` sets.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from restaurant_otel.caching import scripts
from restaurant_otel.caching.codecs import Unreadable
from restaurant_otel.caching.core import ROUNDS, Core, Moment, batched
from restaurant_otel.caching.entry import TIMES, Entry
from restaurant_otel.caching.journal import Journal
from restaurant_otel.caching.keys import Keyspace, checked, matcher
from restaurant_otel.caching.links import Command, unlink
from restaurant_otel.caching.marks import LONGEST_LIFE, MARK_LIFE
from restaurant_otel.caching.reading import Reader
from restaurant_otel.caching.telemetry import Group


class Writer:
    """Writes to one `Core`. Any thread."""

    def __init__(self, core: Core, reader: Reader) -> None:
        self._core = core
        self._reader = reader

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
        ttl = self._core.config.ttl if ttl is None else ttl
        if not 0.001 <= ttl <= LONGEST_LIFE or not 0 <= stale <= LONGEST_LIFE - ttl:
            raise ValueError(f"a value lives from 1 ms to {LONGEST_LIFE} s, its time of being stale included")
        ttl = max(0.001, ttl * (1 - self._core.config.jitter * random.random()))  # noqa: S311 - no secret
        letter, flags, shape, data = self._core.packer.pack(value, name, declared)
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

    async def set_many(self, entries: dict[str, Entry], group: Group) -> bool:
        """Store `entries` by name; whether they are kept, in Redis or, while it is away, in memory."""
        kept = True
        for batch in batched(entries):
            kept = await self._set_batch({name: entries[name] for name in batch}, group) and kept
        return kept

    async def _set_batch(self, entries: dict[str, Entry], group: Group) -> bool:
        for _ in range(ROUNDS):
            if not self._core.uses_redis:
                if self._core.aside(lambda: self._keep(entries)):
                    group.sets.add(len(entries))
                    return True
                continue
            marks = self._core.marks if self._core.marks.raw is not None else await self._core.marks_at(None)
            if marks is None:
                continue
            commands: list[Command] = []
            for name, entry in entries.items():
                entry.seq = marks.sequence
                commands += self.storing(name, entry)
            replies = await self._core.change("set", entries, (*commands, ("GET", self._core.keys.sequence)))
            if replies is None:
                continue
            if not self._core.accepted(
                replies
            ):  # out of memory, say: but the older value must not stay either
                await self._core.invalidate(entries)
                return False
            if replies[-1] == marks.raw:
                group.sets.add(len(entries))
                return True
            await self._core.marks_at(
                replies[-1]
            )  # stored under a number just passed: again, under the new one
        return False

    def storing(self, name: str, entry: Entry) -> list[Command]:
        """Commands that store `entry` whatever was there, and tell the sequence number they met."""
        return [
            (
                "DEL",
                self._core.keys.lease(name),
            ),  # who is computing the value has begun before this newer one
            *self.tagging(entry),
            ("SET", self._core.keys.value(name), entry.pack(), "PX", lifetime(entry)),
        ]

    def tagging(self, entry: Entry) -> list[Command]:
        """Commands that see to it that the entry's tags have a number."""
        return [("SET", self._core.keys.tag(tag), entry.seq, "NX", "EX", MARK_LIFE) for tag in entry.tags]

    async def store_leased(self, name: str, entry: Entry, token: str, since: Moment, group: Group) -> bool:
        """Store `entry` and free the lease, if nobody has set or deleted the key meanwhile; whether it was done."""
        if self._core.breaker.epoch != since.epoch:
            return False
        keys = self._core.keys.value(name), self._core.keys.lease(name)
        command = ("EVAL", scripts.STORE, 2, *keys, token, entry.pack(), lifetime(entry))
        replies = await self._core.change("set", (name,), (*self.tagging(entry), command))
        if replies is None or not self._core.accepted(replies) or not replies[-1]:
            return False
        group.sets.add()
        return True

    def store_aside(self, name: str, entry: Entry, since: Moment, group: Group) -> None:
        """Keep `entry` in memory while Redis is away, if nothing has changed meanwhile."""

        def keep() -> None:
            if since == self._core.moment(name):
                self._keep({name: entry})
                group.sets.add()

        self._core.aside(keep)

    def _keep(self, entries: dict[str, Entry]) -> None:
        self._core.bump(entries)
        self._core.journal_names(entries)
        for name, entry in entries.items():
            self._core.memory.put(name, entry, entry.size + len(name), entry.dead_at)

    async def touch(self, key: str, ttl: float | None, group: Group) -> bool:
        """Let a fresh value live `ttl` from now; whether there was one."""
        name = checked(key)
        ttl = self._core.config.ttl if ttl is None else ttl
        if not 0.001 <= ttl <= LONGEST_LIFE:
            raise ValueError(f"a value lives from 1 ms to {LONGEST_LIFE} s")
        entry, remote = await self._reader.find(name, group)
        if entry is None or time.monotonic() >= entry.fresh_until:
            return False
        if not remote and not self._core.uses_redis:
            with self._core.gate:
                again = entry.renewed(ttl).place(time.monotonic(), time.time())
                return self._core.memory.put(name, again, again.size + len(name), again.dead_at)
        stale = min(entry.stale, LONGEST_LIFE - ttl)
        times = TIMES.pack(round(time.time() * 1e6), round(ttl * 1000), round(stale * 1000))
        key = self._core.keys.value(name)
        seq = entry.seq.to_bytes(8, "big")
        command = ("EVAL", scripts.TOUCH, 1, key, seq, times, round((ttl + stale) * 1000))
        replies = await self._core.change("touch", (name,), (command,))
        return replies is not None and self._core.accepted(replies) and bool(replies[0])

    async def incr(self, key: str, amount: int, ttl: float | None, group: Group) -> int:
        """Add to the integer under `key`, from 0 if there is none; the sum. ValueError if it is no integer."""
        name = checked(key)
        fresh = self.entry(name, amount, ttl, None, ())
        for _ in range(ROUNDS):
            if not self._core.uses_redis:
                counted: list[int] = []
                if self._core.aside(lambda counted=counted: counted.append(self._count(name, amount, fresh))):  # type: ignore[misc]
                    group.sets.add()
                    return counted[0]
                continue
            number = await self._reader.raw(())
            marks = await self._core.marks_at(number[-1]) if number is not None else None
            if marks is None:
                continue
            fresh.seq = marks.sequence
            header = fresh.pack()[: -len(fresh.data)]
            command = (
                "EVAL",
                scripts.INCREMENT,
                2,
                self._core.keys.value(name),
                self._core.keys.lease(name),
                marks.floor(name),
                amount,
                header,
                lifetime(fresh),
            )
            replies = await self._core.change("incr", (name,), (command,))
            if replies is None:
                continue
            if isinstance(replies[0], Exception):
                if "NOTANUMBER" in str(replies[0]):
                    raise ValueError(f"the value of {key!r} is not an integer")
                self._core.accepted(replies)
                return amount
            group.sets.add()
            return int(replies[0])
        return amount

    def _count(self, name: str, amount: int, fresh: Entry) -> int:
        old = self._core.memory.get(name, time.monotonic())
        total = amount
        if old is not None:
            try:
                number = self._core.packer.unpack(old.letter, old.flags, old.shape, old.data, name)
            except Unreadable:
                number = None
            if type(number) is not int:
                raise ValueError(f"the value of {name!r} is not an integer")
            total += number
            fresh.fresh_until = fresh.calm_until = fresh.dead_at = old.dead_at
        fresh.data = b"%d" % total
        self._keep({name: fresh})
        return total

    async def delete_many(self, keys: Iterable[str], group: Group) -> int:
        """Delete; how many there were (while Redis is away: in memory)."""
        names = list(dict.fromkeys(map(checked, keys)))
        group.deletes.add(len(names))
        return sum([await self._delete_batch(batch) for batch in batched(names)])

    async def _delete_batch(self, names: list[str]) -> int:
        for _ in range(ROUNDS):
            if not self._core.uses_redis:
                gone: list[int] = []
                if self._core.aside(lambda gone=gone: gone.append(self._drop(names))):  # type: ignore[misc]
                    return gone[0]
                continue
            replies = await self._core.change("delete", names, self._core.deletion(names))
            if replies is not None:
                if not self._core.accepted(replies):
                    self._core.refused(partial(self._core.journal_names, names))
                    continue
                return sum(replies[1::2])
        return 0

    def _drop(self, names: list[str]) -> int:
        self._core.bump(names)
        self._core.journal_names(names)
        return sum(self._core.memory.delete(name) for name in names)

    async def delete_marked(self, kind: str, what: str, group: Group) -> None:
        """Delete by `kind`: "all", "pattern" or "tag". In O(1), by a mark; a pattern too many key by key."""
        group.deletes.add()
        link, command = self._core.link, marking(self._core.keys, kind, what)
        for _ in range(ROUNDS):
            if link is None or not self._core.uses_redis:
                if self._core.aside(partial(self._drop_marked, kind, what)):
                    return
                continue
            try:
                replies = await self._core.through("mark", link.execute, (command,))
            except BaseException:  # cancelled or interrupted, and perhaps not carried out
                self._core.driver.spawn(partial(self.delete_marked, kind, what, group))
                raise
            if replies is None:
                continue
            if not self._core.accepted(replies):
                self._core.refused(partial(self._drop_marked, kind, what))
                return
            if replies[0] == 0:  # no room for a further pattern
                glob = self._core.keys.glob(what)
                if await self._core.through("scan", unlink, link, glob) is None:
                    continue
            self._core.all_changed()
            return

    def _drop_marked(self, kind: str, what: str) -> None:
        self._core.bump_all()
        if kind == "all":
            self._core.memory.clear()
            self._core.note(Journal.all)
        elif kind == "tag":
            self._core.memory.discard(lambda _, entry: what in entry.tags)
            self._core.note(lambda journal: journal.tag(what))
        else:
            matches = matcher(what)
            self._core.memory.discard(lambda name, _: matches(name))
            self._core.note(lambda journal: journal.pattern(what))

    async def reclaim(self) -> int:
        """Free the memory of all values in Redis at once, where `clear` leaves it to their expiry; how many keys."""
        if self._core.link is None:
            return 0
        gone: int | None = await self._core.through(
            "scan", unlink, self._core.link, self._core.keys.everything()
        )
        return gone or 0


def marking(keys: Keyspace, kind: str, what: str) -> Command:
    """The command that leaves a mark: see `marks`."""
    named = [keys.sequence, keys.patterns]
    if kind == "tag":
        named.append(keys.tag(what))
    return ("EVAL", scripts.MARK, len(named), *named, kind, what)


def lifetime(entry: Entry) -> int:
    """Milliseconds that Redis keeps the entry."""
    return max(1, round((entry.ttl + entry.stale) * 1000))
