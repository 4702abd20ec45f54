"""Shows what is in workers' files: ``python -m restaurant_otel.metrics.inspect [FOLDER | FILE ...]``.

For people who want to know what their workers have written; nothing in the package uses it. It only reads, takes
no part in a group and changes nothing. Without arguments it shows all groups of this user.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from restaurant_otel.metrics import folder, layout
from restaurant_otel.metrics.group import default_root
from restaurant_otel.metrics.layout import UnreadableError
from restaurant_otel.metrics.merge import Snapshot, Table, Tables, points_of
from restaurant_otel.metrics.points import HistogramPoint, Point
from restaurant_otel.metrics.workers import load

_SUFFIX: Final = ".cells"


def main(arguments: Sequence[str]) -> int:
    """Print what is in these files and folders; 1 when one of them cannot be read."""
    status = 0
    everything = Path(default_root(), f"restaurant-otel-{os.geteuid()}")
    for path in [Path(argument) for argument in arguments] or [everything]:
        files = [path] if path.is_file() else sorted(path.rglob(f"*{_SUFFIX}"))
        if not files:
            print(f"{path}: no files of workers")  # noqa: T201 - a program for the terminal
        for file in files:
            try:
                for line in describe(file):
                    print(line)  # noqa: T201
            except (UnreadableError, OSError) as error:
                print(f"{file}\n  cannot be read: {error}")  # noqa: T201
                status = 1
    return status


def describe(file: Path) -> Iterator[str]:
    """The lines that tell what is in a file. Raises `UnreadableError` and OSError."""
    tables = Tables()
    snapshot = _load(file, tables)
    head = snapshot.source.head
    state = "ledger of the dead" if head.ledger else "living worker" if snapshot.living else "dead worker"
    began = datetime.fromtimestamp(head.started, UTC).isoformat(timespec="seconds")
    yield f"{file}"
    yield f"  {state}, process {head.pid}, counting since {began}, layout version {layout.VERSION}"
    if snapshot.source.folded:
        yield f"  holds the counts of {', '.join(sorted(snapshot.source.folded))}"
    everything = Snapshot(snapshot.source, True, snapshot.slots, snapshot.exemplars)
    for table in tables.by_definition.values():
        yield f"  {table.metric.name} ({table.metric.kind.value}, unit {table.metric.unit or 'none'})"
        for point in points_of(table, range(len(table.keys)), [everything], head.started):
            yield f"    {_labels(table, point)}: {_value(point)}"


def _load(file: Path, tables: Tables) -> Snapshot:
    with folder.whatever(str(file.parent)) as place:
        steps = load(place, file.name, tables)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                snapshot: Snapshot = stop.value
                return snapshot


def _labels(table: Table, point: Point) -> str:
    if point.overflow:
        return "{overflow}"
    pairs = zip(table.metric.attributes, point.values, strict=True)
    return "{" + ", ".join(f"{name}={value!r}" for name, value in pairs if value is not None) + "}"


def _value(point: Point) -> str:
    if not isinstance(point, HistogramPoint):
        return f"{point.value:g}"
    text = f"count {point.count}, sum {point.sum:g}, buckets {point.counts}"
    exemplars = [f"{x.value:g} in trace {x.trace_id:032x}" for x in point.exemplars if x is not None]
    return f"{text}, exemplars: {'; '.join(exemplars)}" if exemplars else text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
