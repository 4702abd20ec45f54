"""The score, as metrics. Every worker works out the same figures, from the numbers of all of them."""

from __future__ import annotations

from typing import Final

from restaurant_otel.catalog.metric import Across, Kind, Metric

_COMPONENT: Final = ("restaurant.performance.component",)

PERFORMANCE_SCORE: Final = Metric(
    "restaurant.performance.score",
    "{point}",
    Kind.GAUGE,
    "How well the app does, 0 to 100; absent where too little is known to tell.",
    across=Across.MAX,
)
PERFORMANCE_COVERAGE: Final = Metric(
    "restaurant.performance.coverage",
    "1",
    Kind.GAUGE,
    "Share of the score's weights for which there is a value.",
    across=Across.MAX,
)
PERFORMANCE_COMPONENT_SCORE: Final = Metric(
    "restaurant.performance.component.score",
    "{point}",
    Kind.GAUGE,
    "A component's score: 100 at its objective, 0 at its limit.",
    _COMPONENT,
    across=Across.MAX,
)
PERFORMANCE_COMPONENT_VALUE: Final = Metric(
    "restaurant.performance.component.value",
    "",
    Kind.GAUGE,
    "What a component's score was made from, in the unit of its objective: a share or seconds.",
    _COMPONENT,
    across=Across.MAX,
)
PERFORMANCE_COMPONENT_WEIGHT: Final = Metric(
    "restaurant.performance.component.weight",
    "{point}",
    Kind.GAUGE,
    "A component's weight in the score; absent where it has no value.",
    _COMPONENT,
    across=Across.MAX,
)
