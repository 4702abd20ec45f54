"""Before and after by the queries' own histograms: two readings of ``/metrics``, because planner cost is not time.

The first reading, taken before the index is made, tells how long queries took until then; what the second counts more
tells how long they take since. Where the counters went back, the app was restarted, and the second stands for itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from restaurant_otel.sql.advisor.model import AdviseError
from restaurant_otel.sql.book import quantile

METRIC: Final = "restaurant_db_query_duration_seconds"
FINGERPRINT: Final = "restaurant_db_query_fingerprint"


@dataclass(frozen=True, slots=True)
class Change:
    """One statement of all routes: executions, mean and 95th percentile in seconds, before and since."""

    summary: str
    fingerprint: str
    calls_before: float
    mean_before: float
    p95_before: float | None
    calls_after: float
    mean_after: float
    p95_after: float | None


@dataclass(slots=True)
class _Histogram:
    """One statement's, of all routes and workers; `below` counts what was at most as long as each bound."""

    calls: float = 0.0
    seconds: float = 0.0
    below: dict[float, float] = field(default_factory=dict)

    def add(self, sample: Any) -> None:
        """A line of a reading."""
        if sample.name == f"{METRIC}_count":
            self.calls += sample.value
        elif sample.name == f"{METRIC}_sum":
            self.seconds += sample.value
        elif sample.name == f"{METRIC}_bucket":
            bound = float(sample.labels["le"])
            self.below[bound] = self.below.get(bound, 0.0) + sample.value

    def since(self, earlier: _Histogram) -> _Histogram:
        """What came after `earlier`; all of it where it began anew in between."""
        if self.calls < earlier.calls:
            return self
        return _Histogram(
            self.calls - earlier.calls,
            self.seconds - earlier.seconds,
            {bound: count - earlier.below.get(bound, 0.0) for bound, count in self.below.items()},
        )

    @property
    def p95(self) -> float | None:
        """None where there are no buckets."""
        bounds = sorted(self.below)
        heights = [self.below[bound] for bound in bounds]
        counts = [int(high - low) for low, high in zip([0.0, *heights], heights, strict=False)]
        return quantile(bounds[:-1], counts, 0.95) if len(bounds) > 1 else None


def changes(before: str, after: str) -> list[Change]:
    """Statements that both readings know and that ran in between, the one that gained most time first."""
    first, second = _histograms(before), _histograms(after)
    found = []
    for (fingerprint, summary), old in first.items():
        new = second.get((fingerprint, summary), _Histogram()).since(old)
        if old.calls and new.calls:
            means = old.seconds / old.calls, new.seconds / new.calls
            found.append(
                Change(summary, fingerprint, old.calls, means[0], old.p95, new.calls, means[1], new.p95)
            )
    return sorted(found, key=lambda one: (one.mean_after - one.mean_before) * one.calls_after)


def _histograms(reading: str) -> dict[tuple[str, str], _Histogram]:
    found: dict[tuple[str, str], _Histogram] = {}
    try:
        for family in text_string_to_metric_families(reading):
            for sample in family.samples if family.name == METRIC else ():
                key = sample.labels.get(FINGERPRINT, ""), sample.labels.get("db_query_summary", "")
                found.setdefault(key, _Histogram()).add(sample)
    except ValueError:
        raise AdviseError("not a reading of /metrics in Prometheus's text format") from None
    return found
