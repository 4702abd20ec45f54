"""What the workers' cells say about requests: for the admin API and ``restaurant-otel top``.

`Totals` are what was counted since the start; a `Window` is the difference of two of them. `Watch` keeps totals of the
last minutes, and does so only while somebody asks for them.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from restaurant_otel import catalog, forks
from restaurant_otel.errors import survived
from restaurant_otel.metrics.points import Family, HistogramPoint
from restaurant_otel.metrics.registry import registry
from restaurant_otel.sql.book import QueryEntry

STEP: Final = 15.0
"""Seconds between two samples of the watch."""

KEPT: Final = 20
"""Samples, so that the longest window is five minutes."""

_SHORTEST: Final = 5.0
"""Seconds below which two samples tell nothing of a rate: then figures are those since the start."""

_IDLE: Final = 600.0
"""Seconds without a question after which the watch ends."""

_NO_ROUTE: Final = "(no route)"


@dataclass(slots=True)
class Tally:
    """Measurements of one sort: buckets not cumulative, seconds."""

    counts: list[int] = field(default_factory=list)
    sum: float = 0.0
    errors: int = 0

    @property
    def count(self) -> int:
        """All measurements."""
        return sum(self.counts)

    def add(self, counts: Sequence[int], total: float, errors: int) -> None:
        """Add measurements."""
        if not self.counts:
            self.counts = [0] * len(counts)
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, counts, strict=True)]
        self.sum += total
        self.errors += errors

    def less(self, earlier: Tally | None) -> Tally:
        """What has come since `earlier`; all, where that is more than there is (the app has been started anew)."""
        if earlier is None or not earlier.counts or earlier.count > self.count:
            return self
        counts = [max(0, now - then) for now, then in zip(self.counts, earlier.counts, strict=True)]
        return Tally(counts, max(0.0, self.sum - earlier.sum), max(0, self.errors - earlier.errors))

    def quantile(self, share: float, bounds: Sequence[float]) -> float | None:
        """As Prometheus's histogram_quantile: evenly within a bucket, the last bound beyond it; None of nothing."""
        if not self.count:
            return None
        rank, seen, low = share * self.count, 0, 0.0
        for count, high in zip(self.counts, bounds, strict=False):
            if count and seen + count >= rank:
                return low + (high - low) * (rank - seen) / count
            seen, low = seen + count, high
        return bounds[-1]

    def at_most(self, bounds: Sequence[float]) -> float | None:
        """The bound that no measurement was above; None of nothing, and beyond the last bound."""
        highest = max((number for number, count in enumerate(self.counts) if count), default=len(bounds))
        return bounds[highest] if highest < len(bounds) else None


@dataclass(slots=True)
class Totals:
    """What all workers have counted until `time` (seconds that only grow)."""

    time: float
    routes: dict[tuple[str, str], Tally] = field(default_factory=dict)
    """By route and method."""
    queries: Tally = field(default_factory=Tally)
    numbers: dict[str, float] = field(default_factory=dict)
    """Other metrics by name, all their series added up."""

    @property
    def requests(self) -> Tally:
        """All requests."""
        total = Tally()
        for tally in self.routes.values():
            if tally.counts:
                total.add(tally.counts, tally.sum, tally.errors)
        return total


REQUEST_BOUNDS: Final = catalog.HTTP_SERVER_REQUEST_DURATION.bounds
QUERY_BOUNDS: Final = catalog.DB_CLIENT_OPERATION_DURATION.bounds

_HIGHEST: Final = {catalog.Across.MAX}


def totals(families: Iterable[Family], now: float) -> Totals:
    """What `families` say."""
    found = Totals(now)
    for family in families:
        if family.metric is catalog.HTTP_SERVER_REQUEST_DURATION or (
            family.metric.name == catalog.HTTP_SERVER_REQUEST_DURATION.name
        ):
            _count_requests(found, family)
        elif family.metric.name == catalog.DB_CLIENT_OPERATION_DURATION.name:
            failure = family.metric.attributes.index("error.type")
            for point in family.points:
                if isinstance(point, HistogramPoint):
                    failed = not point.overflow and point.values[failure] is not None
                    found.queries.add(point.counts, point.sum, point.count if failed else 0)
        else:
            _take_number(found, family)
    return found


