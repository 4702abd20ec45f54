"""The files of a group of workers: read all of them, fold those of the dead, remove what is left of dead groups.

`Reader` serves scrapes, `fold` and `settle` the moment when a worker joins; all are called by `Registry`. What
the numbers add up to is `merge`'s part, what is in a file `layout`'s.

Nothing is counted twice and no counter goes back, because every reader sees one of two states: a dead worker's
file, or a ledger that has its counts and names the file. `fold` puts the new ledger in place first, by one
rename, and removes the files after; it may die in between without harm. A reader lists the files, then reads the
ledger, then the files that the ledger does not name: one that is there is not in the ledger it has read, and if
one has gone it starts again. It waits for nobody.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from operator import add
from secrets import token_hex
from typing import Any, Final
from zlib import crc32

from restaurant_otel.metrics import folder, group, layout
from restaurant_otel.metrics.group import Group, Leader
from restaurant_otel.metrics.layout import UnreadableError
from restaurant_otel.metrics.merge import CUMULATIVE, Snapshot, Source, Table, Tables, points_of
from restaurant_otel.metrics.points import Exemplar, HistogramPoint, Point

LEDGER: Final = "ledger.cells"

_LOCK: Final = "lock"
_SUFFIX: Final = ".cells"
_LEFTOVER_AFTER: Final = 60.0  # seconds until an unfinished file is taken for abandoned
_TRIES: Final = 50
_MOST_SKIPPED: Final = 1_000
_MOST_GROUPS: Final = 1_000
_LEDGER_EXEMPLARS: Final = 1 << 16
_STEP: Final = 100  # series folded in one go: a millisecond or two, with their exemplars


def new_head(started: float, name: str = "worker", ledger: bool = False) -> layout.Head:
    """The head for a file of this process; its id is never used again."""
    pid = os.getpid()
    start = group.started(pid) or 0
    return layout.Head(f"{name}-{pid}-{start}-{token_hex(4)}", pid, start, group.boot(), started, ledger)


# --- reading -----------------------------------------------------------------------------------------


class Reader:
    """Reads the other files of a group. `own` is the name of this process's file; `skipped` is told a reason."""

    def __init__(self, members: Group, own: str, skipped: Callable[[str], None]) -> None:
        self.members = members
        self.own = own
        self._tell_skipped = skipped
        self._skipped: set[tuple[str, int]] = set()

    def read(self, tables: Tables) -> Generator[None, None, tuple[list[Snapshot], bool]]:
        """The numbers of all other workers and the ledger, and whether the ledger has this process's as well.

        Works in steps of a few milliseconds at most. Raises OSError: FileNotFoundError when the folder is gone,
        `folder.UnsafeError`, or what the system says when it runs out of descriptors or memory; an answer without
        some of the workers would be worse than none.
        """
        with folder.of_group(self.members) as place:
            for _ in range(_TRIES):
                names = [name for name in os.listdir(place) if name.endswith(_SUFFIX) and name != LEDGER]
                try:
                    return (yield from self._read(place, names, tables))
                except FileNotFoundError:
                    continue  # folded meanwhile: look again
        raise OSError("the workers' files change faster than they can be read")

    def _read(
        self, place: int, names: list[str], tables: Tables
    ) -> Generator[None, None, tuple[list[Snapshot], bool]]:
        ledger = None
        with contextlib.suppress(FileNotFoundError):
            ledger = yield from self._load(place, LEDGER, tables)
        folded = ledger.source.folded if ledger is not None else frozenset()
        snapshots = [ledger] if ledger is not None else []
        for name in names:
            if name != self.own and name not in folded:
                snapshot = yield from self._load(place, name, tables)
                if snapshot is not None:
                    snapshots.append(snapshot)
        tables.forget(set(tables.sources) - set(names) - {LEDGER, self.own})
        return snapshots, self.own in folded

    def _load(self, place: int, name: str, tables: Tables) -> Generator[None, None, Snapshot | None]:
        try:
            return (yield from load(place, name, tables))
        except (UnreadableError, folder.UnsafeError) as error:
            reason = error.reason if isinstance(error, UnreadableError) else "foreign"
            with contextlib.suppress(OSError):
                file = (name, os.stat(name, dir_fd=place, follow_symlinks=False).st_ino)
                if file not in self._skipped and len(self._skipped) < _MOST_SKIPPED:
                    self._skipped.add(file)
                    self._tell_skipped(reason)
            return None


