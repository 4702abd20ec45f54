"""Which disks, interfaces and mount points count: sensibly chosen, or by the operator's patterns."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Final

_MOST: Final = 50
"""Series are bounded by the settings' limit too; a host with more than this many of one sort is told in part."""


class Selection:
    """Remembers what was decided for a name, since asking may cost system calls.

    `patterns`: shell patterns of the names that count, None for what `sensible` says.
    """

    def __init__(self, patterns: tuple[str, ...] | None, sensible: Callable[[str], bool]) -> None:
        self._patterns = patterns
        self._sensible = sensible
        self._known: dict[str, bool] = {}

    def has(self, name: str) -> bool:
        """Whether `name` counts."""
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= 20 * _MOST:  # names that come and go, as containers' interfaces do
                self._known.clear()
            known = self._decide(name) and sum(self._known.values()) < _MOST
            self._known[name] = known
        return known

    def _decide(self, name: str) -> bool:
        if self._patterns is None:
            return self._sensible(name)
        return any(fnmatchcase(name, pattern) for pattern in self._patterns)
