"""Metric values in one form, from the registry of this process or from a scrape's text.

    readings.total("http_server_request_duration_seconds_count", http_route="/items/{id}") == 3

Names and labels are Prometheus's in both cases (counter `_total`; histogram `_bucket`, `_sum`, `_count`),
so a test reads alike in process and over a socket. Asked for a few labels, a reading sums all series that
have them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from restaurant_otel.catalog import METRICS, Kind, Metric, prometheus_label
from restaurant_otel.metrics import Family, HistogramPoint, Point, registry

Labels = frozenset[tuple[str, str]]

_TYPES = {Kind.UP_DOWN_COUNTER: "gauge", Kind.OBSERVED_COUNTER: "counter"}
_OBSERVED = {f"{m.prometheus_name}_total" for m in METRICS if m.kind is Kind.OBSERVED_COUNTER}


@dataclass(frozen=True)
class Readings:
    """Samples by name and labels; `types` by family; `exemplars` by sample, where it carried one."""

    samples: Mapping[str, Mapping[Labels, float]] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    exemplars: Mapping[tuple[str, Labels], Mapping[str, str]] = field(default_factory=dict)

    def series(self, name: str, **labels: str) -> dict[Labels, float]:
        """The series of `name` that carry all of `labels`."""
        wanted = set(labels.items())
        return {key: value for key, value in self.samples.get(name, {}).items() if wanted <= key}

    def total(self, name: str, **labels: str) -> float:
        """Their sum; 0 where there is none."""
        return sum(self.series(name, **labels).values())

    def labels(self, name: str, label: str) -> set[str]:
        """The values that `label` has in the series of `name`."""
        return {dict(key).get(label, "") for key in self.samples.get(name, {})}

    def __sub__(self, earlier: Readings) -> Readings:
        """What was added since `earlier`; series that did not change are left out."""
        changes: dict[str, dict[Labels, float]] = {}
        for name, key, value in self:
            if change := value - earlier.samples.get(name, {}).get(key, 0.0):
                changes.setdefault(name, {})[key] = change
        return Readings(changes, self.types, self.exemplars)

    def __iter__(self) -> Iterator[tuple[str, Labels, float]]:
        for name, series in self.samples.items():
            for key, value in series.items():
                yield name, key, value

    def went_back(self, earlier: Readings) -> list[str]:
        """The counters (histogram parts included) that are below or missing against `earlier`, as text."""
        found = []
        for name, key, before in earlier:
            if not earlier.is_cumulative(name):
                continue
            now = self.samples.get(name, {}).get(key)
            if now is None and name in _OBSERVED:
                continue  # whoever read it off the system has gone
            if now is None or now < before - 1e-9 * abs(before):
                found.append(f"{name}{dict(key)}: {before} -> {now}")
        return found

    def is_cumulative(self, sample: str) -> bool:
        """Whether a sample of this name may only grow."""
        if self.types.get(sample) in ("gauge", "info", "unknown"):
            return False
        family, _, suffix = sample.rpartition("_")
        kind = self.types.get(family) or self.types.get(sample, "")
        return (kind == "counter" and suffix == "total") or (
            kind == "histogram" and suffix in ("bucket", "sum", "count")
        )


def parse(text: str, content_type: str = "") -> Readings:
    """A scrape's text, through prometheus_client's own parser (strict for OpenMetrics)."""
    openmetrics = "openmetrics" in content_type or text.endswith("# EOF\n")
    samples: dict[str, dict[Labels, float]] = {}
    types: dict[str, str] = {}
    exemplars: dict[tuple[str, Labels], Mapping[str, str]] = {}
    for family in (parse_openmetrics if openmetrics else parse_text)(text):
        types[family.name] = family.type
        for sample in family.samples:
            key = frozenset((n, _bound(v) if n == "le" else v) for n, v in sample.labels.items())
            series = samples.setdefault(sample.name, {})
            assert key not in series, f"two samples of {sample.name}{sample.labels}"
            series[key] = sample.value
            if sample.exemplar is not None:
                exemplars[sample.name, key] = sample.exemplar.labels
    return Readings(samples, types, exemplars)


def skim(text: str) -> Readings:
    """The same samples and types from an OpenMetrics text, unchecked and without exemplars, at a tenth of the cost.

    For who looks many times a second; `parse` is for who looks closely.
    """
    samples: dict[str, dict[Labels, float]] = {}
    types: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            types[name] = kind
        elif not line.startswith("#"):
            series, _, value = line.partition(" # {")[0].rpartition(" ")
            name, key = _series(series)
            samples.setdefault(name, {})[key] = float(value)
    return Readings(samples, types)


@lru_cache(maxsize=20_000)
def _series(text: str) -> tuple[str, Labels]:
    name, _, labels = text.partition("{")
    pairs = re.findall(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"', labels)
    plain = [(n, re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), v)) for n, v in pairs]
    return name, frozenset((n, _bound(v) if n == "le" else v) for n, v in plain)


def _bound(text: str) -> str:
    """A bucket's bound. Servers and clients spell it differently (1048576.0, 1.048576e+06): here as Python does."""
    return text if text == "+Inf" else str(float(text))


