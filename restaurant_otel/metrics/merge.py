"""What the workers' numbers add up to: from each worker's slots to the points that readers get.

A `Source` is one worker, living or dead, or the ledger of the dead. `Tables` remembers which series each
source has, so that a scrape looks at new index lines only; the slots come fresh with every scrape. Where
sources come from (`workers`, `Registry`) and where points go (the exposition) is no matter here.

The rules: counters and histograms are summed over all sources; all other kinds over living workers only, by
the metric's `across`; of exemplars the newest stays.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import add
from typing import Any, Final

from restaurant_otel.catalog import METRICS, Across, Kind, Metric
from restaurant_otel.metrics import layout
from restaurant_otel.metrics.layout import Definition, Key, UnreadableError
from restaurant_otel.metrics.points import Exemplar, Family, HistogramPoint, NumberPoint, Point

CUMULATIVE: Final = frozenset({Kind.COUNTER, Kind.HISTOGRAM})
"""The kinds whose numbers outlive their worker."""

_WORN_BEYOND: Final = 20_000


@dataclass(slots=True)
class Snapshot:
    """A source's numbers at one moment, for one merge. `slots` and `exemplars` are laid out as in a file."""

    source: Source
    living: bool
    slots: layout.Bytes
    exemplars: layout.Bytes


class Source:
    """One process's series: for each metric the address of each row's slots, 0 where it does not have that row."""

    def __init__(self, head: layout.Head) -> None:
        self.head = head
        self.worker = str(head.pid)
        self.columns: dict[Definition, array[int]] = {}
        self.folded: set[str] = set()
        self.metrics: list[Table] = []  # by the number that this source's index gives them
        self.parsed = 0  # bytes of the index
        self.read: dict[
            Definition, int
        ] = {}  # series taken in, where they come from memory and not from an index


