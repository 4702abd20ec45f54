"""What is said in words, for all workers: the texts, plans and places that numbers in cells cannot hold.

Each note is a small JSON object under a kind and a key. It is kept in this process, and, where there are
siblings, put as a file of its own into the private folder that they share: by one rename, so that readers see
it whole or not at all, and a worker's death takes nothing away. The folder is removed with its group.

Bounded: `MOST` notes a kind, `LARGEST` bytes a note. Not for the request path: `keeper.py` calls `put`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
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


class Notes:
    """The notes of this process, and through the folder of its group those of its siblings. Any thread."""

    def __init__(self) -> None:
        self._kept: dict[str, OrderedDict[str, Note]] = {}
        self._group: Group | None = None
        self._in_child()
        forks.follow(in_child=self._in_child)

    def _in_child(self) -> None:
        self._lock = threading.Lock()

    def put(self, kind: str, key: str, note: Mapping[str, Any]) -> None:
        """Keep `note` in place of an older one of this `kind` (a word) and `key` (hexadecimal digits).

        Past the bound the oldest of the kind goes. Never raises for a folder that is gone or full.
        """
        data = json.dumps(note).encode()
        if len(data) > LARGEST:
            return
        with self._lock:
            kept = self._kept.setdefault(kind, OrderedDict())
            kept[key] = json.loads(data)
            kept.move_to_end(key)
            dropped = kept.popitem(last=False)[0] if len(kept) > MOST else None
            group = registry().group
            if group is None:
                return
            files = [(f"{kind}-{key}", data)]
            if group != self._group:  # just joined: what was kept until now is for the siblings as well
                self._group = group
                files += [
                    (f"{each}-{other}", json.dumps(older).encode())
                    for each, notes in self._kept.items()
                    for other, older in notes.items()
                    if (each, other) != (kind, key)
                ]
            with contextlib.suppress(OSError):
                _write(group, files, f"{kind}-{dropped}" if dropped else None)

    def get(self, kind: str, key: str) -> Note | None:
        """The note that this process has put there."""
        with self._lock:
            kept = self._kept.get(kind)
            return kept.get(key) if kept is not None else None

    def all(self, kind: str) -> dict[str, Note]:
        """The notes of a kind by key: this process's, and those of its siblings, living and dead."""
        found: dict[str, Note] = {}
        group = registry().group
        if group is not None:
            with contextlib.suppress(OSError):
                found = _read(group, kind)
        with self._lock:
            return {**found, **self._kept.get(kind, {})}

    def forget(self) -> None:
        """Drop what this process has kept; files stay."""
        with self._lock:
            self._kept.clear()


def _write(group: Group, files: list[tuple[str, bytes]], dropped: str | None) -> None:
    from restaurant_otel.metrics import folder

    with folder.base(group.root) as parent, folder.inner(parent, group.name) as place:
        present = {name for name in os.listdir(place) if name.endswith(_SUFFIX)}
        if dropped is not None:
            folder.remove(place, dropped + _SUFFIX)
        for name, data in files:
            kind = name.partition("-")[0]
            if name + _SUFFIX in present or sum(each.startswith(f"{kind}-") for each in present) < MOST:
                for _ in folder.write_new(place, name + _SUFFIX, [data]):
                    pass


def _read(group: Group, kind: str) -> dict[str, Note]:
    from restaurant_otel.metrics import folder

    found: dict[str, Note] = {}
    with folder.base(group.root) as parent, folder.inner(parent, group.name) as place:
        for name in os.listdir(place):
            if not name.startswith(f"{kind}-") or not _NAME.fullmatch(name):
                continue
            with contextlib.suppress(OSError, ValueError), folder.opened(place, name) as (file, _):
                note = json.loads(folder.read(file, LARGEST))
                if isinstance(note, dict):
                    found[name.removesuffix(_SUFFIX).partition("-")[2]] = note
    return found


notes: Final = Notes()
