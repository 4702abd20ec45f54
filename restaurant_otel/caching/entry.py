"""A cached value with all that is known about it, and its form in Redis: a header, tags, the payload.

Header, big-endian: two bytes that say "ours, format 1", the codec's letter, flags, the type's shape, the
sequence number of `marks` it was made under, creation (us since the epoch), time to live and time it may be
served stale after that (ms), how long it took to make (us), length of the tags. Scripts in `scripts`
rely on the places of the sequence number (9-16), creation, and times to live.

Knows nothing of how payloads are made (`codecs`) or where entries are kept.
"""

from __future__ import annotations

import struct
import time
from typing import Any, Final

MAGIC: Final = b"\xc5\x01"
_HEADER: Final = struct.Struct(">2sBBIQQIIIH")
SEQ_FIRST, SEQ_LAST = 9, 16
"""The sequence number's bytes in the header, counted from 1 as Lua does."""
TIMES_OFFSET: Final = 16
"""Where creation, time to live and stale time lie together, counted from 0."""
TIMES: Final = struct.Struct(">QII")

COMPRESSED: Final = 1
UNDECODED: Final = object()
OVERHEAD: Final = 512
"""Bytes that keeping an entry in memory takes besides its key and payload, roughly (Entry, node, dict slot)."""

_XFETCH_REACH: Final = 20.0  # -log(random()) exceeds this once in 485 million draws


class Entry:
    """One value. `created` is seconds since the epoch; `fresh_until`, `calm_until`, `dead_at` are monotonic.

    Before `calm_until` not even an early refresh comes into question; from `fresh_until` it is stale, from
    `dead_at` it is gone. `value` is the decoded payload once somebody asked for it, as type `shown_as`.
    """

    __slots__ = (
        "calm_until",
        "created",
        "data",
        "dead_at",
        "flags",
        "fresh_until",
        "letter",
        "load",
        "seq",
        "shape",
        "shown_as",
        "stale",
        "tags",
        "ttl",
        "value",
    )

    def __init__(
        self,
        letter: int,
        flags: int,
        shape: int,
        data: bytes,
        *,
        seq: int,
        created: float,
        ttl: float,
        stale: float,
        load: float,
        tags: tuple[str, ...],
    ) -> None:
        self.letter = letter
        self.flags = flags
        self.shape = shape
        self.data = data
        self.seq = seq
        self.created = created
        self.ttl = ttl
        self.stale = stale
        self.load = load
        self.tags = tags
        self.value: Any = UNDECODED
        self.shown_as: Any = None

    def place(self, monotonic: float, wall: float) -> Entry:
        """Reckon its ends on this process's monotonic clock, given what both clocks show now."""
        self.fresh_until = monotonic + (self.created + self.ttl - wall)
        self.calm_until = self.fresh_until - _XFETCH_REACH * self.load
        self.dead_at = self.fresh_until + self.stale
        return self

    def renewed(self, ttl: float) -> Entry:
        """The same value, beginning now, with `ttl` to live."""
        return Entry(
            self.letter,
            self.flags,
            self.shape,
            self.data,
            seq=self.seq,
            created=time.time(),
            ttl=ttl,
            stale=self.stale,
            load=self.load,
            tags=self.tags,
        )

    @property
    def size(self) -> int:
        """Bytes in memory, roughly; a decoded value beside the payload is not counted."""
        return len(self.data) + OVERHEAD

    def pack(self) -> bytes:
        """The form in Redis."""
        tags = "\0".join(self.tags).encode()
        header = _HEADER.pack(
            MAGIC,
            self.letter,
            self.flags,
            self.shape,
            self.seq,
            round(self.created * 1e6),
            round(self.ttl * 1000),
            round(self.stale * 1000),
            min(round(self.load * 1e6), 0xFFFFFFFF),
            len(tags),
        )
        return b"".join((header, tags, self.data))


def unpack(raw: bytes, monotonic: float, wall: float) -> Entry | None:
    """The entry in `raw`; None where the bytes are not one of ours."""
    if len(raw) < _HEADER.size or not raw.startswith(MAGIC):
        return None
    _, letter, flags, shape, seq, created, ttl, stale, load, tags_length = _HEADER.unpack_from(raw)
    start = _HEADER.size + tags_length
    if start > len(raw):
        return None
    tags: tuple[str, ...] = ()
    if tags_length:
        try:
            tags = tuple(raw[_HEADER.size : start].decode().split("\0"))
        except UnicodeDecodeError:
            return None
    entry = Entry(
        letter,
        flags,
        shape,
        raw[start:],
        seq=seq,
        created=created / 1e6,
        ttl=ttl / 1000,
        stale=stale / 1000,
        load=load / 1e6,
        tags=tags,
    )
    return entry.place(monotonic, wall)


HEADER_SIZE: Final = _HEADER.size
