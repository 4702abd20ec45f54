"""All metrics of a process: instruments, their cells, and the way from cells to the points of all workers.

What records (`middleware`, `sql`, `cache`, ...) asks for an instrument once, binds attribute values once and
keeps the cell; what reads (`exposition`, `otlp`, `scoring`) collects. The parts behind: `cells` are written,
`store` is their memory, `group` and `workers` know the siblings, `merge` adds up.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from weakref import WeakSet

from opentelemetry.metrics import Meter

from restaurant_otel import catalog
from restaurant_otel.catalog import Kind, Metric
from restaurant_otel.metrics import group as groups
from restaurant_otel.metrics import layout
from restaurant_otel.metrics.cells import COUNTER, GAUGE, HISTOGRAM, CounterCell, GaugeCell, HistogramCell
from restaurant_otel.metrics.merge import Snapshot, Source, Tables
from restaurant_otel.metrics.points import Family, NumberPoint, Value
from restaurant_otel.metrics.store import Store
from restaurant_otel.metrics.tee import Outlet

if TYPE_CHECKING:  # not imported at run time where there is no fork: they need what Windows lacks
    from restaurant_otel.metrics.workers import Reader

DEFAULT_LIMIT: Final = 2_000
_LEDGER_LIMITS: Final = 4
"""The ledger keeps this many times the limit: workers need not have had the same attribute sets."""

_MOST_BOUNDS: Final = 10_000

C = TypeVar("C", CounterCell, GaugeCell, HistogramCell)


class Instrument(Generic[C]):
    """One metric of a registry; `bind` gives the cell of an attribute set. Made by `Registry` only."""

    def __init__(self, owner: Registry, metric: Metric) -> None:
        self.metric = metric
        self.number: int | None = None  # in the index of this process's file, once it is in there
        self.cells: dict[layout.Key, C] = {}
        self._bound: dict[layout.Key, C] = (
            self.cells
        )  # what is handed out: the cells, or tees in front of them
        self._outlet: Outlet | None = None
        self._owner = owner

    def bind(self, *values: Value) -> C:
        """The cell for `values`, which go with `metric.attributes` in order (None: attribute absent).

        Past the registry's limit of sets it is the metric's one overflow cell. Refused sets are not remembered
        here, so that a flood of them costs no memory; each such call counts as one refused. Callers that remember
        cells must bound what they remember as well. Any thread. Raises ValueError when the number of values
        is wrong.
        """
        cell = self._bound.get(values)
        return self._bind(values) if cell is None else cell

    def use_meter(self, meter: Meter | None) -> None:
        """Give out cells that also write to `meter`, from now on."""
        self._outlet = Outlet(meter, self.metric) if meter is not None else None
        self._bound = {} if meter is not None else self.cells

    def _bind(self, values: tuple[Value, ...]) -> C:
        if len(values) != len(self.metric.attributes):
            raise ValueError(
                f"{self.metric.name} has {len(self.metric.attributes)} attributes, not {len(values)}"
            )
        key: layout.Key = values
        to_show: Outlet | None = None
        with self._owner.lock:
            if values not in self.cells and len(self.cells) - (None in self.cells) >= self._owner.limit:
                key = None
                self._owner.refused(self.metric)
            cell = self.cells.get(key)
            if cell is None:
                cell = self.cells[key] = self._owner.new_cell(self, key)
            if self._bound is not self.cells and self._outlet is not None:
                teed = self._bound.get(key)
                if teed is None:
                    teed = self._bound[key] = self._outlet.tee(cell, key)
                    to_show = self._outlet if self._outlet.is_to_be_shown() else None
                cell = teed
        if to_show is not None:
            to_show.show()  # without our lock: the app's pipeline may take its time, or hang
        self._owner.report()
        return cell


class Registry:
    """All instruments of a process. `registry()` gives the one that everybody shares.

    `limit`: attribute sets of a metric, before the overflow set. `attached`: whether it has been decided if there
    are siblings; the request path looks at it and calls `attach` where it is False. `start_time`: seconds since the
    epoch when counting began in this process.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self.limit = limit
        self.attached = False
        self.start_time = time.time()
        self.lock = threading.RLock()
        self._instruments: dict[layout.Definition, Instrument[Any]] = {}
        # The same by the metric that each was made for: a hash of its identity, where a definition's takes 1 us.
        self._by_metric: dict[Metric, Instrument[Any]] = {}
        self._store = Store(self.lock)
        self._meter: Meter | None = None
        self._in_file = 0  # metrics declared in the file's index
        self._tables = Tables()
        self._reader: Reader | None = None
        self._group: groups.Group | None = None
        self._forked_from: groups.Leader | None = None
        self._pid = os.getpid()
        self._held_by: int | None = None  # the thread that is about to fork
        self._told: Exception | None = None
        _hook_forks(self)

    # --- instruments ----------------------------------------------------------------------------------

    def counter(self, metric: Metric) -> Instrument[CounterCell]:
        """The instrument of a counter or up-down counter. Any thread."""
        return self._instrument(metric)

    def gauge(self, metric: Metric) -> Instrument[GaugeCell]:
        """The instrument of a gauge or observed counter. Any thread."""
        return self._instrument(metric)

    def histogram(self, metric: Metric) -> Instrument[HistogramCell]:
        """The instrument of a histogram. Any thread. Raises ValueError beyond 10,000 bounds."""
        return self._instrument(metric)

    def use_meter(self, meter: Meter | None) -> None:
        """Write to `meter`, the host app's, as well: through all cells bound from now on. None ends it."""
        with self.lock:
            self._meter = meter
            for instrument in self._instruments.values():
                instrument.use_meter(meter)

    def _instrument(self, metric: Metric) -> Instrument[Any]:
        return self._by_metric.get(metric) or self._instrument_that_says(metric)

    def _instrument_that_says(self, metric: Metric) -> Instrument[Any]:
        definition = layout.definition(metric)
        instrument = self._instruments.get(definition)
        if instrument is None:
            if len(metric.bounds) > _MOST_BOUNDS:
                raise ValueError(f"{metric.name} has {len(metric.bounds)} bounds, more than {_MOST_BOUNDS}")
            with self.lock:
                instrument = self._instruments.get(definition)
                if instrument is None:
                    instrument = Instrument(self, metric)
                    instrument.use_meter(self._meter)
                    self._instruments[definition] = self._by_metric[metric] = instrument
        return instrument

    # --- for Instrument, which holds the lock ---------------------------------------------------------

    def new_cell(self, instrument: Instrument[Any], key: layout.Key) -> Any:
        """Memory for a series, announced in the file if there is one."""
        metric = instrument.metric
        block, at = self._store.allocate(layout.width(metric))
        if self._reader is not None:
            self._store.append(
                self._declaration(instrument) + self._announcement(instrument, key, block.base + at), block
            )
        if metric.kind is Kind.HISTOGRAM:
            return HISTOGRAM(block, at + layout.HISTOGRAM_COUNTS, metric.bounds)
        return GAUGE(block, at) if metric.kind in layout.READ_OFF else COUNTER(block, at)

    def refused(self, metric: Metric) -> None:
        """Count an attribute set that got no cell of its own."""
        if metric is not catalog.TELEMETRY_OVERFLOW:
            self.counter(catalog.TELEMETRY_OVERFLOW).bind(metric.name).add(1)

    def report(self) -> None:
        """Tell, without the lock, that the file has stopped growing."""
        problem = self._store.problem
        if problem is not None and problem is not self._told:
            self._told = problem
            _survived(problem)

    def _declaration(self, instrument: Instrument[Any]) -> bytes:
        if instrument.number is not None:
            return b""
        instrument.number, self._in_file = self._in_file, self._in_file + 1
        return layout.metric_line(instrument.number, instrument.metric)

    def _announcement(self, instrument: Instrument[Any], key: layout.Key, address: int) -> bytes:
        assert instrument.number is not None  # noqa: S101 - declared just before
        return layout.series_line(instrument.number, address, key)

    def _index(self) -> Iterator[bytes]:
        for instrument in self._instruments.values():
            yield self._declaration(instrument)
            for key, cell in instrument.cells.items():
                yield self._announcement(instrument, key, _address(cell))

    # --- siblings -------------------------------------------------------------------------------------

    def attach(self) -> None:
        """Find out whether this process has siblings, and if so go on counting where they can read it.

        Called on the request path, when `attached` is False; takes a millisecond or two, once a process. Any
        thread. Never raises: where siblings cannot be joined the numbers stay private, and the error is counted.
        """
        if self._pid != os.getpid():
            self.after_fork_in_child()  # uWSGI forks without telling Python
        with self.lock:
            if self.attached:
                return
            error = self._join()
            self.attached = True
        if error is not None:
            _survived(error)

    @property
    def group(self) -> groups.Group | None:
        """The group in whose folder this process's numbers are; None while it speaks for itself alone."""
        return self._group if self._reader is not None else None

    def _join(self) -> Exception | None:
        try:
            found = self._group or groups.find(self._forked_from)
            if found is not None:
                self._join_group(found)
        except Exception as error:  # noqa: BLE001 - a request is waiting, and can be counted without siblings
            return error
        return None

    def _join_group(self, found: groups.Group) -> None:
        from restaurant_otel.metrics import folder, workers
        from restaurant_otel.metrics.worker_file import WorkerFile

        with folder.base(found.root, create=True) as parent:
            found = workers.settle(parent, found)
            with folder.inner(parent, found.name, create=True) as place:
                file = WorkerFile(place, workers.new_head(self.start_time))
                try:
                    self._store.move_into(file, self._index(), place)
                except BaseException:
                    self._forget_index()
                    file.discard(place)
                    raise
        self._group = found
        self._tables = Tables()
        self._reader = workers.Reader(found, file.name, self._skipped)
        for _ in workers.fold(found, self.limit * _LEDGER_LIMITS):
            pass

    def _forget_index(self) -> None:
        self._in_file = 0
        for instrument in self._instruments.values():
            instrument.number = None

    def _skipped(self, reason: str) -> None:
        self.counter(catalog.TELEMETRY_FILES_SKIPPED).bind(reason).add(1)

    # --- reading --------------------------------------------------------------------------------------

    def collect(self) -> list[Family]:
        """All points of all workers, living and dead, a family a metric. Attaches first. Any thread.

        Raises OSError where the system is out of descriptors or memory: an answer without some workers would make
        counters go back.
        """
        return list(_joined(self.iter_families()))

    def iter_families(self, chunk: int = 500) -> Iterator[Family]:
        """The same piece by piece, so that an event loop can do other things in between.

        Several families of one metric may follow each other, each of at most `chunk` points. One without points
        is a pause in longer work, and nothing else. Any thread; the iterator belongs to one caller.
        """
        if not self.attached:
            self.attach()
        if self._tables.worn:
            self._tables = Tables()
        tables = self._tables  # this scrape's: the next may find them worn
        own = yield from self._snapshot(tables)
        others, own_is_folded = yield from self._others(tables)
        snapshots = others if own_is_folded else [own, *others]
        start = min((snapshot.source.head.started for snapshot in snapshots), default=self.start_time)
        yield from tables.families(snapshots, start, chunk)
        living = sum(snapshot.living for snapshot in snapshots)
        yield Family(catalog.TELEMETRY_WORKERS, [NumberPoint((), living, start=start)])
        if any(not snapshot.living and not snapshot.source.head.ledger for snapshot in others):
            yield from self._fold()

    def collect_own(self) -> list[Family]:
        """The points of this process alone, as a push exporter sends them. Any thread."""
        families = list(_joined(self._own_families()))
        for family in families:
            for point in family.points:
                point.worker = None  # the resource says which process this is
        return families

    def _own_families(self) -> Iterator[Family]:
        tables = self._tables
        own = yield from self._snapshot(tables)
        yield from tables.families([own], self.start_time, chunk=500)

    def _snapshot(self, tables: Tables) -> Generator[Family, None, Snapshot]:
        """The numbers of this process, now."""
        name = self._reader.own if self._reader is not None else ""
        with tables.lock:
            source = tables.sources.get(name)
            if source is None:
                source = Source(layout.Head(name, os.getpid(), 0, "", self.start_time))
                tables.sources[name] = source
        for instrument in list(self._instruments.values()):
            items = list(instrument.cells.items())
            while source.read.get(layout.definition(instrument.metric), 0) < len(items):
                self._take_in(source, tables, instrument.metric, items)
                yield _PAUSE
        slots = self._store.slots()
        yield _PAUSE
        return Snapshot(source, True, slots, self._store.exemplars())

    def _take_in(
        self, source: Source, tables: Tables, metric: Metric, items: list[tuple[layout.Key, Any]]
    ) -> None:
        """Note where the next series are: as many as take about a millisecond."""
        with tables.lock:
            table = tables.table(metric)
            known = source.read.get(table.definition, 0)
            some = items[known : known + 500]
            for key, cell in some:
                tables.put(source, table, key, _address(cell))
            source.read[table.definition] = known + len(some)

    def _others(self, tables: Tables) -> Generator[Family, None, tuple[list[Snapshot], bool]]:
        if self._reader is None:
            return [], False
        from restaurant_otel.metrics.folder import UnsafeError

        steps = self._reader.read(tables)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                found: tuple[list[Snapshot], bool] = stop.value
                return found
            except (
                FileNotFoundError,
                UnsafeError,
            ) as error:  # the folder is gone: this process can speak for itself
                _survived(error)
                return [], False
            yield _PAUSE

    def _fold(self) -> Iterator[Family]:
        from restaurant_otel.metrics import workers

        try:
            if self._group is not None:
                for _ in workers.fold(self._group, self.limit * _LEDGER_LIMITS):
                    yield _PAUSE
        except Exception as error:  # noqa: BLE001 - the answer is complete: the dead are folded another time
            _survived(error)

    # --- forks ----------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Let whoever holds the lock finish, so that the child finds nothing half done. Waits a second at most."""
        if self.lock.acquire(timeout=1):
            self._held_by = threading.get_ident()

    def after_fork_in_parent(self) -> None:
        """From now on this process may have siblings."""
        if self._held_by == threading.get_ident():
            self._held_by = None
            self.lock.release()
        if self._group is None:
            self._forked_from = self._forked_from or groups.leader(os.getpid())
            self.attached = False

    def after_fork_in_child(self) -> None:
        """Begin at zero, in memory of its own; every cell that was handed out before the fork goes on."""
        self.lock = threading.RLock()
        self._pid = os.getpid()
        self._held_by = None
        self.attached = False
        self.start_time = time.time()
        self._forked_from = self._forked_from or groups.leader(os.getppid())
        self._reader = None
        self._tables = Tables()
        self._forget_index()
        self._store.start_over(self.lock)
        for instrument in self._instruments.values():
            if instrument.metric.kind is Kind.HISTOGRAM:
                for cell in instrument.cells.values():
                    cell.exemplars = None

    def rejoin(self) -> None:
        """After a fork, in the child: join at once the group that the operator has named.

        Nobody may ever serve a request here.
        """
        if self._group is not None and self._group.leader is None:
            self.attach()


