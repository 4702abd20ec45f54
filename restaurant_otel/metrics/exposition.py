"""Points as text for Prometheus: the text format 0.0.4 and OpenMetrics 1.0.0, in pieces.

`negotiate` picks the format from an ``Accept`` header and `render` writes points in it. Nothing here
knows where numbers are stored or how the text travels: `endpoint` calls this for ``/metrics``, the
command line for a look from outside. Protobuf is not spoken: who asks for it gets text.

Whatever the points hold, the output is valid. A metric whose name is already taken by another of a
different type or unit is left out, as is a second series with the same labels; both are counted as
errors of the part ``exposition``.

Sources: https://prometheus.io/docs/instrumenting/exposition_formats/,
https://prometheus.io/docs/specs/om/open_metrics_spec/ and
https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any, Final, TypeAlias

from restaurant_otel import errors
from restaurant_otel.catalog import Kind, Metric, prometheus_label
from restaurant_otel.metrics.points import Exemplar, Family, HistogramPoint, NumberPoint, Point, Value

# --- which format ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Format:
    """What a scraper gets: the ``Content-Type`` to answer with, and whether it is OpenMetrics."""

    content_type: str
    openmetrics: bool


TEXT: Final = Format("text/plain; version=0.0.4; charset=utf-8", openmetrics=False)
OPENMETRICS: Final = Format("application/openmetrics-text; version=1.0.0; charset=utf-8", openmetrics=True)

# The versions that the same text satisfies: OpenMetrics 0.0.1 is what old Prometheus calls its draft, and
# text 1.0.0 adds to 0.0.4 only quoted names, which we never need.
_VERSIONS: Final = {"application/openmetrics-text": ("1.0.0", "0.0.1"), "text/plain": ("0.0.4", "1.0.0")}
_WILDCARDS: Final = ("text/*", "*/*")


def negotiate(accept: str | None) -> Format:
    """The format for an ``Accept`` header; None or one that names nothing we speak gives text 0.0.4.

    A scraper that says how it wants names escaped (``escaping=allow-utf-8``) is told what it gets:
    ``escaping=underscores``, for all our names are made of letters, digits and underscores.
    """
    best, best_quality = TEXT, 0.0
    for media_range in (accept or "").split(","):
        name, _, rest = media_range.partition(";")
        parameters = dict(_parameter(text) for text in rest.split(";") if text)
        quality = _quality(parameters.get("q", "1"))
        if quality > best_quality:
            chosen = _format(name.strip().lower(), parameters)
            if chosen is not None:
                best, best_quality = chosen, quality
    return best


def _parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip().lower(), value.strip().strip('"')


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0.0 <= quality <= 1.0 else 0.0


def _format(name: str, parameters: Mapping[str, str]) -> Format | None:
    if name in _WILDCARDS:
        return TEXT
    versions = _VERSIONS.get(name)
    if versions is None:
        return None
    version = parameters.get("version") or versions[0]
    if version not in versions:
        return None
    escaping = "; escaping=underscores" if "escaping" in parameters else ""
    return Format(
        f"{name}; version={version}; charset=utf-8{escaping}", name == "application/openmetrics-text"
    )


# --- the text ----------------------------------------------------------------------------------------

CHUNK: Final = 250
"""Lines in one piece of output: half a millisecond of work, so that an event loop which gets a turn after
each piece does not feel a scrape."""


def render(
    families: Iterable[Family],
    form: Format = TEXT,
    *,
    target_info: Mapping[str, Any] | None = None,
    created: bool = False,
) -> Iterator[bytes]:
    """Write `families` as UTF-8 text in `form`, in pieces of about `CHUNK` lines.

    Families of one Prometheus name must follow each other; one without points is passed on as an empty
    piece. `target_info` are the resource's attributes;
    `created` adds the time when counting began to counters and histograms, in OpenMetrics only. Any
    thread; the generator belongs to one caller.
    """
    openmetrics = form.openmetrics
    created = created and openmetrics
    texts: list[str] = []
    lines = 0
    taken: set[str] = set()  # all names so far: in one answer none may mean two things
    if target_info:
        texts.append(_target_info(target_info, openmetrics))
        taken.update(("target", "target_info"))
    current: _Shape | None = None
    seen: set[str] = set()  # the labels of the current name
    for family in families:
        if not family.points:
            yield b""  # whoever makes the families pauses in longer work: so may the caller
            continue
        shape = _shape(family.metric)
        if current is not None and shape.name == current.name:
            if (shape.type, shape.unit) != (current.type, current.unit):
                _left_out(f"metric {family.metric.name}: {shape.name} has another type or unit elsewhere")
                continue
        else:
            if not taken.isdisjoint(shape.sample_names):
                _left_out(f"metric {family.metric.name}: another metric has the name {shape.name}")
                continue
            taken.update(shape.sample_names)
            texts.append(shape.header(openmetrics))
            current, seen = shape, set()
        for point in family.points:
            labels = shape.labels(point)
            if labels in seen:
                _left_out(f"a series of metric {family.metric.name}: another has the same labels")
                continue
            seen.add(labels)
            if isinstance(point, HistogramPoint):
                texts.append(shape.histogram(point, labels, openmetrics, created))
                lines += len(point.counts) + 2
            elif point.value == point.value:  # not a number: a reading that was taken away
                texts.append(shape.number(point, labels, created))
                lines += 1
            if lines >= CHUNK:
                yield "".join(texts).encode()
                texts.clear()
                lines = 0
    if openmetrics:
        texts.append("# EOF\n")
    if texts:
        yield "".join(texts).encode()


def _left_out(what: str) -> None:
    errors.survived("exposition", ValueError(f"left out of the exposition: {what}"))


def _target_info(attributes: Mapping[str, Any], openmetrics: bool) -> str:
    names = _label_names(tuple(attributes))
    labels = _label_text(names, tuple(_attribute_value(value) for value in attributes.values()))
    name, kind = ("target", "info") if openmetrics else ("target_info", "gauge")
    return f"# HELP {name} Target metadata\n# TYPE {name} {kind}\ntarget_info{{{labels}}} 1\n"


def _attribute_value(value: Any) -> Value:
    """A resource's attribute, which may be a sequence too, as a label's value."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return json.dumps(value, default=str)


