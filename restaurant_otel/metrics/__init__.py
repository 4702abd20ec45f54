"""Numbers in place: cells that cost next to nothing to write, and that add up over all workers.

What the rest of the package uses is named here; `points` says what a reader gets.
"""

from restaurant_otel.metrics.cells import CounterCell, GaugeCell, HistogramCell
from restaurant_otel.metrics.points import Exemplar, Family, HistogramPoint, NumberPoint, Point, Value
from restaurant_otel.metrics.registry import Instrument, Registry, configure, registry

__all__ = [
    "CounterCell",
    "Exemplar",
    "Family",
    "GaugeCell",
    "HistogramCell",
    "HistogramPoint",
    "Instrument",
    "NumberPoint",
    "Point",
    "Registry",
    "Value",
    "configure",
    "registry",
]
