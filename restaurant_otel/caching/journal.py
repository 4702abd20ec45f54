"""What Redis must be told before it is trusted again: the invalidations made while it was away.

Keys deleted, and keys set (Redis may still hold their older value); tags, patterns, or everything. It
holds no values. When it grows over its bound it becomes "everything": too much is forgotten, never too
little. Used under `core`'s gate lock; replayed by `maintenance`.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Journal:
    """At most `limit` invalidations, each once."""

    limit: int
    names: set[str] = field(default_factory=set)
    tags: set[str] = field(default_factory=set)
    patterns: set[str] = field(default_factory=set)
    everything: bool = False

    def __len__(self) -> int:
        return len(self.names) + len(self.tags) + len(self.patterns) + self.everything

    def name(self, name: str) -> None:
        """`name` was set or deleted."""
        self._add(self.names, name)

    def tag(self, tag: str) -> None:
        """Everything tagged `tag` was deleted."""
        self._add(self.tags, tag)

    def pattern(self, pattern: str) -> None:
        """Everything that matches `pattern` was deleted."""
        self._add(self.patterns, pattern)

    def all(self) -> None:
        """Everything was deleted."""
        self.names.clear()
        self.tags.clear()
        self.patterns.clear()
        self.everything = True

    def _add(self, kind: set[str], what: str) -> None:
        if self.everything:
            return  # said already
        kind.add(what)
        if len(self) > self.limit:
            self.all()

    def take(self) -> Journal:
        """What is to be replayed now; this journal is empty afterwards."""
        taken = Journal(self.limit, self.names, self.tags, self.patterns, self.everything)
        self.names, self.tags, self.patterns, self.everything = set(), set(), set(), False
        return taken

    def put_back(self, taken: Journal) -> None:
        """The replay of `taken` failed."""
        if taken.everything:
            self.all()
        for kind, more in (
            (self.names, taken.names),
            (self.tags, taken.tags),
            (self.patterns, taken.patterns),
        ):
            for what in more:
                self._add(kind, what)