# --- what is the same in every scrape ----------------------------------------------------------------

_LABELS_REMEMBERED: Final = 20_000
"""Attribute sets of a metric whose text is remembered: ten times the default limit of a registry."""

_RESERVED_LABELS: Final = frozenset(("le", "worker", "otel_metric_overflow"))

_TYPES: Final = {
    Kind.COUNTER: "counter",
    Kind.OBSERVED_COUNTER: "counter",
    Kind.UP_DOWN_COUNTER: "gauge",
    Kind.GAUGE: "gauge",
    Kind.HISTOGRAM: "histogram",
}

_LABELS: Final = "\x00"
"""Where the labels go in a histogram's template."""


class _Shape:
    """All of one metric's text that is the same in every scrape, worked out once.

    A histogram with 16 bounds is 19 lines, written by one ``%`` on a template that holds them all. For
    that reason its remembered labels have their ``%`` doubled.
    """

    def __init__(self, metric: Metric) -> None:
        self.type = _TYPES[metric.kind]
        self.name = metric.prometheus_name
        self._sample = self.name
        suffixes: tuple[str, ...] = ()
        if self.type == "counter":
            self.name = self.name.removesuffix("_total")
            self._sample = f"{self.name}_total"
            suffixes = ("_total", "_created")
        elif metric.kind is Kind.HISTOGRAM:
            suffixes = ("_bucket", "_sum", "_count", "_created")
        self.sample_names = (self.name, *(self.name + suffix for suffix in suffixes))
        self.unit = _unit(metric)
        self._help = metric.help
        self._label_names = _label_names(metric.attributes, _RESERVED_LABELS)
        self._remembered: dict[tuple[Value, ...], str] = {}
        self._template = _histogram_template(self.name, metric.bounds, exemplars=False)
        self._exemplar_template = _histogram_template(self.name, metric.bounds, exemplars=True)
        # OpenMetrics allows a sum (and then a count) only where no measurement can be negative.
        self._openmetrics_totals = not metric.bounds or metric.bounds[0] >= 0

    def header(self, openmetrics: bool) -> str:
        """The lines before the first series."""
        name = self.name if openmetrics else self._sample
        text = f"# TYPE {name} {self.type}\n"
        if self._help:
            help_text = _encodable(self._help).replace("\\", r"\\").replace("\n", r"\n")
            if openmetrics:
                help_text = help_text.replace('"', r"\"")
            text = f"# HELP {name} {help_text}\n{text}"
        if openmetrics and self.unit:
            text += f"# UNIT {name} {self.unit}\n"
        return text

    def labels(self, point: Point) -> str:
        """The labels of a point, without braces."""
        if point.overflow:
            text = 'otel_metric_overflow="true"'
        else:
            remembered = self._remembered.get(point.values)
            text = self._remember(point.values) if remembered is None else remembered
        if point.worker is not None:
            return f'{text},worker="{point.worker}"' if text else f'worker="{point.worker}"'
        return text

    def _remember(self, values: tuple[Value, ...]) -> str:
        text = _label_text(self._label_names, values)
        if self.type == "histogram":
            text = text.replace("%", "%%")
        if len(self._remembered) >= _LABELS_REMEMBERED:
            self._remembered.clear()
        self._remembered[values] = text
        return text

    def number(self, point: NumberPoint, labels: str, created: bool) -> str:
        """The lines of a counter's or gauge's point."""
        braced = f"{{{labels}}}" if labels else ""
        text = f"{self._sample}{braced} {_number(point.value)}\n"
        if created and point.start and self.type == "counter":
            text += f"{self.name}_created{braced} {_number(point.start)}\n"
        return text

    def histogram(self, point: HistogramPoint, labels: str, openmetrics: bool, created: bool) -> str:
        """The lines of a histogram's point."""
        name = self.name
        braced = f"{{{labels}}}" if labels else ""
        cumulative = tuple(accumulate(point.counts))
        if openmetrics and any(point.exemplars):
            template = self._exemplar_template
            exemplars = map(_exemplar, point.exemplars)
            arguments = tuple(chain.from_iterable(zip(cumulative, exemplars, strict=True)))
        else:
            template, arguments = self._template, cumulative
        text = template.replace(_LABELS, f"{labels}," if labels else "")
        if self._openmetrics_totals or not openmetrics:
            text += f"{name}_sum{braced} {_number(point.sum)}\n{name}_count{braced} %d\n"
            arguments += (cumulative[-1],)
        if created and point.start:
            text += f"{name}_created{braced} {_number(point.start)}\n"
        return text % arguments


