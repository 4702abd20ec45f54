"""The memory of a process's cells: private at first, a file that siblings read once there are any.

It hands out slots and exemplar records, and can move all of them into a file without losing a count. It
knows bytes and addresses; metrics and attributes only as lines of an index. `Registry` is its only caller
and holds its lock in every call that changes something.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from restaurant_otel.metrics import layout
from restaurant_otel.metrics.cells import BLOCK_OF_RECORDS, RECORDS, Block, Shelf, move

if TYPE_CHECKING:  # not imported at run time: it needs what Windows lacks
    from restaurant_otel.metrics.worker_file import WorkerFile

FIRST_BLOCK: Final = max(layout.PAGE, 1 << 15)
LARGEST_BLOCK: Final = 1 << 20
"""Blocks double from 32 KiB to 1 MiB: a mapping costs a file descriptor, so there should be few."""

MOST_RECORD_BLOCKS: Final = 64
"""65,536 exemplars, 4 MiB; histograms made after that have none."""


class Store:
    """All cells' memory. `problem` is the error that keeps it from growing in its file, to be reported once."""

    def __init__(self, lock: threading.RLock) -> None:
        self._blocks: list[Block] = []
        self._shelf = Shelf(self._take_record, lock)
        self._records = 0
        self._file: WorkerFile | None = None
        self.problem: Exception | None = None

    def allocate(self, width: int) -> tuple[Block, int]:
        """`width` slots in a row, all zero: their block and the first one's place in it."""
        block = self._blocks[-1] if self._blocks else None
        if block is None or block.used + width > block.size // 8:
            doubled = min(FIRST_BLOCK << len(self._blocks), LARGEST_BLOCK)
            size = layout.pages(max(doubled, 8 * (width + layout.SEGMENT_HEAD_SLOTS)))
            base = sum(block.size // 8 for block in self._blocks)
            block = Block(size, base, self._shelf)
            self._extend_file(layout.SLOTS, block)
            self._blocks.append(block)
        at = block.used
        block.used = at + width
        return block, at

    def _take_record(self) -> int:
        if self._records == len(self._shelf.blocks) * RECORDS:
            if len(self._shelf.blocks) == MOST_RECORD_BLOCKS:
                return 0
            block = Block(BLOCK_OF_RECORDS, self._records << (layout.RECORD_SHIFT - 3))
            self._extend_file(layout.EXEMPLARS, block)
            self._shelf.blocks.append(block)
            self._records += 1  # a block's first record is its segment's head
        number = self._records
        self._records = number + 1
        return number

    # --- reading --------------------------------------------------------------------------------------

    def slots(self) -> bytes:
        """A copy of all slots, laid end to end as in a file."""
        return b"".join([block.view for block in list(self._blocks)])

    def exemplars(self) -> bytes:
        """A copy of all exemplar records, laid end to end as in a file."""
        return b"".join([block.view for block in list(self._shelf.blocks)])

    # --- the file -------------------------------------------------------------------------------------

    def move_into(self, file: WorkerFile, index: Iterable[bytes], folder: int) -> None:
        """Go on in `file`, which was made in `folder`.

        Raises OSError when there is no room for it; then nothing has changed.
        """
        slots = [(block, file.add_segment(layout.SLOTS, block.size)) for block in self._blocks]
        records = [(block, file.add_segment(layout.EXEMPLARS, block.size)) for block in self._shelf.blocks]
        file.append(b"".join(index))
        file.publish(folder)
        for block, buffer in records + slots:
            move(block, buffer)
        self._file = file
        self.problem = None

    def append(self, line: bytes, block: Block) -> None:
        """Tell readers whose slots are at a place in `block`, if that is in the file."""
        if self._file is not None and not self._file.full and not isinstance(block.buffer, bytearray):
            try:
                self._file.append(line)
            except OSError as error:
                self._give_up(error)

    def _extend_file(self, kind: int, block: Block) -> None:
        if self._file is not None and not self._file.full:
            try:
                move(block, self._file.add_segment(kind, block.size))
            except (OSError, ValueError) as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """What is in the file stays there and goes on counting; what comes new is private to this process."""
        assert self._file is not None  # noqa: S101 - callers have looked
        self._file.full = True
        self.problem = error

    def start_over(self, lock: threading.RLock) -> None:
        """After a fork, in the child: the same places, all zero, in private memory. The parent's file is let go."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
        for block in self._blocks:
            block.lock = threading.RLock()
            block.clear(block.size)
        self._shelf.blocks = []
        self._shelf.lock = lock
        self._records = 0
        self.problem = None