class Table:
    """One metric's series over all sources, a row each."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.definition = layout.definition(metric)
        self.prometheus_name = metric.prometheus_name
        self.rows: dict[Key, int] = {}
        self.keys: list[Key] = []
        self.slots = layout.series(metric)
        self.unpack: Callable[[layout.Bytes, int], tuple[Any, ...]] = self.slots.unpack_from

    def row(self, key: Key) -> int:
        """The row of a series, made if it is new."""
        row = self.rows.setdefault(key, len(self.keys))
        if row == len(self.keys):
            self.keys.append(key)
        return row


class Tables:
    """The series of all sources. Any thread: the lock is held for a step at a time, between which they only grow.

    Two scrapes may go on at once, one a few lines ahead of the other; so a reader never trusts an address that
    lies beyond the slots it holds.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.by_definition: dict[Definition, Table] = {}
        self.sources: dict[str, Source] = {}
        self._dropped = 0

    def table(self, metric: Metric) -> Table:
        """The table of a metric: of the catalogue's object, where there is one that says the same. Lock held."""
        definition = layout.definition(metric)
        table = self.by_definition.get(definition)
        if table is None:
            table = self.by_definition[definition] = Table(_CATALOGUE.get(definition, metric))
        return table

    def put(self, source: Source, table: Table, key: Key, address: int) -> None:
        """Note where a source keeps a series. Lock held."""
        column = source.columns.setdefault(table.definition, array("I"))
        row = table.row(key)
        if row >= len(column):
            column.frombytes(bytes(column.itemsize * (row + 1 - len(column))))
        column[row] = address

    def read_index(self, source: Source, contents: layout.Contents) -> Iterator[None]:
        """Take in the lines that are new since the last time, in steps of about a millisecond.

        Raises `UnreadableError`; what was read until then stays, and reading goes on there the next time.
        """
        slots = len(contents.slots) // 8
        start = source.parsed
        for records, end in layout.read_lines(contents.index_from(start)):
            try:
                with self.lock:
                    for record in records:
                        self._read_record(source, record, slots)
            except (TypeError, ValueError, IndexError, OverflowError) as error:
                raise UnreadableError("torn", "an index line does not make sense") from error
            source.parsed = start + end
            yield

    def _read_record(self, source: Source, record: Any, slots: int) -> None:
        if isinstance(record, list):
            number, address, key = record
            table = source.metrics[number]
            metric = table.metric
            if address < layout.SEGMENT_HEAD_SLOTS or address + layout.width(metric) > slots:
                raise ValueError("an address outside of the file")
            if key is not None and len(key) != len(metric.attributes):
                raise ValueError("more or fewer values than attributes")
            self.put(source, table, None if key is None else tuple(key), address)
        elif "folded" in record:
            source.folded.update(record["folded"])
        elif record["metric"] == len(source.metrics):
            source.metrics.append(self.table(layout.read_metric(record)))

    def forget(self, names: Iterable[str]) -> None:
        """Drop sources that are gone. Their rows stay, as others mostly have them too."""
        with self.lock:
            for name in names:
                source = self.sources.pop(name, None)
                if source is not None:
                    self._dropped += sum(map(len, source.columns.values()))

    @property
    def worn(self) -> bool:
        """Whether it is time for new tables, so that rows that nobody has do not pile up.

        It is after as many series were dropped as there are rows.
        """
        return self._dropped > _WORN_BEYOND + sum(len(table.keys) for table in self.by_definition.values())

    # --- points ---------------------------------------------------------------------------------------

    def families(self, snapshots: Sequence[Snapshot], start: float, chunk: int) -> Iterator[Family]:
        """All points of these snapshots, at most `chunk` in a family; those of one Prometheus name together.

        `start`: seconds since the epoch, when the sum of all workers began.
        """
        order: dict[str, int] = {}
        tables = list(self.by_definition.values())
        for table in tables:
            order.setdefault(table.prometheus_name, len(order))
        tables.sort(key=lambda table: order[table.prometheus_name])
        # The more workers, the longer a point takes: a family is a constant amount of work.
        step = max(1, chunk // max(1, len(snapshots)))
        for table in tables:
            for first in range(0, len(table.keys), step):
                rows = range(first, min(first + step, len(table.keys)))
                with self.lock:  # without a global interpreter lock nobody else may be making columns longer
                    points = points_of(table, rows, snapshots, start)
                if points:
                    yield Family(table.metric, points)


def points_of(table: Table, rows: range, snapshots: Sequence[Snapshot], start: float) -> list[Point]:
    """The points of some rows of a table."""
    metric = table.metric
    alive_only = metric.kind not in CUMULATIVE
    parts = [
        (snapshot, column)
        for snapshot in snapshots
        if (column := snapshot.source.columns.get(table.definition)) is not None
        and (snapshot.living or not alive_only)
    ]
    if metric.kind is Kind.HISTOGRAM:
        return _histograms(table, rows, parts, start)
    # When the kernel began to count nobody says; 0 stands for that.
    observed = metric.kind is Kind.OBSERVED_COUNTER
    if alive_only and metric.across is Across.PER_WORKER:
        return _numbers_per_worker(table, rows, parts, started=not observed)
    return _numbers(table, rows, parts, 0.0 if observed else start)


Parts = Sequence[tuple[Snapshot, "array[int]"]]


def _histograms(table: Table, rows: range, parts: Parts, start: float) -> list[Point]:
    found: list[Point] = []
    unpack = table.unpack
    buckets = len(table.metric.bounds) + 1
    absent = (None,) * len(table.metric.attributes)
    for row in rows:
        total: tuple[Any, ...] | None = None
        exemplars: list[Exemplar | None] | None = None
        for snapshot, column in parts:
            if row < len(column) and 0 < (place := column[row] * 8) < len(snapshot.slots):
                slots = unpack(snapshot.slots, place)
                total = slots if total is None else tuple(map(add, total, slots))
                if 0 < slots[0] < layout.MOST_RECORDS:
                    if exemplars is None:
                        exemplars = [None] * buckets
                    layout.read_exemplars(snapshot.exemplars, int(slots[0]), exemplars)
        if total is None:
            continue
        key = table.keys[row]
        values = absent if key is None else key
        counts = list(total[layout.HISTOGRAM_COUNTS :])
        the_sum = total[layout.HISTOGRAM_COUNTS - 1]
        found.append(HistogramPoint(values, counts, the_sum, exemplars or (), None, start, key is None))
    return found


def _numbers(table: Table, rows: range, parts: Parts, start: float) -> list[Point]:
    found: list[Point] = []
    absent = (None,) * len(table.metric.attributes)
    combine = max if _takes_largest(table.metric) else add
    for row in rows:
        total: float | None = None
        for value, _ in _readings(table, row, parts):
            total = value if total is None else combine(total, value)
        if total is not None:
            key = table.keys[row]
            found.append(NumberPoint(absent if key is None else key, total, None, start, key is None))
    return found


def _takes_largest(metric: Metric) -> bool:
    return metric.kind is not Kind.COUNTER and metric.across is Across.MAX


def _numbers_per_worker(table: Table, rows: range, parts: Parts, started: bool) -> list[Point]:
    found: list[Point] = []
    absent = (None,) * len(table.metric.attributes)
    for row in rows:
        key = table.keys[row]
        found.extend(
            NumberPoint(
                absent if key is None else key,
                value,
                source.worker,
                source.head.started if started else 0.0,
                key is None,
            )
            for value, source in _readings(table, row, parts)
        )
    return found


def _readings(table: Table, row: int, parts: Parts) -> Iterator[tuple[float, Source]]:
    unpack = table.unpack
    for snapshot, column in parts:
        if row < len(column) and 0 < (place := column[row] * 8) < len(snapshot.slots):
            values = unpack(snapshot.slots, place)
            if len(values) == 1 or values[0]:  # a gauge's first slot says whether there is a reading
                yield values[-1], snapshot.source


_CATALOGUE: Final = {layout.definition(metric): metric for metric in METRICS}
