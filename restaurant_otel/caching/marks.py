"""Deleting many values at once without touching them: `clear`, tags and patterns in O(1).

A namespace has one sequence number in Redis. Every entry bears the number that was current before its value
was made; every bulk deletion takes the next number and leaves a *mark*: "what is older than this number
is gone", for everything, for a pattern, or for a tag. Whoever reads a value reads the sequence number with
it, in the same round trip, and looks at the marks again only when it has moved. So a deletion
holds for every process at its very next read, and also against values that were being computed when it was made.

Tags have a key each, since there may be many; it is written with the first value that bears the
tag, so that a tag key lost to Redis's eviction makes values unreadable, never readable again. The same holds
for the sequence number: a new one starts from the clock, above all older ones, with a mark for everything.

This module is the bookkeeping on one process's side: pure data. `scripts` has Redis's side, `core` does the I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from restaurant_otel.caching.entry import Entry
from restaurant_otel.caching.keys import matcher

MOST_PATTERNS: Final = 32
"""Marks of patterns at one time; a further pattern is deleted key by key."""
LONGEST_LIFE: Final = 30 * 24 * 3600
"""Seconds that an entry may live; marks of tags are kept longer than that."""
MARK_LIFE: Final = LONGEST_LIFE + 24 * 3600
_MOST_TAGS: Final = 10_000


class Marks:
    """What one process knows of the marks, true for the number `sequence`, which Redis spells `raw`.

    0 and None before the first load.

    Replaced as a whole when the number moves, so readers in other threads see one state or the other.
    """

    __slots__ = ("base", "patterns", "raw", "sequence", "tags")

    def __init__(self, raw: bytes | None = None, fields: dict[bytes, bytes] | None = None) -> None:
        self.raw = raw
        self.sequence = int(raw) if raw is not None else 0
        self.base = 0
        self.patterns: list[tuple[int, Callable[[str], bool]]] = []
        self.tags: dict[str, int] = {}
        for field, number in (fields or {}).items():
            if field == b"*":
                self.base = int(number)
            else:
                self.patterns.append((int(number), matcher(field[1:].decode())))

    def floor(self, name: str) -> int:
        """The least sequence number with which an entry under `name` is not deleted, tags aside."""
        floor = self.base
        for number, matches in self.patterns:
            if number > floor and matches(name):
                floor = number
        return floor

    def allow(self, entry: Entry, name: str) -> bool:
        """Whether no mark deletes `entry`; its tags must have been learnt."""
        if entry.seq < (self.base if not self.patterns else self.floor(name)):
            return False
        return all(entry.seq >= self.tags.get(tag, entry.seq + 1) for tag in entry.tags)

    def unknown_tags(self, entry: Entry) -> list[str]:
        """Those of the entry's tags that must be looked up first."""
        return [tag for tag in entry.tags if tag not in self.tags]

    def learn(self, tags: list[str], numbers: list[bytes | None]) -> None:
        """What Redis holds for `tags`. One it has no number for stays unknown, and deletes whatever bears it."""
        if len(self.tags) > _MOST_TAGS:
            self.tags = {}
        for tag, number in zip(tags, numbers, strict=True):
            if number is not None:
                self.tags[tag] = int(number)