def load(place: int, name: str, tables: Tables) -> Generator[None, None, Snapshot]:
    """Read one file: its slots and exemplars as they are now, and what is new in its index into `tables`.

    Raises `UnreadableError` when it is damaged (a living worker may have been writing: it is read three times),
    `folder.UnsafeError`, and OSError.
    """
    for attempt in (1, 2, 3):
        with folder.opened(place, name) as (descriptor, status):
            if status.st_size > layout.LARGEST_FILE:
                raise UnreadableError("foreign", "too large for a file of ours")
            living = folder.is_locked(descriptor)
            data = folder.read(descriptor, status.st_size)
        try:
            contents = layout.take_apart(data)
            source = tables.sources.get(name)
            if source is None or source.head != contents.head:
                source = tables.sources[name] = Source(contents.head)
            yield  # a file of some megabytes took a millisecond or two
            yield from tables.read_index(source, contents)
        except UnreadableError:
            if attempt == 3 or not living:
                raise
        else:
            return Snapshot(source, living, contents.slots, contents.exemplars)
    raise AssertionError


# --- folding -----------------------------------------------------------------------------------------


def fold(members: Group, limit: int) -> Iterator[None]:
    """Add the counts of dead workers to the ledger and remove their files, unless another worker is at it.

    The ledger keeps `limit` attribute sets of a metric; the rest goes to its overflow set. Works in steps of a
    few milliseconds. Raises OSError; then nothing has changed, or all of it.
    """
    with folder.of_group(members) as place, folder.exclusively(place, _LOCK) as alone:
        if alone:
            yield from _fold(place, limit)


def _fold(place: int, limit: int) -> Iterator[None]:
    tables = Tables()
    names = os.listdir(place)
    ledger: Snapshot | None = None
    if LEDGER in names:
        with contextlib.suppress(UnreadableError, folder.UnsafeError):
            ledger = yield from load(place, LEDGER, tables)
    folded = ledger.source.folded if ledger is not None else set()
    dead: dict[str, Snapshot] = {}
    for name in names:
        if name.endswith(".new"):
            _remove_leftover(place, name)
        elif name in folded:
            folder.remove(place, name)
        elif name.endswith(_SUFFIX) and name != LEDGER and not _lives(place, name):
            with contextlib.suppress(
                UnreadableError, folder.UnsafeError
            ):  # readers have told; it stays for who can read it
                dead[name] = yield from load(place, name, tables)
    if not dead:
        return
    snapshots = [*([ledger] if ledger is not None else []), *dead.values()]
    yield from _write_ledger(place, tables, snapshots, set(dead) | (folded & set(names)), limit)
    for name in dead:
        folder.remove(place, name)


def _lives(place: int, name: str) -> bool:
    try:
        with folder.opened(place, name) as (descriptor, _):
            return folder.is_locked(descriptor)
    except FileNotFoundError:
        return True  # gone meanwhile: nothing to fold
    except folder.UnsafeError:
        return True  # not ours: nothing to fold


def _remove_leftover(place: int, name: str) -> None:
    with contextlib.suppress(OSError):
        if time.time() - os.stat(name, dir_fd=place, follow_symlinks=False).st_mtime > _LEFTOVER_AFTER:
            os.unlink(name, dir_fd=place)


def _write_ledger(
    place: int, tables: Tables, snapshots: list[Snapshot], folded: set[str], limit: int
) -> Iterator[None]:
    book = _Book()
    for table in tables.by_definition.values():
        if table.metric.kind in CUMULATIVE:
            sets = book.begin(table, limit)
            for first in range(0, len(table.keys), _STEP):
                rows = range(first, min(first + _STEP, len(table.keys)))
                sets.add(points_of(table, rows, snapshots, 0.0))
                yield
            sets.end()
    head = new_head(min(snapshot.source.head.started for snapshot in snapshots), "ledger", ledger=True)
    yield from folder.write_new(place, LEDGER, book.parts(head, folded))


class _Book:
    """A ledger in the making."""

    def __init__(self) -> None:
        self.slots = bytearray(layout.SEGMENT_HEAD)
        self.exemplars = bytearray(layout.RECORD)
        self.index: list[bytes] = []
        self._metrics = 0

    def begin(self, table: Table, limit: int) -> _Sets:
        """The next metric."""
        number, self._metrics = self._metrics, self._metrics + 1
        self.index.append(layout.metric_line(number, table.metric))
        return _Sets(self, number, table, limit)

    def parts(self, head: layout.Head, folded: set[str]) -> Iterator[layout.Bytes]:
        """The file."""
        self.index.append(layout.folded_line(folded))
        return layout.whole_file(head, self.slots, self.exemplars, self.index)

    def chain(self, exemplars: Sequence[Exemplar | None]) -> int:
        """Keep exemplars, one a bucket in order, as far as there is room; the number of the first in the chain."""
        first = 0
        for bucket, exemplar in enumerate(exemplars):
            number = len(self.exemplars) >> layout.RECORD_SHIFT
            if exemplar is not None and number < _LEDGER_EXEMPLARS:
                trace_id = exemplar.trace_id.to_bytes(16, "big")
                body = layout.EXEMPLAR_BODY.pack(
                    exemplar.value, exemplar.timestamp, trace_id, exemplar.span_id
                )
                record = layout.EXEMPLAR_LINK.pack(bucket, first)
                record += layout.EXEMPLAR_SEALED.pack(crc32(body), 0, body)
                self.exemplars += record.ljust(layout.RECORD, b"\0")
                first = number
        return first


