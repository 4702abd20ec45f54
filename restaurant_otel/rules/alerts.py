"""The alerts: when, how urgent, in words that somebody woken by them understands.

A component of the score warns when its objective is missed for ten minutes and is critical when its limit is missed for
five. Error budgets burn: fourteen times too fast wakes somebody, as fast as they may do over three days makes a
ticket (https://sre.google/workbook/alerting-on-slos/). Everything else is a fact that needs somebody's eye, or a
forecast that gives them time. Each alert has a page in docs/runbooks, and a test that it fires, ends, and else is
silent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from restaurant_otel import catalog
from restaurant_otel.catalog import Metric, Objective, Slo
from restaurant_otel.rules import runbooks
from restaurant_otel.rules.expressions import N_PLUS_ONE, POOL_TIMEOUTS
from restaurant_otel.rules.options import Options, name_of, number
from restaurant_otel.rules.performance import COMPONENT

VALUE: Final = "{{ $value | humanize }}"
PERCENT: Final = "{{ $value | humanizePercentage }}"
DURATION: Final = "{{ $value | humanizeDuration }}"

CRITICAL, WARNING, INFO = "critical", "warning", "info"

SEVERITIES: Final = (CRITICAL, WARNING, INFO)
"""The most urgent first: now; today; when there is time."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule.

    `area` names the dashboard that shows it, `runbook` the page of docs/runbooks. `hold` is for how long the condition
    must be true. `summary` and `description` are templates of Prometheus's. `slo` and `window` tell the alerts of one
    name apart.
    """

    name: str
    severity: str
    area: str
    runbook: str
    expr: str
    hold: str
    summary: str
    description: str
    slo: str = ""
    window: str = ""

    def data(self, o: Options) -> dict[str, Any]:
        """As Prometheus reads it."""
        labels = {"severity": self.severity, "area": self.area}
        if self.slo:
            labels.update(slo=self.slo, window=self.window)
        variables = "&".join(f"var-{label}={{{{ $labels.{label} | urlquery }}}}" for label in o.by)
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": o.time(self.hold),
            "labels": labels,
            "annotations": {
                "summary": self.summary.replace("{service}", _service(o)),
                "description": self.description.replace("{service}", _service(o)),
                "runbook_url": runbooks.address(self.runbook, o.grafana_url, o.runbooks_url),
                "runbook_command": f"restaurant-otel rules runbook {self.name}",
                "dashboard_url": f"{o.grafana_url}/d/restaurant-{self.area}?{variables}",
            },
        }


def alerts(o: Options) -> list[Alert]:
    """All alerts, by area."""
    return [
        *_budgets(o),
        *_components(o),
        *_routes(o),
        *_database(o),
        *_cache(o),
        *_resources(o),
        *_telemetry(o),
        *_score(o),
    ]


def groups(o: Options) -> list[dict[str, Any]]:
    """The rule groups of all alerts, as Prometheus reads them: one an area."""
    every = alerts(o)
    return [
        {
            "name": f"restaurant-otel-alerts-{area}",
            "interval": o.step(),
            "rules": [alert.data(o) for alert in every if alert.area == area],
        }
        for area in dict.fromkeys(alert.area for alert in every)
    ]


def _service(o: Options) -> str:
    return " ".join(f"{{{{ $labels.{label} }}}}" for label in o.by)


def _where(*labels: str) -> str:
    return " ".join(f"{{{{ $labels.{label} }}}}" for label in labels)


# --- error budgets ----------------------------------------------------------------------------------------

BURNS: Final = (
    (14.4, "1h", "5m", CRITICAL, "2m"),
    (6.0, "6h", "30m", CRITICAL, "15m"),
    (3.0, "1d", "2h", WARNING, "1h"),
    (1.0, "3d", "6h", INFO, "3h"),
)
"""How many times too fast, over which long and short window, how urgent, for how long."""


def _budgets(o: Options) -> Iterator[Alert]:
    for slo in o.objectives.slos:
        for factor, long, short, severity, hold in BURNS:
            yield _burn(o, slo, factor, long, short, severity, hold)


def _burn(o: Options, slo: Slo, factor: float, long: str, short: str, severity: str, hold: str) -> Alert:
    most = number(factor * (1 - slo.target))
    this = f'{{slo="{slo.name}"}}'
    requests = f"service:http_requests:slo_rate{long} * {number(o.seconds(long))}"
    bad = "failed" if slo.seconds is None else f"failed or took longer than {slo.seconds:g} s"
    return Alert(
        f"{slo.name.title()}BudgetBurn",
        severity,
        "slo",
        f"{slo.name}-burn",
        f"service_slo:errors:ratio{long}{this} > {most}\n"
        f"and on ({o.labels()}) service_slo:errors:ratio{short}{this} > {most}\n"
        f"and on ({o.labels()}) {requests} >= {number(slo.minimum)}",
        hold,
        f"{{service}} uses up its {slo.name} budget {factor:g} times too fast",
        f"{PERCENT} of the requests to {{service}} in the last {long} {bad}. "
        f"{number((1 - slo.target) * 100)} % may, over 30 days; at this rate the budget lasts {_lasts(factor)}.",
        slo.name,
        long,
    )


def _lasts(factor: float) -> str:
    days = 30 / factor
    return f"{days:.0f} days" if days >= 3 else f"{days * 24:.0f} hours"


# --- components of the score ------------------------------------------------------------------------------

_COMPONENTS: Final = {
    "errors": ("ErrorRatioHigh", "api", "high-error-ratio", "requests to {service} fail"),
    "api": ("RequestsSlow", "api", "slow-requests", "requests to {service} are slow"),
    "page": ("PagesSlow", "api", "slow-pages", "pages of {service} load slowly"),
    "database": ("DatabaseSlow", "database", "slow-database", "statements of {service} are slow"),
    "cache": ("CacheHitsLow", "cache", "cache-hits-low", "the cache of {service} misses too often"),
    "cpu": ("CpuHigh", "resources", "cpu-high", "the CPUs of {service} are busy"),
    "memory": ("MemoryHigh", "resources", "memory-high", "the memory of {service} is full"),
}
"""Availability has its error budget instead."""

_GENTLE: Final = ("cpu", "memory")
"""Missing these objectives costs money, not users: nobody is disturbed before the limit."""


def _components(o: Options) -> Iterator[Alert]:
    for objective in o.objectives.components:
        if objective.component in _COMPONENTS and objective.weight > 0:
            severity = INFO if objective.component in _GENTLE else WARNING
            yield _missed(objective, objective.objective, severity, "10m", "objective")
            yield _missed(objective, objective.limit, CRITICAL, "5m", "limit")


def _missed(objective: Objective, bound: float, severity: str, hold: str, what: str) -> Alert:
    name, area, runbook, words = _COMPONENTS[objective.component]
    worse = "<" if objective.higher_is_better else ">"
    shown = "humanizePercentage" if objective.unit == "1" else "humanizeDuration"
    text = f"{number(bound * 100)} %" if objective.unit == "1" else f"{number(bound)} s"
    side = "at least" if objective.higher_is_better else "at most"
    return Alert(
        name,
        severity,
        area,
        runbook,
        f'service_component:performance_value{{{COMPONENT}="{objective.component}"}} {worse} {number(bound)}',
        hold,
        words[0].upper() + words[1:] if not words.startswith("{") else words,
        f"{{{{ $value | {shown} }}}} for {{service}}; the {what} is {side} {text}. {objective.explain}",
    )


# --- routes -----------------------------------------------------------------------------------------------


def _routes(o: Options) -> Iterator[Alert]:
    api = o.objectives["api"]
    enough = f"service_route:http_requests:rate5m * {number(o.seconds('5m'))} >= 20"
    route = o.labels("http_route")
    yield Alert(
        "RouteMeanSlow",
        INFO,
        "api",
        "slow-route",
        f"service_route:http_duration_seconds:mean5m > {number(api.objective)}\nand on ({route}) {enough}",
        "15m",
        f"{{service}} answers {_where('http_route')} slowly",
        f"A request to {_where('http_route')} of {{service}} takes {DURATION} on average. "
        f"The objective is {number(api.objective)} s.",
    )
    yield Alert(
        "RouteP95Slow",
        WARNING,
        "api",
        "slow-route",
        f"service_route:http_duration_seconds:p95_5m > {number(api.limit)}\nand on ({route}) {enough}",
        "10m",
        f"{{service}} answers some requests to {_where('http_route')} very slowly",
        f"One request in twenty to {_where('http_route')} of {{service}} takes longer than "
        f"{DURATION}. The limit is {number(api.limit)} s.",
    )


# --- the database -----------------------------------------------------------------------------------------


def _database(o: Options) -> Iterator[Alert]:
    labels = o.labels("http_route", "restaurant_db_relationship")
    times = f"increase({o.series(N_PLUS_ONE)}[{o.time('15m')}])"
    yield Alert(
        "NPlusOneQueries",
        INFO,
        "database",
        "n-plus-one",
        f"sum by ({labels}) ({times}) > 5",
        "5m",
        f"{{service}} loads {_where('restaurant_db_relationship')} one by one",
        f"In {VALUE} requests of the last 15 minutes {_where('http_route')} of {{service}} sent one query "
        f"for each of many {_where('restaurant_db_relationship')}. One for all can do that.",
    )
    pool = _where("db_client_connection_pool_name")
    yield Alert(
        "PoolNearlyExhausted",
        WARNING,
        "database",
        "pool-exhausted",
        "service_pool:db_connections:utilization >= 0.9",
        "5m",
        f"{{service}} uses nearly all connections of the pool {pool}",
        f"{PERCENT} of the connections of {pool} in {{service}} are in use. When all are, "
        "requests wait, and then fail.",
    )
    timeouts = f"increase({o.series(POOL_TIMEOUTS)}[{o.time('5m')}])"
    yield Alert(
        "PoolExhausted",
        CRITICAL,
        "database",
        "pool-exhausted",
        f"sum by ({o.labels('db_client_connection_pool_name')}) ({timeouts}) > 0",
        "0s",
        f"{{service}} waits in vain for connections of the pool {pool}",
        f"In the last 5 minutes {{service}} has given up {VALUE} times waiting for a connection of "
        f"{pool}. Those requests have failed.",
    )


# --- the cache --------------------------------------------------------------------------------------------


def _cache(o: Options) -> Iterator[Alert]:
    cache = _where("restaurant_cache_name")
    by = o.labels("restaurant_cache_name")
    breaker = o.series(name_of(catalog.CACHE_BREAKER))
    yield Alert(
        "RedisAway",
        WARNING,
        "cache",
        "redis-away",
        f"max by ({by}) ({breaker}) == 2",
        "1m",
        f"The cache {cache} of {{service}} does without Redis",
        f"Redis does not answer {{service}}: its breaker is open, and {cache} lives in each worker's memory. "
        "The app goes on, with more misses and more load on the database.",
    )
    sets = f"sum by ({by}) (rate({o.series(name_of(catalog.CACHE_SETS))}[{o.time('5m')}]))"
    yield Alert(
        "CacheEvictionsHigh",
        INFO,
        "cache",
        "cache-evictions",
        f"service_cache:cache_evictions:rate5m / {sets} > 0.5",
        "15m",
        f"The cache {cache} of {{service}} is too small",
        f"For {PERCENT} of the values that {{service}} puts into {cache}, another one must "
        "leave memory before it has expired.",
    )
    yield Alert(
        "RedisEvictions",
        WARNING,
        "cache",
        "cache-evictions",
        "service_cache:redis_evicted:rate5m > 0.1",
        "15m",
        "The Redis of {service} throws keys out",
        f"Redis evicts {VALUE} keys a second of {cache} in {{service}}: it has reached its maxmemory.",
    )


# --- resources --------------------------------------------------------------------------------------------


def _resources(o: Options) -> Iterator[Alert]:
    instance, worker = _where("instance"), _where("worker")
    yield Alert(
        "MemoryRunningOut",
        WARNING,
        "resources",
        "memory-high",
        f"predict_linear(instance:memory_utilization:max[{o.time('1h')}], {number(o.seconds('4h'))}) > 1\n"
        "and instance:memory_utilization:max > 0.7",
        "15m",
        f"{instance} ({{service}}) will be out of memory within hours",
        f"If memory on {instance} ({{service}}) goes on growing as in the last hour, it stands at "
        f"{PERCENT} of what may be used in 4 hours.",
    )
    yield from _disks(o, instance)
    yield from _descriptors(o, instance, worker)
    yield Alert(
        "MemoryLeak",
        WARNING,
        "resources",
        "memory-leak",
        _leak(o),
        "30m",
        f"Worker {worker} of {{service}} leaks memory",
        f"The memory of worker {worker} on {instance} ({{service}}) has grown steadily for six hours. Going on so, it "
        "stands at {{ $value | humanize1024 }}B tomorrow, above the limit at which it is killed.",
    )
    for bound, severity in ((0.1, WARNING), (1.0, CRITICAL)):
        yield Alert(
            "EventLoopLag",
            severity,
            "resources",
            "event-loop-lag",
            f"instance:event_loop_lag_seconds:p99_5m > {bound:g}",
            "5m",
            f"The event loop on {instance} ({{service}}) is held up",
            f"One time in a hundred an event loop on {instance} ({{service}}) is "
            f"{DURATION} late: something blocks it, and every request in that worker waits.",
        )
    yield Alert(
        "RequestsQueueing",
        WARNING,
        "resources",
        "requests-queueing",
        "instance:http_queue_seconds:p99_5m > 0.5",
        "5m",
        f"Requests to {instance} ({{service}}) wait before a worker takes them",
        f"One request in a hundred has waited {DURATION} between the proxy and {instance} ({{service}}): its "
        "workers are all busy, and users wait before the app has even begun.",
    )
    threads = _where("restaurant_thread_pool_name")
    yield Alert(
        "ThreadPoolSaturated",
        WARNING,
        "resources",
        "thread-pool-saturated",
        "instance_pool:thread_pool:utilization >= 0.9",
        "5m",
        f"The thread pool {threads} on {instance} ({{service}}) is full",
        f"{PERCENT} of the threads of {threads} are busy in a worker on {instance} ({{service}}). What needs one "
        "waits for it, however little there is to do.",
    )
    workers = f"max by ({o.labels('instance')}) ({o.series(name_of(catalog.TELEMETRY_WORKERS))})"
    yield Alert(
        "WorkersRestarting",
        WARNING,
        "resources",
        "worker-restarts",
        f"instance:worker_starts:increase15m > 2 * clamp_min({workers}, 2)",
        "0s",
        f"The workers on {instance} ({{service}}) restart again and again",
        f"{VALUE} workers have started on {instance} ({{service}}) in 15 minutes, more than two "
        "deployments would explain: they crash, are killed, or do not get ready.",
    )


def _disks(o: Options, instance: str) -> Iterator[Alert]:
    disk = f"{_where('system_filesystem_mountpoint')} on {instance} ({{service}})"
    used = "instance_disk:filesystem:utilization"
    for span, ahead, least, severity in (("6h", "1d", 0.6, WARNING), ("1h", "4h", 0.8, CRITICAL)):
        yield Alert(
            "DiskFillingUp",
            severity,
            "resources",
            "disk-full",
            f"predict_linear({used}[{o.time(span)}], {number(o.seconds(ahead))}) > 1\nand {used} > {least:g}",
            "30m" if severity == WARNING else "15m",
            f"The file system {disk} will be full within {'a day' if ahead == '1d' else 'hours'}",
            f"If {disk} goes on filling as in the last {span}, it stands at "
            f"{PERCENT} in {'24 hours' if ahead == '1d' else '4 hours'}.",
        )
    yield Alert(
        "DiskFull",
        CRITICAL,
        "resources",
        "disk-full",
        f"{used} > 0.97",
        "5m",
        f"The file system {disk} is full",
        f"{disk} is {PERCENT} full. Writes will fail, those of logs and databases among them.",
    )


def _descriptors(o: Options, instance: str, worker: str) -> Iterator[Alert]:
    used = "instance_worker:file_descriptors:utilization"
    where = f"Worker {worker} on {instance} ({{service}})"
    yield Alert(
        "FileDescriptorsRunningOut",
        WARNING,
        "resources",
        "file-descriptors",
        f"predict_linear({used}[{o.time('1h')}], {number(o.seconds('4h'))}) > 1\nand {used} > 0.3",
        "15m",
        f"{where} will run out of file descriptors within hours",
        f"{where} opens files or connections and does not close them. Going on as in the last hour, it "
        f"stands at {PERCENT} of its limit in 4 hours.",
    )
    yield Alert(
        "FileDescriptorsExhausted",
        CRITICAL,
        "resources",
        "file-descriptors",
        f"{used} > 0.9",
        "5m",
        f"{where} has hardly a file descriptor left",
        f"{where} uses {PERCENT} of the files and connections that it may have open. With "
        "none left it cannot accept requests.",
    )


def _leak(o: Options) -> str:
    """The resource observer's rule, on the recorded minima of half an hour."""
    minimum = "instance_worker:process_memory_bytes:min30m"
    two, four, six = (o.time(text) for text in ("2h", "4h", "6h"))
    third = f"0.35 * deriv({minimum}[{six}])"
    instance = o.labels("instance")
    return (
        f"predict_linear({minimum}[{six}], {number(o.seconds('1d'))})\n"
        f"  > on ({instance}) group_left () instance:process_memory_limit_bytes:min\n"
        f"and deriv({minimum}[{six}]) > 0\n"
        f"and deriv({minimum}[{two}]) > {third}\n"
        f"and deriv({minimum}[{two}] offset {two}) > {third}\n"
        f"and deriv({minimum}[{two}] offset {four}) > {third}"
    )


