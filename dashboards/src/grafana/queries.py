"""PromQL that several dashboards share, over raw series so that it follows every variable; names from the catalogue."""

from __future__ import annotations

from typing import Final

from dashboards.src.grafana.panels import ON
from restaurant_otel import catalog
from restaurant_otel.catalog import Metric
from restaurant_otel.rules.options import name_of

HTTP: Final = name_of(catalog.HTTP_SERVER_REQUEST_DURATION)
DB: Final = name_of(catalog.DB_CLIENT_OPERATION_DURATION)

FAILED: Final = 'http_response_status_code=~"5.."'


def series(metric: Metric | str, *matchers: str, end: str = "") -> str:
    """A selector of what the variables select: ``name_end{job=..., instance=..., matchers}``."""
    name = metric if isinstance(metric, str) else name_of(metric)
    return f"{name}{end}{{{', '.join((ON, *matchers))}}}"


def rate(metric: Metric | str, *matchers: str, end: str = "") -> str:
    """The rate of a counter, or with `end` of a part of a histogram, over Grafana's interval."""
    return f"rate({series(metric, *matchers, end=end)}[$__rate_interval])"


def total(metric: Metric | str, by: str, *matchers: str, end: str = "") -> str:
    """Rates, summed by labels (``""``: all into one)."""
    return f"sum by ({by}) ({rate(metric, *matchers, end=end)})"


def mean(metric: Metric | str, by: str, *matchers: str) -> str:
    """A histogram's mean."""
    return f"{total(metric, by, *matchers, end='_sum')} / {total(metric, by, *matchers, end='_count')}"


def quantile(share: float, metric: Metric | str, by: str, *matchers: str) -> str:
    """A histogram's quantile."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share:g}, {total(metric, labels, *matchers, end='_bucket')})"


def ratio(part: str, whole: str) -> str:
    """A share of two sums by the same labels: 0 where there is a whole and no part."""
    return f"({part} or {whole} * 0) / {whole}"


def busiest(count: int, query: str, by: str, metric: Metric | str, *matchers: str, end: str = "") -> str:
    """`query`, of the label values that grow most over the whole time shown: the same at every moment."""
    grown = f"sum by ({by}) (increase({series(metric, *matchers, end=end)}[$__range] @ end()))"
    return f"({query}) and on ({by}) topk({count}, {grown})"
