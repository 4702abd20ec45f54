"""What is good enough: each objective, once.

The score (`restaurant_otel.scoring`), the recording rules, the alerts, the dashboards and the tables of the
documentation are made from these. A component's score falls in a straight line from 100 at its `objective` to 0
at its `limit`, whichever of the two is the larger number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Objective:
    """One component of the score.

    `unit` is ``"1"`` for shares and ``"s"`` for times, of `objective` and `limit` alike. `window` is what a value is
    measured over, in Prometheus's words. Below `minimum` events in the window (requests, lookups) there is no value:
    a share of three requests says nothing. A `critical` component caps the total. `metric` names what it is read from.
    For times of requests, `routes` are the only ones looked at, where given, and `exclude_routes` never are.
    """

    component: str
    explain: str
    metric: str
    unit: str
    objective: float
    limit: float
    weight: float
    critical: bool = False
    minimum: float = 0
    window: str = "5m"
    routes: tuple[str, ...] = ()
    exclude_routes: tuple[str, ...] = ()

    @property
    def higher_is_better(self) -> bool:
        """Whether the objective lies above the limit."""
        return self.objective > self.limit


COMPONENTS: Final = (
    Objective(
        "availability",
        "Share of the last hour's requests that the server did not fail.",
        "http.server.request.duration",
        "1",
        0.999,
        0.99,
        20,
        critical=True,
        minimum=60,
        window="1h",
    ),
    Objective(
        "errors",
        "Share of the last five minutes' requests that the server failed: status 5xx, or an exception.",
        "http.server.request.duration",
        "1",
        0.01,
        0.05,
        20,
        critical=True,
        minimum=20,
    ),
    Objective("api", "Mean time of a request.", "http.server.request.duration", "s", 0.2, 0.8, 20),
    Objective(
        "database", "Mean time of a statement.", "db.client.operation.duration", "s", 0.1, 0.4, 12, minimum=1
    ),
    Objective(
        "page",
        "Time that the slowest tenth of the page loads exceeds: GET requests of routes that answer with HTML.",
        "http.server.request.duration",
        "s",
        2.0,
        8.0,
        8,
    ),
    Objective(
        "cache",
        "Share of cache lookups that were answered, stale values included.",
        "restaurant.cache.hits",
        "1",
        0.85,
        0.5,
        8,
        minimum=20,
    ),
    Objective(
        "cpu",
        "Mean share of the CPU that may be used, of all hosts.",
        "restaurant.cpu.utilization",
        "1",
        0.3,
        0.9,
        6,
    ),
    Objective(
        "memory",
        "Share of the memory that may be used, on the host where it is highest.",
        "restaurant.memory.utilization",
        "1",
        0.7,
        0.95,
        6,
    ),
)
"""The components, as the score lists them."""


@dataclass(frozen=True, slots=True)
class Slo:
    """A service level objective: `target` of the requests are good.

    Good is not failed by the server, and for `latency` also answered within `seconds`, which must be a bound of
    `catalog.SECONDS`. Below `minimum` requests in a window its burn rate says nothing.
    """

    name: str
    explain: str
    target: float
    seconds: float | None = None
    minimum: float = 60


SLOS: Final = (
    Slo("availability", "Requests that the server did not fail.", 0.999),
    Slo("latency", "Requests that were answered, within 0.2 s.", 0.95, seconds=0.2),
)


@dataclass(frozen=True, slots=True)
class Objectives:
    """Everything a score and its rules are made from.

    Less than `coverage` of the weights present: no score. At `good` and above the band is good, at `fair` and above
    it is fair, below it is poor.
    """

    components: tuple[Objective, ...] = COMPONENTS
    slos: tuple[Slo, ...] = SLOS
    coverage: float = 0.5
    good: float = 90.0
    fair: float = 60.0

    def __getitem__(self, component: str) -> Objective:
        """The objective of a component; KeyError if there is none."""
        for objective in self.components:
            if objective.component == component:
                return objective
        raise KeyError(component)

    def with_component(self, component: str, **changes: object) -> Objectives:
        """The same, but for fields of one component."""
        changed = tuple(
            replace(each, **changes) if each.component == component else each  # type: ignore[arg-type]
            for each in self.components
        )
        return replace(self, components=changed)


DEFAULT_OBJECTIVES: Final = Objectives()