_PAUSE: Final = Family(catalog.TELEMETRY_WORKERS)


def _address(cell: CounterCell | GaugeCell | HistogramCell) -> int:
    before = layout.HISTOGRAM_COUNTS if isinstance(cell, HistogramCell) else 0
    return cell.block.base + cell.at - before


def _joined(pieces: Iterator[Family]) -> Iterator[Family]:
    """Families of one metric that follow each other become one."""
    whole: Family | None = None
    for piece in pieces:
        if whole is not None and piece.metric is whole.metric:
            whole.points.extend(piece.points)
        elif piece.points:
            if whole is not None:
                yield whole
            whole = Family(piece.metric, piece.points)
    if whole is not None:
        yield whole


def _survived(error: Exception) -> None:
    from restaurant_otel.errors import survived  # not above: that module needs this one

    survived("workers", error)


# --- the one that everybody shares -------------------------------------------------------------------

_registry: Registry | None = None
_making = threading.Lock()


def registry() -> Registry:
    """The process's registry, made at the first call. Any thread."""
    global _registry
    if _registry is None:
        with _making:
            if _registry is None:
                _registry = Registry()
        if groups.named_by_operator():
            _registry.attach()  # nobody may ever serve a request here, yet there are siblings
    return _registry


def configure(*, limit: int) -> None:
    """Set the limit of attribute sets a metric. Sets that are bound already stay."""
    registry().limit = limit


# --- forks -------------------------------------------------------------------------------------------

_registries: WeakSet[Registry] = WeakSet()
_hooked = False


def _hook_forks(new: Registry) -> None:
    global _hooked
    _registries.add(new)
    if not _hooked and hasattr(os, "register_at_fork"):
        _hooked = True
        os.register_at_fork(
            before=lambda: _each("before_fork"),
            after_in_parent=lambda: _each("after_fork_in_parent"),
            # All begin anew before one does more: its errors are counted in another, which must not be the parent's.
            after_in_child=lambda: _each("after_fork_in_child", "rejoin"),
        )


def _each(*steps: str) -> None:
    registries = list(_registries)
    for step in steps:
        for each in registries:
            try:
                getattr(each, step)()
            except Exception as error:  # noqa: BLE001 - the fork must go on
                _survived(error)
