"""The file of a worker, byte by byte: what is where, how it is written, how it is read back.

Not here: who the workers are (`group`), how a live file grows (`store`), what the numbers add up to
(`merge`). `store` and `workers` write files by these rules; `workers` and `inspect` read them. The
prose version, for readers in other languages, is ``docs/metrics-core.md``.

A file is a head and then segments, all of whole pages. A segment begins with 32 bytes that say what it
is; there are three sorts:

* slots: 8-byte numbers, addressed through all slot segments of the file laid end to end;
* exemplars: records of 64 bytes, numbered through all exemplar segments laid end to end;
* index: JSON lines that say which metric and which attributes a slot belongs to. Only the first `used`
  bytes count, and `used` is written after them.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final
from zlib import crc32

from restaurant_otel.catalog import Across, Kind, Metric
from restaurant_otel.metrics.points import Exemplar, Value

VERSION: Final = 1
PAGE: Final = max(4096, mmap.ALLOCATIONGRANULARITY)
LARGEST_FILE: Final = 1 << 28
"""A reader passes over anything larger: no worker of ours writes 256 MiB."""

SLOTS: Final = 1
EXEMPLARS: Final = 2
INDEX: Final = 3

SEGMENT_HEAD: Final = 32
SEGMENT_HEAD_SLOTS: Final = SEGMENT_HEAD // 8

RECORD_SHIFT: Final = 6
RECORD: Final = 1 << RECORD_SHIFT
"""Bytes of an exemplar's record. Record 0 is always a segment's head, so that 0 can mean "none"."""

_MAGIC: Final = b"restotel"
_HEAD: Final = struct.Struct("=8sIII")  # magic, version, length and checksum of the JSON that follows
_SEGMENT: Final = struct.Struct("=IIIIQQ")  # kind, size, checksum of these two, reserved, used, reserved
_SEGMENT_NAMES: Final = struct.Struct("=II")
_USED_AT: Final = 16
_USED: Final = struct.Struct("=Q")

MOST_RECORDS: Final = 1 << 22

EXEMPLAR_LINK: Final = struct.Struct("=II")  # bucket, next record of the same histogram
EXEMPLAR_BODY: Final = struct.Struct("=dd16sQ")  # value, seconds since the epoch, trace id, span id
EXEMPLAR_SEALED: Final = struct.Struct("=II40s")  # checksum of the body, reserved, body
EXEMPLAR_SEALED_AT: Final = EXEMPLAR_LINK.size

Key = tuple[Value, ...] | None
"""A series' attribute values in the order of its metric's attributes; None: the overflow set."""

Definition = tuple[str, Kind, tuple[str, ...], tuple[float, ...]]
"""What makes two metrics the same one: name, kind, attributes, bounds."""


class UnreadableError(Exception):
    """A file that is not what it should be. `reason` is ``torn``, ``foreign`` or ``version``."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Head:
    """Whose file it is. `started`: seconds since the epoch, when its counting began."""

    id: str
    pid: int
    start: int
    boot: str
    started: float
    ledger: bool = False

    def to_bytes(self) -> bytes:
        """A page."""
        text = json.dumps(asdict(self)).encode()
        return (_HEAD.pack(_MAGIC, VERSION, len(text), crc32(text)) + text).ljust(PAGE, b"\0")


READ_OFF: Final = frozenset({Kind.GAUGE, Kind.OBSERVED_COUNTER})
"""The kinds whose number replaces the last one, and can be taken away."""


def definition(metric: Metric) -> Definition:
    """The identity of a metric across processes."""
    return metric.name, metric.kind, metric.attributes, metric.bounds


def series(metric: Metric) -> struct.Struct:
    """The slots of one series.

    A counter has its value; a gauge or observed counter a flag (1: there is a reading) and its value; a histogram the
    number of its first exemplar's record, its sum, and its counts, which are integers where all else is floats.
    """
    if metric.kind is Kind.HISTOGRAM:
        return struct.Struct(f"=dd{len(metric.bounds) + 1}q")
    return _GAUGE if metric.kind in READ_OFF else _COUNTER


def width(metric: Metric) -> int:
    """How many slots that is."""
    return series(metric).size // 8


HISTOGRAM_COUNTS: Final = 2
"""Slots before a histogram's counts."""

_GAUGE: Final = struct.Struct("=dd")
_COUNTER: Final = struct.Struct("=d")

# --- segments ----------------------------------------------------------------------------------------


def segment_head(kind: int, size: int, used: int = 0) -> bytes:
    """The first bytes of a segment of `size` bytes, head included; `used` is for the index only."""
    return _SEGMENT.pack(kind, size, crc32(_SEGMENT_NAMES.pack(kind, size)), 0, used, 0)


def used_field(segment_at: int, used: int) -> tuple[bytes, int]:
    """The bytes that commit `used` bytes of an index segment, and where in the file they go."""
    return _USED.pack(used), segment_at + _USED_AT