@lru_cache(maxsize=4096)
def _shape(metric: Metric) -> _Shape:
    return _Shape(metric)


def _histogram_template(name: str, bounds: Sequence[float], *, exemplars: bool) -> str:
    value = "%d%s" if exemplars else "%d"
    return "".join(f'{name}_bucket{{{_LABELS}le="{_bound(b)}"}} {value}\n' for b in (*bounds, math.inf))


def _unit(metric: Metric) -> str:
    """The unit in words: what the rules for names append to a name that has none."""
    return replace(metric, name="x").prometheus_name.removeprefix("x").removeprefix("_")


# --- labels and numbers ------------------------------------------------------------------------------

_LabelNames: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]
"""Each label and the places of its values: more than one where several attributes are spelled alike."""


def _label_names(attributes: Sequence[str], reserved: Collection[str] = ()) -> _LabelNames:
    places: dict[str, list[int]] = {}
    for place in sorted(range(len(attributes)), key=lambda place: attributes[place]):
        label = re.sub("^__+", "_", prometheus_label(attributes[place])) or "_"
        places.setdefault(f"exported_{label}" if label in reserved else label, []).append(place)
    in_order = sorted(places.items(), key=lambda item: item[1])
    return tuple((label, tuple(several)) for label, several in in_order)


def _label_text(names: _LabelNames, values: Sequence[Value]) -> str:
    """``a="1",b="2"``, without absent and empty attributes, between which Prometheus sees no difference."""
    pairs = []
    for label, places in names:
        text = ";".join(_text(values[place]) for place in places if values[place] is not None)
        if text:
            escaped = text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
            pairs.append(f'{label}="{escaped}"')
    return ",".join(pairs)


def _text(value: Value) -> str:
    if isinstance(value, str):
        return _encodable(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _encodable(text: str) -> str:
    """`text` without what has no place in an exposition: halves of surrogate pairs and NUL."""
    if text.isascii() and "\x00" not in text:
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", r"\x00")


def _number(value: float) -> str:
    text = repr(value)
    if text[-1] in "fn":  # inf and nan
        return "NaN" if value != value else "+Inf" if value > 0 else "-Inf"
    return text


def _bound(bound: float) -> str:
    """A bucket's bound as Go and OpenMetrics spell it, which is what dashboards compare with.

    From a million on with an exponent: ``1e+06``, ``1.048576e+06``; below with a point: ``10.0``.
    """
    bound = float(bound)
    if not 1e6 <= abs(bound) < 1e16:  # repr has an exponent beyond
        return _number(bound)
    digits, _, exponent = f"{Decimal(repr(bound)).normalize():e}".partition("e")
    return f"{digits}e+{int(exponent):02d}"


def _exemplar(exemplar: Exemplar | None) -> str:
    """63 characters of labels, where OpenMetrics allows 128."""
    if exemplar is None:
        return ""
    ids = f'trace_id="{exemplar.trace_id:032x}",span_id="{exemplar.span_id:016x}"'
    return f" # {{{ids}}} {_number(exemplar.value)} {exemplar.timestamp:.3f}"
