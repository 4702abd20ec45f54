"""One look at an app, as plain data: what `draw` shows and ``top --json`` prints."""

from __future__ import annotations

from dataclasses import dataclass, field

from restaurant_otel.administration.figures import EndpointFigures, QueryFigures


@dataclass(slots=True)
class Component:
    """A component of the score: points 0-100, None where too little is known."""

    name: str
    points: float | None


@dataclass(slots=True)
class CacheLook:
    """A cache: `hit_ratio` since the start; `redis` closed (in use), half_open, open (away), or none."""

    name: str
    hit_ratio: float | None
    lookups: int
    redis: str


@dataclass(slots=True)
class Look:
    """The app now. Times are seconds, rates a second, ratios 0-1; `window_seconds` 0: figures since the start."""

    service: str
    at: float
    window_seconds: float
    workers: int
    score: float | None
    coverage: float | None
    components: list[Component]
    request_rate: float
    error_ratio: float | None
    mean: float | None
    p95: float | None
    active_requests: float
    query_rate: float
    query_mean: float | None
    cpu: float | None
    memory: float | None
    routes: list[EndpointFigures] = field(default_factory=list)
    queries: list[QueryFigures] = field(default_factory=list)
    caches: list[CacheLook] = field(default_factory=list)
