"""Alerts about what is known at all: targets, the telemetry itself, the score and what it lacks."""

from __future__ import annotations

from collections.abc import Iterator

from restaurant_otel import catalog
from restaurant_otel.rules.alerts.model import CRITICAL, INFO, PERCENT, VALUE, WARNING, Alert, where
from restaurant_otel.rules.expressions import grown
from restaurant_otel.rules.options import Options, name_of, number


def telemetry(o: Options) -> Iterator[Alert]:
    """Of targets and of the telemetry."""
    instance = where("instance")
    known = f"last_over_time({o.series(name_of(catalog.TELEMETRY_WORKERS))}[{o.time('1d')}])"
    labels = o.labels("instance")
    yield Alert(
        "TargetDown",
        CRITICAL,
        "overview",
        "target-down",
        f"up == 0\nand on ({labels}) group by ({labels}) ({known})",
        "2m",
        f"{instance} ({{service}}) does not answer",
        f"Prometheus has not been able to read /metrics of {instance} ({{service}}) for two minutes. The app is down, "
        "too busy to answer, or its endpoint has become unreachable.",
    )
    for name, metric, what in (
        ("SpansDropped", catalog.TELEMETRY_SPANS_DROPPED, "spans"),
        ("MetricsDropped", catalog.TELEMETRY_METRICS_DROPPED, "metric points"),
    ):
        yield Alert(
            name,
            WARNING,
            "overview",
            "telemetry-dropped",
            f"{grown(o, name_of(metric), '15m')} > 0",
            "10m",
            f"{{service}} loses {what}",
            f"{{service}} could not deliver {VALUE} {what} in 15 minutes: the collector is away, slow, "
            "or refuses them. Requests are not affected.",
        )
    yield Alert(
        "TelemetryErrors",
        INFO,
        "overview",
        "telemetry-dropped",
        f"{grown(o, name_of(catalog.TELEMETRY_ERRORS), '15m', 'restaurant_telemetry_part')} > 0",
        "0s",
        "The instrumentation of {service} survives errors of its own",
        f"{VALUE} errors in 15 minutes in the part {where('restaurant_telemetry_part')}. The app is "
        "not affected; the first one is in its log, with a traceback.",
    )
    yield Alert(
        "SeriesOverflow",
        WARNING,
        "overview",
        "series-overflow",
        f"{grown(o, name_of(catalog.TELEMETRY_OVERFLOW), '1h', 'restaurant_metric_name')} > 0",
        "0s",
        f"{where('restaurant_metric_name')} of {{service}} has too many series",
        f"{where('restaurant_metric_name')} has reached its limit of label sets in {{service}}: "
        f"{VALUE} further ones in an hour were added to one series, and cannot be told apart.",
    )


def score(o: Options) -> Iterator[Alert]:
    """Of the score."""
    good, fair = number(o.objectives.good), number(o.objectives.fair)
    yield Alert(
        "ScoreFair",
        INFO,
        "overview",
        "score",
        f"service:performance_score < {good} >= {fair}",
        "15m",
        "{service} could do better",
        f"The score of {{service}} is {VALUE} of 100; {good} is good. The overview ranks what would help.",
    )
    yield Alert(
        "ScorePoor",
        WARNING,
        "overview",
        "score",
        f"service:performance_score < {fair}",
        "10m",
        "{service} does poorly",
        f"The score of {{service}} is {VALUE} of 100, below {fair}. The overview ranks what would help.",
    )
    least = number(o.objectives.coverage)
    unknown = f"service:performance_coverage < {least}"
    up = f"max by ({o.labels()}) ({o.series('up')}) == 1"
    asked = f"{number(o.seconds('1h'))} * service:http_requests:slo_rate1h"
    idle = f"({up} unless on ({o.labels()}) {asked} >= {number(o.objectives['availability'].minimum)})"
    share = f"Only {PERCENT} of what the score of {{service}} is made of is there, "
    share += f"less than {number(o.objectives.coverage * 100)} %."
    yield Alert(
        "DataMissing",
        WARNING,
        "overview",
        "data-missing",
        f"{unknown}\nunless on ({o.labels()}) {idle}",
        "10m",
        "Nobody knows how {service} does",
        f"{share} No data is no good news: it is down, is not scraped, or has just lost its traffic.",
    )
    yield Alert(
        "DataMissing",
        INFO,
        "overview",
        "data-missing",
        f"{unknown}\nand on ({o.labels()}) {idle}",
        "10m",
        "Hardly anybody asks {service} anything",
        f"{share} It is there, and has had too few requests in the last hour.",
    )