def _count_requests(found: Totals, family: Family) -> None:
    names = family.metric.attributes
    method, route = names.index("http.request.method"), names.index("http.route")
    status, failure = names.index("http.response.status_code"), names.index("error.type")
    for point in family.points:
        if not isinstance(point, HistogramPoint):
            continue
        if point.overflow:
            key, failed = ("(others)", ""), False
        else:
            values = point.values
            key = (str(values[route] or _NO_ROUTE), str(values[method] or ""))
            code = values[status]
            failed = (isinstance(code, int) and code >= 500) or (code is None and values[failure] is not None)
        tally = found.routes.setdefault(key, Tally())
        tally.add(point.counts, point.sum, point.count if failed else 0)


def _take_number(found: Totals, family: Family) -> None:
    values = [
        point.value
        for point in family.points
        if not isinstance(point, HistogramPoint) and not math.isnan(point.value)
    ]
    if values:
        highest = family.metric.across in _HIGHEST
        found.numbers[family.metric.name] = max(values) if highest else math.fsum(values)


class Watch:
    """Totals of the last minutes: taken while somebody asks, by a thread that ends when nobody does. Any thread.

    `clock` and `read` are for tests.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        read: Callable[[], Iterable[Family]] = lambda: registry().collect(),
    ) -> None:
        self._clock = clock
        self._read = read
        self._start_over()
        forks.follow(in_child=self._start_over)

    def _start_over(self) -> None:
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._samples: deque[Totals] = deque(maxlen=KEPT + 1)
        self._asked = -math.inf
        self._thread: threading.Thread | None = None

    def window(self) -> list[Totals]:
        """Totals of the last minutes, oldest first, the last of them now. At least one."""
        self._asked = self._clock()
        now = self.sample()
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="restaurant-otel-watch", daemon=True)
                self._thread.start()
            earlier = [sample for sample in self._samples if now.time - sample.time >= _SHORTEST]
        return [*earlier, now]

    def close(self) -> None:
        """Take no more samples until somebody asks again."""
        self._asked = -math.inf
        wake, self._wake = self._wake, threading.Event()
        wake.set()

    def sample(self) -> Totals:
        """Totals now; remembered if the latest are old enough."""
        now = totals(self._read(), self._clock())
        with self._lock:
            if not self._samples or now.time - self._samples[-1].time >= STEP * 0.9:
                self._samples.append(now)
        return now

    def _run(self) -> None:
        while self._clock() - self._asked < _IDLE:
            self._wake.wait(STEP)
            try:
                self.sample()
            except Exception as error:  # noqa: BLE001 - a thread of ours has nobody to raise to
                survived("admin watch", error)
        self._samples.clear()


@dataclass(slots=True)
class Moment:
    """One stretch of a trend: `ago` seconds its end is past; rate in requests a second, times in seconds."""

    ago: float
    rate: float
    mean: float | None
    error_ratio: float | None


@dataclass(slots=True)
class EndpointFigures:
    """One route and method. `count` is since the start; the rest is of the window. Times are seconds.

    `slowest_within` is the upper bound of the slowest request's bucket: no request took longer. None where it is
    beyond the last bucket, or nothing came.
    """

    route: str
    method: str
    count: int
    recent: int
    rate: float
    error_ratio: float | None
    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    slowest_within: float | None
    trend: list[Moment] = field(default_factory=list)


def window_seconds(window: Sequence[Totals]) -> float:
    """How long the window is; 0 for a single look, which counts from the start."""
    return window[-1].time - window[0].time


def endpoints(window: Sequence[Totals], trends: bool = True) -> list[EndpointFigures]:
    """Each route's figures."""
    now = window[-1]
    return [
        _endpoint(route, method, window, trends)
        for (route, method), tally in now.routes.items()
        if tally.count or route == _NO_ROUTE
    ]


def _endpoint(route: str, method: str, window: Sequence[Totals], trends: bool) -> EndpointFigures:
    key = (route, method)
    whole = window[-1].routes[key]
    seconds = window_seconds(window)
    recent = whole.less(window[0].routes.get(key)) if seconds else whole
    if seconds and key not in window[0].routes:
        recent = whole
    return EndpointFigures(
        route=route,
        method=method,
        count=whole.count,
        recent=recent.count,
        rate=recent.count / seconds if seconds else 0.0,
        error_ratio=ratio(recent.errors, recent.count),
        mean=ratio(recent.sum, recent.count),
        p50=recent.quantile(0.5, REQUEST_BOUNDS),
        p95=recent.quantile(0.95, REQUEST_BOUNDS),
        p99=recent.quantile(0.99, REQUEST_BOUNDS),
        slowest_within=recent.at_most(REQUEST_BOUNDS),
        trend=trend([(sample.time, sample.routes.get(key, Tally())) for sample in window]) if trends else [],
    )


