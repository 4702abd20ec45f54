"""What the app's /metrics says, as the few figures a person watches: by route, and over all.

`read` makes `Figures` of a scrape; the difference of two tells what happened between them. Used by the
demo; knows the metrics by their names in Prometheus, as any other reader of /metrics has to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

NO_ROUTE = "(no route)"
"""Stands for all requests that matched no route."""


@dataclass(slots=True)
class Tally:
    """Requests or queries: how many, how many failed, how long all took together (s), and their spread.

    `buckets` counts, by upper bound in seconds, what took that long or less.
    """

    count: float = 0
    errors: float = 0
    seconds: float = 0
    buckets: dict[float, float] = field(default_factory=dict)

    def __sub__(self, earlier: Tally) -> Tally:
        buckets = {bound: n - earlier.buckets.get(bound, 0) for bound, n in self.buckets.items()}
        return Tally(
            self.count - earlier.count, self.errors - earlier.errors, self.seconds - earlier.seconds, buckets
        )

    def __add__(self, other: Tally) -> Tally:
        bounds = self.buckets | other.buckets
        buckets = {bound: self.buckets.get(bound, 0) + other.buckets.get(bound, 0) for bound in bounds}
        return Tally(
            self.count + other.count, self.errors + other.errors, self.seconds + other.seconds, buckets
        )

    @property
    def mean(self) -> float:
        """Seconds one took on average; NaN where there was none."""
        return self.seconds / self.count if self.count else math.nan

    @property
    def error_share(self) -> float:
        """The share that failed; NaN where there was none."""
        return self.errors / self.count if self.count else math.nan

    def quantile(self, share: float) -> float:
        """Seconds within which this share of all ended, read between bucket bounds as Prometheus does it.

        The highest finite bound where it lies beyond that; NaN where there was nothing.
        """
        rank = share * self.buckets.get(math.inf, 0)
        lower, below = 0.0, 0.0
        for bound, count in sorted(self.buckets.items()):
            if count >= rank and count > below:
                if math.isinf(bound):
                    return lower
                return lower + (bound - lower) * (rank - below) / (count - below)
            lower, below = bound, count
        return math.nan


@dataclass(slots=True)
class Figures:
    """All figures at one moment (`at`: seconds of a monotonic clock), or between two (`at`: how long)."""

    at: float
    requests: dict[str, Tally] = field(default_factory=dict)
    """HTTP requests by route."""
    queries: dict[str, Tally] = field(default_factory=dict)
    """SQL statements by the route that asked."""
    active: float = 0
    """Requests in flight."""
    answered: float = 0
    """Look-ups that the cache answered, out-of-date values included."""
    missed: float = 0
    """Look-ups that it did not answer."""

    def __sub__(self, earlier: Figures) -> Figures:
        return Figures(
            self.at - earlier.at,
            {route: tally - earlier.requests.get(route, Tally()) for route, tally in self.requests.items()},
            {route: tally - earlier.queries.get(route, Tally()) for route, tally in self.queries.items()},
            self.active,
            self.answered - earlier.answered,
            self.missed - earlier.missed,
        )

    @property
    def all_requests(self) -> Tally:
        """Requests of all routes."""
        return sum(self.requests.values(), Tally())

    @property
    def all_queries(self) -> Tally:
        """Queries of all routes, and of no request."""
        return sum(self.queries.values(), Tally())

    @property
    def hit_ratio(self) -> float:
        """The share of look-ups that the cache answered; NaN where there was none."""
        lookups = self.answered + self.missed
        return self.answered / lookups if lookups else math.nan

    def queries_each(self, route: str) -> float:
        """Queries that one request to this route made on average; NaN where there was no request."""
        requests = self.requests.get(route, Tally()).count
        return self.queries.get(route, Tally()).count / requests if requests else math.nan


def read(scrape: str, content_type: str, at: float) -> Figures:
    """The figures in a scrape's text; ValueError where it cannot be read."""
    figures = Figures(at)
    for family in (parse_openmetrics if "openmetrics" in content_type else parse_text)(scrape):
        if family.name == "http_server_request_duration_seconds":
            _add(family, figures.requests)
        elif family.name == "db_client_operation_duration_seconds":
            _add(family, figures.queries)
        elif family.name == "http_server_active_requests":
            figures.active = _sum(family)
        elif family.name in ("restaurant_cache_hits", "restaurant_cache_stale"):
            figures.answered += _sum(family)
        elif family.name == "restaurant_cache_misses":
            figures.missed += _sum(family)
    return figures


def _sum(family: Metric) -> float:
    """Of all series, the times at which counters began left out."""
    return sum(sample.value for sample in family.samples if not sample.name.endswith("_created"))


def _add(family: Metric, tallies: dict[str, Tally]) -> None:
    for sample in family.samples:
        labels = sample.labels
        tally = tallies.setdefault(labels.get("http_route") or NO_ROUTE, Tally())
        if sample.name.endswith("_bucket"):
            bound = float(labels["le"])
            tally.buckets[bound] = tally.buckets.get(bound, 0) + sample.value
        elif sample.name.endswith("_sum"):
            tally.seconds += sample.value
        elif sample.name.endswith("_count"):
            tally.count += sample.value
            if labels.get("http_response_status_code", "").startswith("5"):
                tally.errors += sample.value
