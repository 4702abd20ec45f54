"""What may differ between sites, and how it is written in PromQL."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from restaurant_otel.catalog import DEFAULT_OBJECTIVES, Metric, Objectives
from restaurant_otel.catalog.metric import Kind

GRAFANA_URL: Final = "http://localhost:3000"
"""Where a Grafana is that runs beside Prometheus and was told nothing else, as in deploy/compose.yaml."""

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Options:
    """How the rules are made.

    `by`: the labels that tell services apart. `selector`: matchers for every series, such as ``env="prod"``.
    `scale` multiplies every window, range and waiting time: tests look at hours in seconds. `grafana_url`: where the
    links of alerts lead; `runbooks_url`: where a site keeps the runbooks as pages, if it does (else Grafana has them).
    """

    objectives: Objectives = field(default_factory=lambda: DEFAULT_OBJECTIVES)
    by: tuple[str, ...] = ("job",)
    selector: str = ""
    scale: float = 1.0
    interval: str = "30s"
    grafana_url: str = GRAFANA_URL
    runbooks_url: str = ""

    def series(self, name: str, *matchers: str) -> str:
        """A selector of raw series: ``name{selector, matchers}``."""
        inside = ", ".join(part for part in (self.selector, *matchers) if part)
        return f"{name}{{{inside}}}" if inside else name

    def labels(self, *more: str) -> str:
        """The labels of a service, and more: ``job, http_route``."""
        return ", ".join((*self.by, *more))

    def time(self, text: str) -> str:
        """A duration such as ``5m``, scaled."""
        return duration(seconds(text) * self.scale) if self.scale != 1 else text

    def step(self) -> str:
        """How often rules are evaluated."""
        return self.interval if self.scale == 1 else "1s"

    def seconds(self, text: str) -> float:
        """The same as a number of seconds."""
        return seconds(text) * self.scale

    def rate(self, name: str, window: str, *matchers: str) -> str:
        """The rate of a counter over a window."""
        return f"rate({self.series(name, *matchers)}[{self.time(window)}])"


def seconds(text: str) -> float:
    """How many seconds a duration in Prometheus's words is: one number and one unit. ValueError for others."""
    match = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text)
    if match is None:
        raise ValueError(f"not a duration such as 30s, 5m or 1h: {text!r}")
    return int(match[1]) * _UNITS[match[2]]


def duration(length: float) -> str:
    """`length` seconds in Prometheus's words; at least a millisecond."""
    for unit in ("d", "h", "m", "s"):
        if length >= _UNITS[unit] and (length / _UNITS[unit]).is_integer():
            return f"{length / _UNITS[unit]:.0f}{unit}"
    return f"{max(1, round(length * 1000))}ms"


def name_of(metric: Metric) -> str:
    """A metric's series in Prometheus; a histogram's without ``_bucket``, ``_sum`` or ``_count``."""
    return metric.prometheus_name + ("_total" if metric.kind in (Kind.COUNTER, Kind.OBSERVED_COUNTER) else "")


def number(value: float) -> str:
    """A number to twelve digits: no noise of floats."""
    return f"{value:.12g}"


def one_of(values: tuple[str, ...]) -> str:
    """A regular expression that matches these values and nothing else, quoted for PromQL."""
    # Not re.escape, which escapes what RE2 has no escape for.
    escaped = (re.sub(r"([.^$*+?()\[\]{}|\\])", r"\\\1", value) for value in values)
    return '"' + "|".join(escaped).replace("\\", "\\\\").replace('"', '\\"') + '"'