def trend(samples: Sequence[tuple[float, Tally]]) -> list[Moment]:
    """What came between each two samples, oldest first."""
    end = samples[-1][0]
    found = []
    for (before, earlier), (after, later) in itertools.pairwise(samples):
        came = later.less(earlier) if earlier.counts else later
        seconds = after - before
        rate = came.count / seconds if seconds > 0 else 0.0
        moment = Moment(end - after, rate, ratio(came.sum, came.count), ratio(came.errors, came.count))
        found.append(moment)
    return found


def ratio(part: float, whole: float) -> float | None:
    """Part of whole; None of nothing."""
    return part / whole if whole else None


@dataclass(slots=True)
class Summary:
    """The app at a glance. Rates are a second, times seconds, ratios 0-1; `window_seconds` 0 means since the start."""

    window_seconds: float
    workers: int
    requests: int
    request_rate: float
    error_ratio: float | None
    mean: float | None
    p95: float | None
    active_requests: float
    queries: int
    query_rate: float
    query_mean: float | None
    query_p95: float | None
    cache_hit_ratio: float | None
    cpu: float | None
    memory: float | None
    slowest: list[EndpointFigures]
    trend: list[Moment]


def summary(window: Sequence[Totals], slowest: int = 5) -> Summary:
    """The whole app."""
    now, first, seconds = window[-1], window[0], window_seconds(window)
    requests = now.requests.less(first.requests) if seconds else now.requests
    queries = now.queries.less(first.queries) if seconds else now.queries
    figures = endpoints(window, trends=False)
    figures.sort(key=lambda one: one.p95 or 0.0, reverse=True)
    numbers = now.numbers
    return Summary(
        window_seconds=seconds,
        workers=int(numbers.get(catalog.TELEMETRY_WORKERS.name, 1)),
        requests=now.requests.count,
        request_rate=requests.count / seconds if seconds else 0.0,
        error_ratio=ratio(requests.errors, requests.count),
        mean=ratio(requests.sum, requests.count),
        p95=requests.quantile(0.95, REQUEST_BOUNDS),
        active_requests=numbers.get(catalog.HTTP_SERVER_ACTIVE_REQUESTS.name, 0.0),
        queries=now.queries.count,
        query_rate=queries.count / seconds if seconds else 0.0,
        query_mean=ratio(queries.sum, queries.count),
        query_p95=queries.quantile(0.95, QUERY_BOUNDS),
        cache_hit_ratio=_hit_ratio(first.numbers if seconds else {}, numbers),
        cpu=numbers.get(catalog.CPU_UTILIZATION.name),
        memory=numbers.get(catalog.MEMORY_UTILIZATION.name),
        slowest=[one for one in figures if one.recent][:slowest],
        trend=trend([(sample.time, sample.requests) for sample in window]),
    )


def _hit_ratio(first: Mapping[str, float], now: Mapping[str, float]) -> float | None:
    def came(metric: catalog.Metric) -> float:
        before, after = first.get(metric.name, 0.0), now.get(metric.name, 0.0)
        return after - before if after >= before else after

    answered = came(catalog.CACHE_HITS) + came(catalog.CACHE_STALE)
    return ratio(answered, answered + came(catalog.CACHE_MISSES))


# --- queries ---


@dataclass(slots=True)
class QueryFigures:
    """One statement since the start, whatever its values. Times are seconds; `routes` are where it was executed."""

    fingerprint: str | None
    summary: str
    calls: int
    total: float
    mean: float | None
    p95: float | None
    routes: list[str]


def query_figures(entries: Iterable[QueryEntry]) -> list[QueryFigures]:
    """The figures of these statements of the query book, in their order."""
    return [
        QueryFigures(
            one.fingerprint,
            one.summary,
            one.calls,
            one.total,
            one.mean,
            one.p95,
            [use.route for use in one.routes if use.route is not None][:20],
        )
        for one in entries
    ]