def pages(size: int) -> int:
    """`size` rounded up to whole pages."""
    return -(-size // PAGE) * PAGE


Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Contents:
    """A file taken apart: slots and exemplars with their segments' heads, the committed parts of the index."""

    head: Head
    slots: Bytes
    exemplars: Bytes
    index: Sequence[memoryview]

    def index_from(self, start: int) -> bytes:
        """The index from byte `start` on."""
        rest = []
        for part in self.index:
            rest.append(part[start:])
            start = max(0, start - len(part))
        return b"".join(rest)


def take_apart(data: bytes) -> Contents:
    """Read a file's bytes, which are copied no more than necessary. Raises `UnreadableError`."""
    head, position = _read_head(data)
    view = memoryview(data)
    parts: dict[int, list[memoryview]] = {SLOTS: [], EXEMPLARS: [], INDEX: []}
    while position + SEGMENT_HEAD <= len(data):
        kind, size, checksum, _, used, _ = _SEGMENT.unpack_from(data, position)
        if kind == 0:
            break  # room made for a segment that is about to be written
        if checksum != crc32(_SEGMENT_NAMES.pack(kind, size)) or kind not in parts:
            raise UnreadableError("torn", "a segment's head is damaged")
        if size < SEGMENT_HEAD or position + size > len(data) or used > size - SEGMENT_HEAD:
            raise UnreadableError("torn", "a segment is cut short")
        if kind == INDEX:
            parts[INDEX].append(view[position + SEGMENT_HEAD : position + SEGMENT_HEAD + used])
        else:
            parts[kind].append(view[position : position + size])
        position += size
    return Contents(head, _joined(parts[SLOTS]), _joined(parts[EXEMPLARS]), parts[INDEX])


def _joined(parts: list[memoryview]) -> Bytes:
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _read_head(data: bytes) -> tuple[Head, int]:
    if len(data) < PAGE:
        raise UnreadableError("torn", "shorter than its head")
    magic, version, length, checksum = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise UnreadableError("foreign", "not a file of ours")
    if version != VERSION:
        raise UnreadableError("version", f"version {version}, this is {VERSION}")
    text = data[_HEAD.size : _HEAD.size + length]
    if length > PAGE or crc32(text) != checksum:
        raise UnreadableError("torn", "the head is damaged")
    try:
        head = Head(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise UnreadableError("torn", "the head does not make sense") from error
    if not isinstance(head.pid, int) or not isinstance(head.started, int | float):
        raise UnreadableError("torn", "the head does not make sense")
    return head, PAGE


def whole_file(head: Head, slots: Bytes, exemplars: Bytes, index: Iterable[bytes]) -> Iterator[Bytes]:
    """A file that will not grow, in parts: `slots` and `exemplars` begin with room for their segment's head."""
    yield head.to_bytes()
    for kind, content in ((SLOTS, slots), (EXEMPLARS, exemplars)):
        size = pages(len(content))
        yield segment_head(kind, size)
        yield memoryview(content)[SEGMENT_HEAD:]
        yield bytes(size - len(content))
    lines = b"".join(index)
    size = pages(SEGMENT_HEAD + len(lines))
    yield segment_head(INDEX, size, len(lines))
    yield lines
    yield bytes(size - SEGMENT_HEAD - len(lines))


# --- the index ---------------------------------------------------------------------------------------


def metric_line(number: int, metric: Metric) -> bytes:
    """The line that declares a metric; series refer to it by `number`, which counts up from 0."""
    record = {
        "metric": number,
        "name": metric.name,
        "unit": metric.unit,
        "kind": metric.kind.value,
        "help": metric.help,
        "attributes": metric.attributes,
        "bounds": metric.bounds,
        "across": metric.across.value,
    }
    return _line(record)


def series_line(number: int, address: int, key: Key) -> bytes:
    """The line that says whose slots begin at `address`."""
    return _line([number, address, key])


def folded_line(names: Iterable[str]) -> bytes:
    """The ledger's line that names the files whose counts it already holds."""
    return _line({"folded": sorted(names)})


def _line(record: Any) -> bytes:
    # ASCII only: halves of surrogate pairs survive, and no line feed can occur within a line
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def read_lines(index: bytes, batch: int = 1 << 15) -> Iterator[tuple[list[Any], int]]:
    """The records, in batches of about `batch` bytes, each with how many bytes are read by then.

    A batch is parsed by one call, which takes a third of the time that line by line would.
    """
    start = 0
    while start < len(index):
        end = index.find(b"\n", min(start + batch, len(index) - 1)) + 1
        if end == 0:
            raise UnreadableError("torn", "the index ends within a line")
        try:
            records = json.loads(b"[" + index[start : end - 1].replace(b"\n", b",") + b"]")
        except (ValueError, RecursionError) as error:
            raise UnreadableError("torn", "the index is not JSON lines") from error
        yield records, end
        start = end


def read_metric(record: Any) -> Metric:
    """A metric from its line; raises `UnreadableError`."""
    try:
        metric = Metric(
            str(record["name"]),
            str(record["unit"]),
            Kind(record["kind"]),
            str(record["help"]),
            tuple(str(name) for name in record["attributes"]),
            tuple(float(bound) for bound in record["bounds"]),
            Across(record["across"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableError("torn", "a metric's line does not make sense") from error
    return metric


# --- exemplars ---------------------------------------------------------------------------------------


def read_exemplars(records: Bytes, first: int, into: list[Exemplar | None]) -> None:
    """Put the exemplars of the chain that begins with record `first` into `into`, one place a bucket.

    Where both have one the newer stays. A record caught halfway through being written is passed over.
    """
    number = first
    for _ in range(len(into)):  # a chain has a record a bucket at most: a damaged one must not go round
        at = number << RECORD_SHIFT
        if number <= 0 or at + RECORD > len(records):
            return
        bucket, number = EXEMPLAR_LINK.unpack_from(records, at)
        checksum, _, body = EXEMPLAR_SEALED.unpack_from(records, at + EXEMPLAR_SEALED_AT)
        if bucket < len(into) and crc32(body) == checksum:
            value, timestamp, trace_id, span_id = EXEMPLAR_BODY.unpack(body)
            present = into[bucket]
            if present is None or present.timestamp < timestamp:
                into[bucket] = Exemplar(value, timestamp, int.from_bytes(trace_id, "big"), span_id)
