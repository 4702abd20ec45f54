"""What all workers of an app must know alike: small documents in the folder that the workers share.

A job that one worker runs is asked after at another; a changed setting holds for all. Where an app has one worker,
and so no folder, the documents are in memory. Made for documents of a few kilobytes that change now and then.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from restaurant_otel import forks
from restaurant_otel.metrics.registry import registry

LARGEST: Final = 4_194_304

PATIENCE: Final = 5.0
"""Seconds for which a change waits for others."""

_PREFIX: Final = "admin-"
_SUFFIX: Final = ".json"


class Shelf:
    """Documents by name (letters, digits, ``-`` and ``_``), the same for all workers. Any thread."""

    def __init__(self) -> None:
        self._memory: dict[str, str] = {}
        self._lock = forks.Lock()
        self._turn = forks.Lock()

    def put(self, name: str, document: Any) -> None:
        """Keep `document`, at once for all. Raises OSError, and ValueError if it is too large."""
        text = json.dumps(document, default=str)
        if len(text) > LARGEST:
            raise ValueError(f"a document of {len(text)} bytes")
        with self._folder() as folder:
            if folder is None:
                with self._lock:
                    self._memory[name] = text
                return
            from restaurant_otel.metrics import folder as folders

            folders.replace(folder, _file(name), text.encode())

    def change(self, name: str, change: Callable[[Any], Any]) -> Any:
        """Keep what `change` makes of the document (None where there is none) while no worker else does; return that.

        Raises as `put` does, TimeoutError, and what `change` raises: then it stays as it was.
        """
        with self._turn, self._alone(name):
            document = change(self.get(name))
            self.put(name, document)
            return document

    def get(self, name: str) -> Any:
        """The document, or None where there is none, or none that can be read."""
        with self._folder() as folder:
            if folder is None:
                text = self._memory.get(name)
                return None if text is None else json.loads(text)
            from restaurant_otel.metrics import folder as folders

            with suppress(OSError, ValueError):
                return json.loads(folders.contents(folder, _file(name), LARGEST))
        return None

    def stamp(self, name: str) -> int:
        """A number that changes when the document does; 0 where there is none. Cheap."""
        with self._folder() as folder:
            if folder is None:
                return hash(self._memory.get(name, ""))
            with suppress(OSError):
                status = os.stat(_file(name), dir_fd=folder, follow_symlinks=False)
                # Each put makes a file of its own: two at the same tick of the clock differ all the same.
                return hash((status.st_mtime_ns, status.st_ino))
        return 0

    def names(self, beginning: str) -> list[str]:
        """The names that begin so, oldest name first."""
        with self._folder() as folder:
            if folder is None:
                return sorted(name for name in self._memory if name.startswith(beginning))
            start = _PREFIX + beginning
            files = (file for file in os.listdir(folder) if file.startswith(start) and file.endswith(_SUFFIX))
            return sorted(file[len(_PREFIX) : -len(_SUFFIX)] for file in files)

    def remove(self, name: str) -> None:
        """Forget the document."""
        with self._folder() as folder:
            if folder is None:
                with self._lock:
                    self._memory.pop(name, None)
            else:
                with suppress(OSError):
                    os.unlink(_file(name), dir_fd=folder)

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Keep all other workers from changing a document."""
        with self._folder() as folder:
            if folder is None:
                yield
                return
            from restaurant_otel.metrics import folder as folders

            until = time.monotonic() + PATIENCE
            while time.monotonic() < until:
                with folders.exclusively(folder, f"{_file(name)}.lock") as is_ours:
                    if is_ours:
                        yield
                        return
                time.sleep(0.01)
            raise TimeoutError(f"somebody else changes the document {name}")

    @contextmanager
    def _folder(self) -> Iterator[int | None]:
        """A descriptor of the workers' folder; None where there is none."""
        if not registry().attached:
            registry().attach()
        members = registry().group
        if members is None:
            yield None
            return
        from restaurant_otel.metrics import folder

        with folder.of_group(members) as place:
            yield place


def _file(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name):
        raise ValueError("not a document's name")
    return f"{_PREFIX}{name}{_SUFFIX}"
