"""Looking values up: memory if it may be trusted, then Redis, checked against the marks of bulk deletions.

Counts hits and misses, each lookup once. `loading` finds entries here too, and judges and counts them itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from restaurant_otel.caching.codecs import Unreadable
from restaurant_otel.caching.core import Core, batched
from restaurant_otel.caching.entry import UNDECODED, Entry, unpack
from restaurant_otel.caching.keys import checked
from restaurant_otel.caching.marks import Marks
from restaurant_otel.caching.telemetry import Group
from restaurant_otel.errors import survived


class Reader:
    """Reads from one `Core`. Any thread."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def find(self, name: str, group: Group) -> tuple[Entry | None, bool]:
        """The entry, fresh or stale, and whether it was Redis that answered. Counts nothing but unreadable values."""
        if self._core.reads_memory:
            entry = self._core.memory.get(name, time.monotonic())
            if entry is not None:
                return entry, False
        stamp = self._core.stamp(name)
        replies = await self.raw((name,))
        if replies is None:
            return self._core.memory.get(name, time.monotonic()), False
        raw, number = replies
        entry = await self.vouched(name, raw, number, group) if raw is not None else None
        if entry is not None and self._core.config.two_tier:
            self._core.fill(name, entry, stamp)
        return entry, True

    async def raw(self, names: Sequence[str]) -> list[bytes | None] | None:
        """The raw values of `names`, and after them the sequence number."""
        if self._core.link is None or not self._core.uses_redis:
            self._core.ensure_maintained()
            return None
        keys = [*map(self._core.keys.value, names), self._core.keys.sequence]
        replies: list[bytes | None] | None = await self._core.through("get", self._core.link.mget, keys)
        return replies

    async def vouched(self, name: str, raw: bytes, number: bytes | None, group: Group) -> Entry | None:
        """The entry in `raw`, unless it is none or a bulk deletion was made after it."""
        try:
            entry = unpack(raw, time.monotonic(), time.time())
            if entry is None:
                group.unreadable.add()
                return None
            marks = await self._core.marks_at(number)
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
            keys = [self._core.keys.tag(tag) for tag in unknown]
            numbers = await self._core.through("marks", self._core.link.mget, keys)  # type: ignore[union-attr]
            if numbers is None:
                return False
            marks.learn(unknown, numbers)
        return True

    def value(self, name: str, entry: Entry, declared: Any, group: Group) -> Any:
        """The entry's value as type `declared`; UNDECODED if it cannot be read, which is counted."""
        if entry.value is not UNDECODED and entry.shown_as is declared:
            return entry.value
        try:
            value = self._core.packer.unpack(
                entry.letter, entry.flags, entry.shape, entry.data, name, declared
            )
        except Unreadable:
            group.unreadable.add()
            return UNDECODED
        if self._core.config.shares:
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
            entry = self._core.memory.get(name, time.monotonic()) if self._core.reads_memory else None
            if entry is None:
                asked[name] = self._core.stamp(name)
            entries[name] = entry, False
        replies = await self.raw(list(asked)) if asked else None
        for index, (name, stamp) in enumerate(asked.items()):
            if replies is None:
                entries[name] = self._core.memory.get(name, time.monotonic()), False
                continue
            raw = replies[index]
            entry = await self.vouched(name, raw, replies[-1], group) if raw is not None else None
            if entry is not None and self._core.config.two_tier:
                self._core.fill(name, entry, stamp)
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
