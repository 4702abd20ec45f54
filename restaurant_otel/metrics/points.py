"""What was measured, as plain data: the form in which every reader gets it.

`registry.collect()` yields `Family` objects; the exposition, the OTLP export, the score and the command
line read them. Nothing here knows where the numbers are stored or how they are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from restaurant_otel.catalog import Metric

Value: TypeAlias = str | int | float | bool | None
"""An attribute's value; None where the attribute is absent from the set."""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One sampled measurement: its value, when (seconds since the epoch), and whose trace."""

    value: float
    timestamp: float
    trace_id: int
    span_id: int


@dataclass(slots=True)
class NumberPoint:
    """A counter's, up-down counter's or gauge's value for one attribute set.

    `values` go with the metric's `attributes`, in order; `worker` is the process id as text where the
    metric is kept per worker, otherwise None; `start` is seconds since the epoch, when counting began.
    `overflow` marks the one set that stands for all those over the limit.
    """

    values: tuple[Value, ...]
    value: float
    worker: str | None = None
    start: float = 0.0
    overflow: bool = False


@dataclass(slots=True)
class HistogramPoint:
    """A histogram for one attribute set: `counts` per bucket (not cumulative), one more than `bounds`."""

    values: tuple[Value, ...]
    counts: list[int]
    sum: float
    exemplars: Sequence[Exemplar | None] = ()
    worker: str | None = None
    start: float = 0.0
    overflow: bool = False

    @property
    def count(self) -> int:
        """All measurements."""
        return sum(self.counts)


Point: TypeAlias = NumberPoint | HistogramPoint


@dataclass(slots=True)
class Family:
    """One metric and its points."""

    metric: Metric
    points: list[Point] = field(default_factory=list)
