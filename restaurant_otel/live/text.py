"""The text of /metrics, back into families of points: what an app told Prometheus, as its own registry would tell it.

Only metrics of the catalogue, and of those only what this version knows; whatever else there is, is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from restaurant_otel import catalog
from restaurant_otel.catalog import Kind, Metric, prometheus_label
from restaurant_otel.metrics.points import Family, HistogramPoint, NumberPoint, Value

_BY_NAME: Final = {metric.prometheus_name: metric for metric in catalog.METRICS}
_WHOLE_NUMBERS: Final = ("http.response.status_code",)


def families(text: str) -> list[Family]:
    """The families in `text`. Raises ValueError where it is not Prometheus's text."""
    found = []
    for told in text_string_to_metric_families(text):
        metric = _BY_NAME.get(told.name) or _BY_NAME.get(told.name.removesuffix("_total"))
        if metric is not None:
            points = (
                _histograms(metric, told.samples)
                if metric.kind is Kind.HISTOGRAM
                else _numbers(metric, told.samples)
            )
            found.append(Family(metric, list(points)))
    return found


def service(text: str) -> str:
    """The service's name in ``target_info``; nothing where it has none."""
    for line in text.splitlines():
        if line.startswith("target_info{"):
            for told in text_string_to_metric_families(line + "\n"):
                return str(told.samples[0].labels.get("service_name", ""))
    return ""


def _values(metric: Metric, labels: dict[str, str]) -> tuple[Value, ...]:
    values: list[Value] = []
    for name in metric.attributes:
        value: Value = labels.get(prometheus_label(name))
        if name in _WHOLE_NUMBERS and isinstance(value, str) and value.isdigit():
            value = int(value)
        values.append(value)
    return tuple(values)


def _numbers(metric: Metric, samples: Iterable[Any]) -> Iterable[NumberPoint]:
    for sample in samples:
        if not sample.name.endswith("_created"):
            overflow = sample.labels.get("otel_metric_overflow") == "true"
            yield NumberPoint(_values(metric, sample.labels), sample.value, overflow=overflow)


def _histograms(metric: Metric, samples: Iterable[Any]) -> Iterable[HistogramPoint]:
    buckets: dict[tuple[Any, ...], dict[float, int]] = {}
    sums: dict[tuple[Any, ...], float] = {}
    for sample in samples:
        overflow = sample.labels.get("otel_metric_overflow") == "true"
        key = (_values(metric, sample.labels), overflow)
        if sample.name.endswith("_bucket"):
            buckets.setdefault(key, {})[float(sample.labels["le"])] = int(sample.value)
        elif sample.name.endswith("_sum"):
            sums[key] = sample.value
    for key, bucket in buckets.items():
        cumulative = [bucket[bound] for bound in sorted(bucket)]
        if sorted(bucket)[:-1] == list(metric.bounds):  # else another version's buckets
            counts = [now - before for now, before in zip(cumulative, [0, *cumulative], strict=False)]
            yield HistogramPoint(key[0], counts, sums.get(key, 0.0), overflow=key[1])
