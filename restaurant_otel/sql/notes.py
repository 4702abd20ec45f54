"""What is said in words, for all workers: the texts, plans and places that numbers in cells cannot hold.

Each note is a small JSON object under a kind and a key. It is kept in this process, and, where there are
siblings, saved as a file of its own in the private folder that they share: by one rename, so that readers see
it whole or not at all, and a worker's death takes nothing away. The folder is removed with its group.

Bounded: `MOST` notes a kind, `LARGEST` bytes a note. `put` is cheap; `keeper.py` calls `save`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from restaurant_otel import forks
from restaurant_otel.metrics.registry import registry

if TYPE_CHECKING:
    from restaurant_otel.metrics.group import Group

MOST: Final = 1_000
LARGEST: Final = 64_000

_SUFFIX: Final = ".note"
_NAME: Final = re.compile(r"[a-z]{1,16}-[0-9a-f]{1,64}\.note")

Note = dict[str, Any]
Name = tuple[str, str]


class Notes:
    """The notes of this process, and through the folder of its group those of its siblings. Any thread."""

    def __init__(self) -> None:
        self._kept: dict[str, OrderedDict[str, Note]] = {}
        self._unsaved: dict[Name, None] = {}
        self._group: Group | None = None
        self._in_child()
        forks.follow(in_child=self._in_child)

    def _in_child(self) -> None:
        self._lock = threading.Lock()
        self._saving = threading.Lock()

    def put(self, kind: str, key: str, note: Note) -> None:
        """Keep `note` in place of an older one of this `kind` (a word) and `key` (hexadecimal digits).

        Past the bound the oldest of the kind goes. The caller leaves `note` as it is from now on.
        """
        with self._lock:
            kept = self._kept.setdefault(kind, OrderedDict())
            kept[key] = note
            kept.move_to_end(key)
            if len(kept) > MOST:
                kept.popitem(last=False)
            self._unsaved[kind, key] = None

    def get(self, kind: str, key: str) -> Note | None:
        """The note that this process has put there."""
        with self._lock:
            kept = self._kept.get(kind)
            return kept.get(key) if kept is not None else None

    def all(self, kind: str) -> dict[str, Note]:
        """The notes of a kind by key: this process's, and those of its siblings, living and dead."""
        group = registry().group
        found: dict[str, Note] = {}
        if group is not None:
            with contextlib.suppress(OSError):
                found = _read(group, kind)
        with self._lock:
            return {**found, **self._kept.get(kind, {})}

    def save(self) -> None:
        """Write what is new to where the siblings can read it. A folder that is gone or full is no error.

        When it returns, all that was put before is written: what another thread was saving as well.
        """
        with self._saving:
            group, news = self._take_unsaved()
            if group is not None and news:
                with contextlib.suppress(OSError):
                    _write(group, news)

    def _take_unsaved(self) -> tuple[Group | None, list[tuple[Name, Note]]]:
        group = registry().group
        with self._lock:
            if group is not None and group != self._group:  # just joined: all is news to the siblings
                self._unsaved = {(kind, key): None for kind, kept in self._kept.items() for key in kept}
            self._group = group
            names, self._unsaved = self._unsaved, {}
            return group, [
                (name, self._kept[name[0]][name[1]]) for name in names if name[1] in self._kept[name[0]]
            ]

    def forget(self) -> None:
        """Drop what this process has kept; files stay."""
        with self._lock:
            self._kept.clear()
            self._unsaved.clear()


def _write(group: Group, news: list[tuple[Name, Note]]) -> None:
    from restaurant_otel.metrics import folder

    with folder.of_group(group) as place:
        present = {name for name in os.listdir(place) if name.endswith(_SUFFIX)}
        for (kind, key), note in news:
            name, data = f"{kind}-{key}{_SUFFIX}", json.dumps(note).encode()
            full = sum(each.startswith(f"{kind}-") for each in present) >= MOST
            if len(data) <= LARGEST and (name in present or not full):
                folder.replace(place, name, data)
                present.add(name)


def _read(group: Group, kind: str) -> dict[str, Note]:
    from restaurant_otel.metrics import folder

    found: dict[str, Note] = {}
    with folder.of_group(group) as place:
        for name in os.listdir(place):
            if not name.startswith(f"{kind}-") or not _NAME.fullmatch(name):
                continue
            with contextlib.suppress(OSError, ValueError):
                note = json.loads(folder.contents(place, name, LARGEST))
                if isinstance(note, dict):
                    found[name.removesuffix(_SUFFIX).partition("-")[2]] = note
    return found


notes: Final = Notes()
