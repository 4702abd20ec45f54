"""Before and after by the queries' own histograms: two readings of ``/metrics``, because planner cost is not time.

The first reading, taken before the index is made, tells how long queries took until then; what the second counts more
tells how long they take since. Where the counters went back, the app was restarted, and the second stands for itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from restaurant_otel.sql.advisor.model import AdviseError

METRIC: Final = "restaurant_db_query_duration_seconds"
FINGERPRINT: Final = "restaurant_db_query_fingerprint"

Totals = dict[tuple[str, str], tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Change:
    """One statement of one route: executions and mean seconds before, and since."""

    summary: str
    fingerprint: str
    calls_before: float
    mean_before: float
    calls_after: float
    mean_after: float


def changes(before: str, after: str) -> list[Change]:
    """Statements that both readings know and that ran in between, the one that gained most time first."""
    first, second = _totals(before), _totals(after)
    found = []
    for key, (calls, seconds) in first.items():
        more_calls, more_seconds = second.get(key, (0.0, 0.0))
        if more_calls >= calls:
            more_calls, more_seconds = more_calls - calls, more_seconds - seconds
        if calls and more_calls:
            found.append(
                Change(key[1], key[0], calls, seconds / calls, more_calls, more_seconds / more_calls)
            )
    return sorted(found, key=lambda one: (one.mean_after - one.mean_before) * one.calls_after)


def _totals(reading: str) -> Totals:
    found: Totals = {}
    try:
        for family in text_string_to_metric_families(reading):
            for sample in family.samples:
                if sample.name not in {f"{METRIC}_count", f"{METRIC}_sum"}:
                    continue
                key = sample.labels.get(FINGERPRINT, ""), sample.labels.get("db_query_summary", "")
                calls, seconds = found.get(key, (0.0, 0.0))
                if sample.name.endswith("_count"):
                    calls += sample.value
                else:
                    seconds += sample.value
                found[key] = calls, seconds
    except ValueError:
        raise AdviseError("not a reading of /metrics in Prometheus's text format") from None
    return found
