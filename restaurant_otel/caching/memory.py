"""A bounded store in the process's own memory: the tier in front of Redis, and the fallback behind it.

Keeps at most so many entries and so many bytes, forgets what is past its time, and decides by SIEVE what
to evict: new entries queue up, a hand walks from the oldest to the newest, spares once whatever was read
since it last passed, and evicts the first that was not. Unlike LRU a hit moves nothing, so it needs no
lock; on the Zipf trace of `benchmarks/cache.py` it also hits more often.
Source: Zhang et al., SIEVE is Simpler than LRU, NSDI 2024.

It knows nothing of Redis, values or telemetry. `core` and the faces in `cache.py` call it, from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Node(Generic[T]):
    __slots__ = ("dead_at", "item", "key", "newer", "older", "size", "visited")

    def __init__(self, key: str, item: T, size: int, dead_at: float) -> None:
        self.key = key
        self.item = item
        self.size = size
        self.dead_at = dead_at
        self.visited = False
        self.newer: _Node[T] = self
        self.older: _Node[T] = self


class MemoryStore(Generic[T]):
    """At most `entries` items of at most `capacity` bytes together.

    Times are seconds of one clock of the caller's choice. `evicted` is called with a count, outside the lock.
    """

    def __init__(self, entries: int, capacity: int, evicted: Callable[[int], None] = lambda _: None) -> None:
        if entries < 1 or capacity < 1:
            raise ValueError("a memory store holds at least one entry of one byte")
        self._most = entries
        self._capacity = capacity
        self._evicted = evicted
        self._lock = threading.Lock()
        self._empty()

    def _empty(self) -> None:
        self._nodes: dict[str, _Node[T]] = {}
        self._bytes = 0
        # A ring closed by a node that is never in the dictionary: `newer` of it is the oldest entry.
        self._ring: _Node[T] = _Node("", None, 0, 0.0)  # type: ignore[arg-type]  # the ring's joint holds no item
        self._hand = self._ring

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def bytes(self) -> int:
        """The sizes of all entries added up, as their owners gave them."""
        return self._bytes

    def get(self, key: str, now: float) -> T | None:
        """The item under `key`, or None. Takes no lock on a hit: one dictionary read and one flag."""
        node = self._nodes.get(key)
        if node is None:
            return None
        if now >= node.dead_at:
            self._forget(node)
            return None
        node.visited = True
        return node.item

    def put(self, key: str, item: T, size: int, dead_at: float) -> bool:
        """Keep `item`, `size` bytes large, until `dead_at`; False if it alone would take most of the room."""
        if size > self._capacity // 2:
            self.delete(key)
            return False
        gone = 0
        with self._lock:
            old = self._nodes.get(key)
            if old is not None:
                self._unlink(old)
            while self._nodes and (len(self._nodes) >= self._most or self._bytes + size > self._capacity):
                self._evict()
                gone += 1
            node = _Node(key, item, size, dead_at)
            newest, joint = self._ring.older, self._ring
            node.older, node.newer = newest, joint
            newest.newer = joint.older = node
            self._nodes[key] = node
            self._bytes += size
        if gone:
            self._evicted(gone)
        return True

    def delete(self, key: str) -> bool:
        """Forget `key`; whether it was there."""
        with self._lock:
            node = self._nodes.get(key)
            if node is None:
                return False
            self._unlink(node)
            return True

    def discard(self, matches: Callable[[str, T], bool]) -> int:
        """Forget every entry that `matches`, looking at each once; how many there were."""
        with self._lock:
            doomed = [node for node in self._nodes.values() if matches(node.key, node.item)]
            for node in doomed:
                self._unlink(node)
        return len(doomed)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            old, ring = self._nodes, self._ring
            self._empty()
        # The old ring is one long reference cycle: opened here, so that it is freed at once and not by the
        # garbage collector some time later.
        for node in old.values():
            node.newer = node.older = node
        ring.newer = ring.older = ring

    def forget(self) -> None:
        """In a child process: start empty if another thread was just at work here when the process was forked."""
        if self._lock.locked():
            self._lock = threading.Lock()
            self._empty()

    def _forget(self, node: _Node[T]) -> None:
        with self._lock:
            if self._nodes.get(node.key) is node:  # not if it was replaced meanwhile
                self._unlink(node)

    def _unlink(self, node: _Node[T]) -> None:
        if self._hand is node:
            self._hand = node.newer
        node.older.newer, node.newer.older = node.newer, node.older
        node.newer = node.older = node
        del self._nodes[node.key]
        self._bytes -= node.size

    def _evict(self) -> None:
        node = self._hand
        while node is self._ring or node.visited:
            node.visited = False
            node = node.newer
        self._hand = node
        self._unlink(node)
