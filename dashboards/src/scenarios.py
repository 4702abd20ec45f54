"""A test for every alert, as promtool reads them: silent before the fault, firing in it, silent after it.

A scenario says how a few series go on while all is well, and how during a fault. Everything else is arithmetic. They
are written to ``dashboards/prometheus/tests/`` so that anybody can run them beside the rules:
``promtool test rules dashboards/prometheus/tests/*.yml``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from restaurant_otel import catalog
from restaurant_otel.catalog import Metric
from restaurant_otel.rules import expressions
from restaurant_otel.rules.alerts import CRITICAL, INFO, WARNING
from restaurant_otel.rules.model import yaml
from restaurant_otel.rules.options import name_of


@dataclass(frozen=True, slots=True)
class Series:
    """One series. A counter grows by `well` or `ill` a minute; a gauge stands there, or moves by `drift` when ill.

    None: the series has no samples then.
    """

    name: str
    well: float | None
    ill: float | None
    gauge: bool = False
    drift: float = 0.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """`alert` of `severity` fires in the fault and not outside of it; those in `silent` (name, severity) never do.

    `before`, `fault`, `after`: how long each lasts, in minutes. `window` picks one of the budgets' alerts. Without
    `fires` nothing of that name may fire at all.
    """

    alert: str
    severity: str
    series: Sequence[Series]
    before: int = 40
    fault: int = 20
    after: int = 20
    window: str = ""
    silent: Sequence[tuple[str, str]] = ()
    fires: bool = True
    why: str = ""


# --- series -----------------------------------------------------------------------------------------------


def series(name: str, **labels: object) -> str:
    """A series of the service that all scenarios are about."""
    every = {"job": "shop", "instance": "shop-1:8000", **labels}
    inside = ", ".join(f'{key}="{value}"' for key, value in every.items())
    return f"{name}{{{inside}}}"


def counter(name: str, well: float, ill: float, **labels: object) -> Series:
    """A counter, by what it gains a minute."""
    return Series(series(name, **labels), well, ill)


def gauge(name: str, well: float | None, ill: float | None, drift: float = 0.0, **labels: object) -> Series:
    """A gauge."""
    return Series(series(name, **labels), well, ill, gauge=True, drift=drift)


def histogram(
    metric: Metric, rate: tuple[float, float], seconds: tuple[float, float], **labels: object
) -> list[Series]:
    """So many measurements a minute of so many seconds, when well and when ill."""
    name = name_of(metric)
    made = []
    for bound in (*metric.bounds, float("inf")):
        within = [n if value <= bound else 0 for n, value in zip(rate, seconds, strict=True)]
        le = "+Inf" if bound == float("inf") else f"{bound:g}"
        made.append(counter(f"{name}_bucket", *within, **labels, le=le))
    total = [n * value for n, value in zip(rate, seconds, strict=True)]
    return [*made, counter(f"{name}_sum", *total, **labels), counter(f"{name}_count", *rate, **labels)]


def requests(
    rate: tuple[float, float] = (120, 120),
    seconds: tuple[float, float] = (0.04, 0.04),
    failed: tuple[float, float] = (0, 0),
    method: str = "GET",
    route: str = "/menu",
) -> list[Series]:
    """Requests a minute, of which `failed` fail."""
    metric = catalog.HTTP_SERVER_REQUEST_DURATION
    answered = (rate[0] - failed[0], rate[1] - failed[1])
    labels = {"http_request_method": method, "http_route": route}
    made = histogram(metric, answered, seconds, **labels, http_response_status_code=200)
    if any(failed):
        error = {"http_response_status_code": 500, "error_type": "KeyError"}
        made += histogram(metric, failed, (0.04, 0.04), **labels, **error)
    return made


def _cache(well: tuple[float, float], ill: tuple[float, float]) -> list[Series]:
    """Hits and misses a minute."""
    labels = {
        "restaurant_cache_name": "menu",
        "restaurant_cache_group": "dish",
        "restaurant_cache_tier": "redis",
    }
    return [
        counter(name_of(metric), well[place], ill[place], **labels)
        for place, metric in enumerate((catalog.CACHE_HITS, catalog.CACHE_MISSES))
    ]


_WORKERS: Final = gauge(name_of(catalog.TELEMETRY_WORKERS), 4, 4)

# --- scenarios --------------------------------------------------------------------------------------------


def scenarios() -> list[Scenario]:
    """All of them, for windows of minutes to an hour."""
    return [
        *_components(),
        *_database(),
        *_cache_and_redis(),
        *_resources(),
        *_telemetry(),
        *_score(),
        _healthy(),
    ]


def long_scenarios() -> list[Scenario]:
    """Those that take hours."""
    return [*_burns(), *_forecasts()]


def _components() -> Iterator[Scenario]:
    page = gauge(name_of(catalog.HTTP_SERVER_PAGE), 1, 1, http_route="/menu")
    database, cpu, memory = (
        catalog.DB_CLIENT_OPERATION_DURATION,
        name_of(catalog.CPU_UTILIZATION),
        name_of(catalog.MEMORY_UTILIZATION),
    )
    mild_and_bad: list[tuple[str, str, Callable[[float], list[Series]], float, float]] = [
        ("ErrorRatioHigh", WARNING, lambda share: requests(failed=(0, 120 * share)), 0.03, 0.2),
        ("RequestsSlow", WARNING, lambda time: requests(seconds=(0.04, time)), 0.4, 3.0),
        ("PagesSlow", WARNING, lambda time: [page, *requests(seconds=(0.04, time))], 4.0, 9.0),
        ("DatabaseSlow", WARNING, lambda time: histogram(database, (60, 60), (0.01, time)), 0.3, 2.0),
        ("CacheHitsLow", WARNING, lambda share: _cache((90, 10), (100 * share, 100 - 100 * share)), 0.7, 0.2),
        ("CpuHigh", INFO, lambda share: [gauge(cpu, 0.1, share)], 0.5, 0.97),
        ("MemoryHigh", INFO, lambda share: [gauge(memory, 0.4, share)], 0.8, 0.97),
    ]
    for name, severity, made, mild, bad in mild_and_bad:
        yield Scenario(name, severity, made(mild), silent=[(name, CRITICAL)], why="beyond the objective")
        yield Scenario(name, CRITICAL, made(bad), why="beyond the limit")
    few = requests(rate=(2, 2), failed=(0, 1))
    yield Scenario("ErrorRatioHigh", CRITICAL, few, fires=False, why="too few requests for a share")
    yield Scenario("RouteMeanSlow", INFO, requests(seconds=(0.04, 0.4)), fault=30)
    yield Scenario("RouteP95Slow", WARNING, requests(seconds=(0.04, 3.0)))


def _database() -> Iterator[Scenario]:
    pair = {"http_route": "/menu", "restaurant_db_relationship": "Menu.dishes"}
    yield Scenario("NPlusOneQueries", INFO, [counter(expressions.N_PLUS_ONE, 0, 10, **pair)], after=30)
    pool = {"db_client_connection_pool_name": "main"}
    used = gauge(expressions.POOL_COUNT, 2, 19, **pool, db_client_connection_state="used")
    most = gauge(expressions.POOL_MAX, 20, 20, **pool)
    yield Scenario("PoolNearlyExhausted", WARNING, [used, most], silent=[("PoolExhausted", CRITICAL)])
    yield Scenario("PoolExhausted", CRITICAL, [counter(expressions.POOL_TIMEOUTS, 0, 1, **pool)])
    there = {"instance": "shop-2:8000", "db_client_connection_state": "used", **pool}
    idle = [gauge(expressions.POOL_COUNT, 0, 0, **there), gauge(expressions.POOL_MAX, 20, 20, **there)]
    yield Scenario(
        "PoolNearlyExhausted", WARNING, [used, most, *idle], why="of one instance; another is idle"
    )
    first = gauge(expressions.POOL_TIMEOUTS, None, 3, **pool)
    yield Scenario("PoolExhausted", CRITICAL, [gauge("up", 1, 1), first], fault=4, why="for the first time")
    found = [gauge("up", None, 1), first]
    yield Scenario("PoolExhausted", CRITICAL, found, fault=4, fires=False, why="before it was scraped")


def _cache_and_redis() -> Iterator[Scenario]:
    name = {"restaurant_cache_name": "menu"}
    yield Scenario("RedisAway", WARNING, [gauge(name_of(catalog.CACHE_BREAKER), 0, 2, **name)])
    probed = gauge(name_of(catalog.CACHE_BREAKER), 0, 1, **name)
    yield Scenario("RedisAway", WARNING, [probed], fires=False, why="only being probed")
    sets = counter(name_of(catalog.CACHE_SETS), 60, 60, **name, restaurant_cache_group="dish")
    evictions = counter(name_of(catalog.CACHE_EVICTIONS), 3, 50, **name)
    yield Scenario("CacheEvictionsHigh", INFO, [sets, evictions], fault=30)
    evicted = gauge(name_of(catalog.CACHE_REDIS_EVICTED), 100, 100, drift=60, **name)
    yield Scenario("RedisEvictions", WARNING, [evicted], fault=30)


def _resources() -> Iterator[Scenario]:
    lag = catalog.EVENT_LOOP_LAG
    yield Scenario(
        "EventLoopLag",
        WARNING,
        histogram(lag, (120, 120), (0.001, 0.3)),
        silent=[("EventLoopLag", CRITICAL)],
    )
    yield Scenario("EventLoopLag", CRITICAL, histogram(lag, (120, 120), (0.001, 4.0)))
    queue = catalog.HTTP_SERVER_QUEUE_DURATION
    yield Scenario("RequestsQueueing", WARNING, histogram(queue, (120, 120), (0.004, 3.0)))
    briefly = histogram(queue, (120, 120), (0.004, 0.2))
    yield Scenario("RequestsQueueing", WARNING, briefly, fires=False, why="a short wait")
    threads = {"restaurant_thread_pool_name": "anyio", "worker": "41"}
    pool = name_of(catalog.THREAD_POOL_UTILIZATION)
    yield Scenario("ThreadPoolSaturated", WARNING, [gauge(pool, 0.2, 1.0, **threads)])
    yield Scenario(
        "ThreadPoolSaturated", WARNING, [gauge(pool, 0.2, 0.8, **threads)], fires=False, why="some are free"
    )
    starts = name_of(catalog.WORKER_STARTS)
    yield Scenario("WorkersRestarting", WARNING, [_WORKERS, counter(starts, 0, 2)], after=30)
    deployed = counter(starts, 0, 0.2)
    yield Scenario("WorkersRestarting", WARNING, [_WORKERS, deployed], fires=False, why="a rolling restart")
    coming = [gauge(name_of(catalog.TELEMETRY_WORKERS), 8, 2), counter(starts, 0, 0.6)]
    yield Scenario("WorkersRestarting", WARNING, coming, fault=10, fires=False, why="a restart under way")
    disk = {"system_filesystem_mountpoint": "/", "system_device": "sda1", "system_filesystem_type": "ext4"}
    full = gauge(name_of(catalog.SYSTEM_FILESYSTEM_UTILIZATION), 0.5, 0.98, **disk)
    yield Scenario("DiskFull", CRITICAL, [full])
    worker = {"worker": "41"}
    limit = gauge(name_of(catalog.PROCESS_FILE_DESCRIPTOR_LIMIT), 1024, 1024, **worker)
    used = gauge(name_of(catalog.PROCESS_FILE_DESCRIPTORS), 100, 980, **worker)
    yield Scenario("FileDescriptorsExhausted", CRITICAL, [limit, used])


def _telemetry() -> Iterator[Scenario]:
    up = gauge("up", 1, 0)
    gone = gauge(name_of(catalog.TELEMETRY_WORKERS), 4, None)
    yield Scenario("TargetDown", CRITICAL, [up, gone])
    yield Scenario("TargetDown", CRITICAL, [up], fires=False, why="not an app of ours")
    dropped = counter(
        name_of(catalog.TELEMETRY_SPANS_DROPPED), 0, 5, restaurant_telemetry_reason="queue_full"
    )
    yield Scenario("SpansDropped", WARNING, [dropped], after=30)
    yield Scenario(
        "MetricsDropped", WARNING, [counter(name_of(catalog.TELEMETRY_METRICS_DROPPED), 0, 5)], after=30
    )
    errors = counter(name_of(catalog.TELEMETRY_ERRORS), 0, 1, restaurant_telemetry_part="hook")
    yield Scenario("TelemetryErrors", INFO, [errors], after=30)
    once = gauge(name_of(catalog.TELEMETRY_ERRORS), None, 1, restaurant_telemetry_part="hook")
    yield Scenario("TelemetryErrors", INFO, [gauge("up", 1, 1), once], fault=10, why="a single one")
    overflow = counter(name_of(catalog.TELEMETRY_OVERFLOW), 0, 1, restaurant_metric_name="shop.orders")
    yield Scenario("SeriesOverflow", WARNING, [overflow], after=80)


def _score() -> Iterator[Scenario]:
    slow = requests(seconds=(0.04, 0.5))
    yield Scenario("ScoreFair", INFO, slow, before=70, fault=30, silent=[("ScorePoor", WARNING)])
    failing = requests(failed=(0, 12))
    yield Scenario("ScorePoor", WARNING, failing, before=70, fault=30, after=80)
    silence = [gauge("up", 1, 1), _WORKERS, *requests(rate=(120, 0))]
    others = [("TargetDown", CRITICAL), ("DataMissing", INFO)]
    yield Scenario("DataMissing", WARNING, silence, before=70, silent=others)
    night = [gauge("up", 1, 1), _WORKERS, *requests(rate=(120, 0.5))]
    yield Scenario("DataMissing", INFO, night, before=70, fault=80, silent=[("DataMissing", WARNING)])
    gone = [gauge("up", 1, 0), gauge(name_of(catalog.TELEMETRY_WORKERS), 4, None), *requests(rate=(120, 0))]
    yield Scenario("DataMissing", WARNING, gone, before=70, silent=[("DataMissing", INFO)], why="it is down")


def _healthy() -> Scenario:
    """A service that does well and has everything: nothing at all may fire."""
    everything = [
        gauge("up", 1, 1),
        _WORKERS,
        *requests(),
        gauge(name_of(catalog.HTTP_SERVER_PAGE), 1, 1, http_route="/menu"),
        *histogram(catalog.DB_CLIENT_OPERATION_DURATION, (60, 60), (0.01, 0.01)),
        *_cache((95, 5), (95, 5)),
        gauge(name_of(catalog.CPU_UTILIZATION), 0.2, 0.25),
        gauge(name_of(catalog.MEMORY_UTILIZATION), 0.5, 0.55),
        gauge(name_of(catalog.CACHE_BREAKER), 0, 0, restaurant_cache_name="menu"),
        counter(name_of(catalog.WORKER_STARTS), 0, 0),
    ]
    return Scenario(".+", ".+", everything, before=70, fires=False, why="all is well")


def _burns() -> Iterator[Scenario]:
    bad = {
        "AvailabilityBudgetBurn": requests(failed=(0, 60)),
        "LatencyBudgetBurn": requests(seconds=(0.04, 3.0)),
    }
    for name, its in bad.items():
        for window, severity, fault, after in (
            ("1h", CRITICAL, 60, 12),
            ("6h", CRITICAL, 120, 40),
            ("1d", WARNING, 180, 132),
            ("3d", INFO, 300, 380),
        ):
            yield Scenario(name, severity, its, before=72, fault=fault, after=after, window=window)
        few = (
            requests(rate=(0.2, 0.2), failed=(0, 0.2))
            if name.startswith("A")
            else requests((0.2, 0.2), (0.04, 3))
        )
        yield Scenario(name, CRITICAL, few, fires=False, window="1h", why="too few requests")


def _forecasts() -> Iterator[Scenario]:
    memory = gauge(name_of(catalog.MEMORY_UTILIZATION), 0.72, 0.72, drift=0.002)
    yield Scenario("MemoryRunningOut", WARNING, [memory], before=92, fault=72, after=60)
    started = gauge(name_of(catalog.MEMORY_UTILIZATION), None, 0.75, drift=0.002)
    yield Scenario("MemoryRunningOut", WARNING, [started], fault=28, fires=False, why="it has just started")
    disk = {"system_filesystem_mountpoint": "/", "system_device": "sda1", "system_filesystem_type": "ext4"}
    name = name_of(catalog.SYSTEM_FILESYSTEM_UTILIZATION)
    slowly = gauge(name, 0.62, 0.62, drift=0.0008, **disk)
    silent = [("DiskFillingUp", CRITICAL), ("DiskFull", CRITICAL)]
    yield Scenario("DiskFillingUp", WARNING, [slowly], before=60, fault=180, after=60, silent=silent)
    fast = gauge(name, 0.82, 0.82, drift=0.002, **disk)
    yield Scenario("DiskFillingUp", CRITICAL, [fast], before=60, fault=60, after=60)
    limit = gauge(name_of(catalog.PROCESS_FILE_DESCRIPTOR_LIMIT), 1024, 1024, worker="41")
    used = gauge(name_of(catalog.PROCESS_FILE_DESCRIPTORS), 400, 400, drift=4, worker="41")
    yield Scenario("FileDescriptorsRunningOut", WARNING, [limit, used], before=60, fault=72, after=60)
    most = gauge(name_of(catalog.PROCESS_MEMORY_LIMIT), 1e9, 1e9)
    usage = name_of(catalog.PROCESS_MEMORY_USAGE)
    leaking = gauge(usage, 3e8, 3e8, drift=1e6, worker="41")
    yield Scenario("MemoryLeak", WARNING, [most, leaking], before=60, fault=480, after=60)
    warming = gauge(usage, 3e8, 3e8, drift=4e6, worker="41")
    yield Scenario(
        "MemoryLeak",
        WARNING,
        [most, warming],
        before=60,
        fault=120,
        after=600,
        fires=False,
        why="grows while it warms up",
    )


# --- as promtool has it -----------------------------------------------------------------------------------

HOURS_STEP: Final = 4
"""Minutes between the samples of the long ones: a range of five needs two; from version 3 on it is open at its left."""


def files() -> dict[str, str]:
    """The test files: path under ``dashboards/`` -> contents."""
    head = (
        "Made from dashboards/src/scenarios.py by `make dashboards`.\n"
        "Run them with: promtool test rules dashboards/prometheus/tests/*.yml"
    )
    return {
        f"prometheus/tests/{name}.yml": yaml(_file(every, minutes), head)
        for name, every, minutes in (("alerts", scenarios(), 1), ("hours", long_scenarios(), HOURS_STEP))
    }


_AT_ONCE: Final = 6
"""Scenarios in one of promtool's tests, each about a service of its own: many rules cost the same for one or for six.
Promtool limits how many samples a query may read."""


def _file(every: Sequence[Scenario], minutes: int) -> dict[str, Any]:
    by_length = sorted(every, key=lambda each: each.before + each.fault + each.after)
    some = [by_length[first : first + _AT_ONCE] for first in range(0, len(every), _AT_ONCE)]
    return {
        "rule_files": ["../recording.yml", "../alerts.yml"],
        "evaluation_interval": f"{minutes}m",
        "tests": [_test(each, minutes) for each in some],
    }


def _test(some: Sequence[Scenario], minutes: int) -> dict[str, Any]:
    rows, checks = [], []
    for number, scenario in enumerate(some, 1):
        job = f"shop-{number}"
        phases = [length // minutes for length in (scenario.before, scenario.fault, scenario.after)]
        rows += [
            {"series": each.name.replace('"shop', f'"{job}'), "values": _values(each, *phases, minutes)}
            for each in scenario.series
        ]
        checks += list(_checks(scenario, job))
    names = ", ".join(f"{each.alert} {each.severity} {each.why or each.window}".strip() for each in some)
    return {
        "name": names,
        "interval": f"{minutes}m",
        "input_series": rows,
        "promql_expr_test": checks,
    }


def _checks(scenario: Scenario, job: str) -> Iterator[dict[str, Any]]:
    """Silent before the fault, firing at its end, silent again; and what must be silent all the time."""

    def check(alert: str, severity: str, at: int, firing: bool) -> dict[str, Any]:
        window = f', window="{scenario.window}"' if scenario.window else ""
        asked = f'job="{job}", alertname=~"{alert}", severity=~"{severity}"{window}, alertstate="firing"'
        return {
            "expr": f"count(ALERTS{{{asked}}})",
            "eval_time": f"{at}m",
            "exp_samples": [{"labels": "{}", "value": 1}] if firing else [],
        }

    fault, end = scenario.before + scenario.fault, scenario.before + scenario.fault + scenario.after
    for at, firing in ((scenario.before, False), (fault, scenario.fires), (end, False)):
        yield check(scenario.alert, scenario.severity, at, firing)
    for name, severity in scenario.silent:
        yield check(name, severity, fault, firing=False)


def _values(each: Series, before: int, fault: int, after: int, minutes: int) -> str:
    """The samples: `before` + 1 of them, `fault`, `after`."""
    if each.gauge:
        parts = []
        for value, length, drift in (
            (each.well, before, 0.0),
            (each.ill, fault - 1, each.drift * minutes),
            (each.well, after - 1, 0.0),
        ):
            parts.append(f"_x{length + 1}" if value is None else f"{_n(value)}+{_n(drift)}x{length}")
        return " ".join(parts)
    assert each.well is not None and each.ill is not None  # noqa: S101, PT018 - counters have both
    well, ill = each.well * minutes, each.ill * minutes
    first = well * before + ill
    second = first + ill * (fault - 1) + well
    return f"0+{_n(well)}x{before} {_n(first)}+{_n(ill)}x{fault - 1} {_n(second)}+{_n(well)}x{after - 1}"


def _n(value: float) -> str:
    return f"{value:.12g}" if abs(value) < 1e12 else f"{value:.0f}"