class _Sets:
    """One metric's attribute sets on their way into the ledger: past the limit they are added up."""

    def __init__(self, book: _Book, number: int, table: Table, limit: int) -> None:
        self._book = book
        self._number = number
        self._slots = table.slots
        self._room = limit
        self._overflow: tuple[Any, ...] | None = None

    def add(self, points: list[Point]) -> None:
        """Keep these."""
        for point in points:
            if point.overflow or self._room == 0:
                values = self._values(point, with_exemplars=False)
                self._overflow = values if self._overflow is None else tuple(map(add, self._overflow, values))
            else:
                self._room -= 1
                self._put(point.values, self._values(point, with_exemplars=True))

    def end(self) -> None:
        """Keep the overflow set, if there is one."""
        if self._overflow is not None:
            self._put(None, self._overflow)

    def _put(self, key: layout.Key, values: tuple[Any, ...]) -> None:
        self._book.index.append(layout.series_line(self._number, len(self._book.slots) // 8, key))
        self._book.slots += self._slots.pack(*values)

    def _values(self, point: Point, with_exemplars: bool) -> tuple[Any, ...]:
        if isinstance(point, HistogramPoint):
            first = self._book.chain(point.exemplars) if with_exemplars and point.exemplars else 0
            return (float(first), point.sum, *point.counts)
        return (point.value,)


# --- groups ------------------------------------------------------------------------------------------


def settle(parent: int, found: Group) -> Group:
    """The group to join, given the one that was found, and an end to groups that are dead. Raises OSError.

    A gunicorn master that takes over from another (USR2) has a process id of its own, but its workers join the
    group of the old one's: a note, ``<new>.alias``, says so to those that start after the old one is gone.
    """
    settled = _follow(parent, found) or _take_over(parent, found) or found
    _remove_dead_groups(parent, settled.name)
    return settled


def _follow(parent: int, found: Group) -> Group | None:
    leader = _joined_by(parent, f"{found.name}.alias")
    return Group(leader.name, found.root, leader) if leader is not None else None


def _joined_by(parent: int, note: str) -> Leader | None:
    """The leader whose group a note says to join."""
    with contextlib.suppress(OSError), folder.opened(parent, note) as (descriptor, _):
        return Leader.parse(folder.read(descriptor, 200).decode("ascii", "replace"))
    return None


def _take_over(parent: int, found: Group) -> Group | None:
    pid = group.predecessor()
    if pid is None or found.leader is None:
        return None
    old = group.leader(pid) or _late_leader(parent, pid)
    if old is None or old == found.leader:
        return None
    target = Group(old.name, found.root, old)
    target = _follow(parent, target) or target
    folder.replace(parent, f"{found.name}.alias", target.name.encode())
    return target


def _late_leader(parent: int, pid: int) -> Leader | None:
    """The last process with this id that led a group here, dead by now."""
    leaders = [leader for name in os.listdir(parent) if (leader := Leader.parse(name)) is not None]
    ours = [x for x in leaders if (x.pid, x.boot, x.namespace) == (pid, group.boot(), group.pid_namespace())]
    return max(ours, key=lambda leader: leader.start, default=None)


def _remove_dead_groups(parent: int, own: str) -> None:
    """A group is dead when its leader, those who took over from it and all its workers are."""
    names = os.listdir(parent)[:_MOST_GROUPS]
    notes = {
        name: joined.name
        for name in names
        if name.endswith(".alias") and (joined := _joined_by(parent, name)) is not None
    }
    joined_by_living = {target for note, target in notes.items() if _leads(note.removesuffix(".alias"))}
    for name in names:
        if Leader.parse(name) and name != own and name not in joined_by_living and not _leads(name):
            with contextlib.suppress(OSError):
                _remove_group(parent, name)
    for note, target in notes.items():
        if not _leads(note.removesuffix(".alias")) and not _exists(parent, target):
            folder.remove(parent, note)


def _leads(name: str) -> bool:
    leader = Leader.parse(name)
    return leader is not None and leader.lives


def _exists(parent: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _remove_group(parent: int, name: str) -> None:
    with folder.inner(parent, name) as place:
        files = os.listdir(place)
        if any(_lives(place, file) for file in files if file.endswith(_SUFFIX)):
            return
        for file in files:
            folder.remove(place, file)
    os.rmdir(name, dir_fd=parent)