# --- the telemetry itself ---------------------------------------------------------------------------------


def _increase(o: Options, metric: Metric, window: str, *by: str) -> str:
    return f"sum by ({o.labels(*by)}) (increase({o.series(name_of(metric))}[{o.time(window)}]))"


def _telemetry(o: Options) -> Iterator[Alert]:
    instance = _where("instance")
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
            f"{_increase(o, metric, '15m')} > 0",
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
        f"{_increase(o, catalog.TELEMETRY_ERRORS, '15m', 'restaurant_telemetry_part')} > 0",
        "0s",
        "The instrumentation of {service} survives errors of its own",
        f"{VALUE} errors in 15 minutes in the part {_where('restaurant_telemetry_part')}. The app is "
        "not affected; the first one is in its log, with a traceback.",
    )
    yield Alert(
        "SeriesOverflow",
        WARNING,
        "overview",
        "series-overflow",
        f"{_increase(o, catalog.TELEMETRY_OVERFLOW, '1h', 'restaurant_metric_name')} > 0",
        "0s",
        f"{_where('restaurant_metric_name')} of {{service}} has too many series",
        f"{_where('restaurant_metric_name')} has reached its limit of label sets in {{service}}: "
        f"{VALUE} further ones in an hour were added to one series, and cannot be told apart.",
    )


# --- the score --------------------------------------------------------------------------------------------


def _score(o: Options) -> Iterator[Alert]:
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
    yield Alert(
        "DataMissing",
        WARNING,
        "overview",
        "data-missing",
        f"service:performance_coverage < {least}",
        "10m",
        "Nobody knows how {service} does",
        f"Only {PERCENT} of what the score of {{service}} is made of is there, "
        f"less than {number(o.objectives.coverage * 100)} %. No data is no good news: "
        "it is down, has no traffic, or is not scraped.",
    )