def read_registry() -> Readings:
    """The registry of this process, with its siblings' numbers where it has any."""
    return from_families(registry().collect())


class Gained:
    """What the registry of this process has gained since this was made: `gained()`, as often as one likes.

    The same as ``read_registry() - before``, for less: by the end of a run there are thousands of series, of which a
    test changes a few. Only those are put into a reading.
    """

    def __init__(self) -> None:
        self._before = {
            _identity(family.metric, point): point
            for family in registry().collect()
            for point in family.points
        }

    def __call__(self) -> Readings:
        now, before = [], []
        for family in registry().collect():
            pairs = [(point, self._before.get(_identity(family.metric, point))) for point in family.points]
            changed = [(point, earlier) for point, earlier in pairs if _amount(point) != _amount(earlier)]
            now.append(Family(family.metric, [point for point, _ in changed]))
            before.append(Family(family.metric, [earlier for _, earlier in changed if earlier is not None]))
        return from_families(now) - from_families(before)


def _identity(metric: Metric, point: Point) -> tuple[object, ...]:
    return metric.name, metric.attributes, metric.bounds, point.values, point.worker, point.overflow


def _amount(point: Point | None) -> object:
    return (point.sum, point.counts) if isinstance(point, HistogramPoint) else point and point.value


def from_families(families: list[Family]) -> Readings:
    """Collected families in Prometheus's names."""
    samples: dict[str, dict[Labels, float]] = {}
    types: dict[str, str] = {}
    exemplars: dict[tuple[str, Labels], Mapping[str, str]] = {}
    for family in families:
        metric, name = family.metric, family.metric.prometheus_name
        types[name] = _TYPES.get(metric.kind, metric.kind.value)
        for point in family.points:
            labels = {
                prometheus_label(n): _text(v)
                for n, v in zip(metric.attributes, point.values, strict=True)
                if v is not None
            }
            if point.worker is not None:
                labels["worker"] = point.worker
            if point.overflow:
                labels["otel_metric_overflow"] = "true"
            key = frozenset(labels.items())
            if isinstance(point, HistogramPoint):
                samples.setdefault(f"{name}_count", {})[key] = point.count
                samples.setdefault(f"{name}_sum", {})[key] = point.sum
                bounds = [*map(str, metric.bounds), "+Inf"]
                held = [*point.exemplars, *[None] * (len(bounds) - len(point.exemplars))]
                for le, count, exemplar in zip(bounds, accumulate(point.counts), held, strict=True):
                    bucket = key | {("le", le)}
                    samples.setdefault(f"{name}_bucket", {})[bucket] = count
                    if exemplar is not None:
                        exemplars[f"{name}_bucket", bucket] = {
                            "trace_id": f"{exemplar.trace_id:032x}",
                            "span_id": f"{exemplar.span_id:016x}",
                        }
            elif metric.kind in (Kind.COUNTER, Kind.OBSERVED_COUNTER):
                samples.setdefault(f"{name}_total", {})[key] = point.value
            else:
                samples.setdefault(name, {})[key] = point.value
    return Readings(samples, types, exemplars)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
