"""Readings of a fleet, from anything that answers as Prometheus does: its HTTP API, version 1.

The recording rules are not needed: the expressions that they are made of are asked directly, so a fleet can be judged
by objectives of one's own, and before any rule is installed. Blocking; for the command line and for background work.
"""

from __future__ import annotations

import json
import math
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from restaurant_otel import catalog
from restaurant_otel.catalog import COMPONENTS
from restaurant_otel.rules import expressions, performance
from restaurant_otel.rules.options import Options, name_of
from restaurant_otel.scorecard import evidence
from restaurant_otel.scorecard.evidence import Key
from restaurant_otel.scorecard.formula import Fact, Reading, Snapshot

_TIMEOUT: Final = 30.0
_MOST_BYTES: Final = 16_000_000
_MOST_SERIES: Final = 100


class FleetError(Exception):
    """Prometheus could not be asked, or refused. The message says what was asked and what came back."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of an instant query's answer."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Range:
    """One series of a range query's answer: (seconds since the epoch, value)."""

    labels: Mapping[str, str]
    samples: list[tuple[float, float]]


class Prometheus:
    """A Prometheus-compatible server at `url`. `headers` go with each request (a token, a tenant)."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise FleetError(f"{url!r} is no URL such as http://localhost:9090")
        self.url = url.rstrip("/")
        self._headers = dict(headers or {})

    def query(self, expr: str, at: float | None = None) -> list[Sample]:
        """An instant query; `at` in seconds since the epoch (default: now). Raises FleetError."""
        fields = {"query": expr, **({} if at is None else {"time": f"{at:.3f}"})}
        data = self._post("/api/v1/query", fields)
        return [Sample(each["metric"], float(each["value"][1])) for each in data["result"]]

    def query_range(self, expr: str, start: float, end: float, step: float) -> list[Range]:
        """A range query's series; times in seconds since the epoch. Raises FleetError."""
        fields = {"query": expr, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"}
        return [
            Range(each["metric"], [(float(at), float(value)) for at, value in each["values"]])
            for each in self._post("/api/v1/query_range", fields)["result"]
        ]

    def _post(self, path: str, fields: Mapping[str, str]) -> Any:
        body = urllib.parse.urlencode(fields).encode()
        request = urllib.request.Request(self.url + path, body, self._headers)  # noqa: S310 - http(s), checked
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
                data = json.loads(answer.read(_MOST_BYTES))
        except urllib.error.HTTPError as error:
            told = error.read(2000).decode("utf-8", "replace")
            raise FleetError(f"{self.url} answered {error.code} to {fields['query']}: {told}") from None
        except (OSError, ValueError) as error:
            raise FleetError(f"{self.url} cannot be asked: {error}") from None
        if not isinstance(data, dict) or data.get("status") != "success":
            raise FleetError(f"{self.url} did not answer as Prometheus does: {str(data)[:500]}")
        return data["data"]


def fleet_snapshots(
    server: Prometheus, options: Options | None = None, at: float | None = None, *, facts: bool = True
) -> list[Snapshot]:
    """A snapshot for each service that was there in the last hour, by name.

    `facts`: ask for evidence too, a dozen more queries. Raises FleetError.
    """
    o = options or Options()
    values: dict[str, dict[str, Reading]] = {}
    for sample in server.query(performance.known_services(o), at):
        values[service_of(o, sample.labels)] = {}
    for objective in o.objectives.components:
        for sample in server.query(performance.VALUES[objective.component](o, objective), at):
            if not math.isnan(sample.value):
                readings = values.setdefault(service_of(o, sample.labels), {})
                readings[objective.component] = Reading(sample.value)
    facts_of = _facts(server, o, at) if facts else lambda _: {}
    return [
        Snapshot(readings, facts_of(service), at or time.time(), service)
        for service, readings in sorted(values.items())
    ]


def service_of(o: Options, labels: Mapping[str, str]) -> str:
    """A service's name, by the labels that tell services apart."""
    return " ".join(labels.get(name, "") for name in o.by)


# --- evidence -----------------------------------------------------------------------------------------


class _Tables:
    """Answers by service, and in each by the labels asked for."""

    def __init__(self, server: Prometheus, o: Options, at: float | None) -> None:
        self._server = server
        self._o = o
        self._at = at

    def ask(self, expr: str, *labels: str) -> dict[str, dict[Key, float]]:
        """The series that weigh most, at most `_MOST_SERIES` a service."""
        by = self._o.labels()
        found: dict[str, dict[Key, float]] = {}
        for sample in self._server.query(f"topk by ({by}) ({_MOST_SERIES}, {expr})", self._at):
            if math.isfinite(sample.value):
                key = tuple(sample.labels.get(label, "") for label in labels)
                found.setdefault(service_of(self._o, sample.labels), {})[key] = sample.value
        return found


def _facts(server: Prometheus, o: Options, at: float | None) -> Callable[[str], dict[str, tuple[Fact, ...]]]:
    """Ask for all evidence; a function that gives a service's."""
    goals = {each.component: each for each in (*COMPONENTS, *o.objectives.components)}
    ask = _Tables(server, o, at).ask
    window = o.time("5m")
    counts = ask(expressions.requests(o, "5m", "http_route"), "http_route")
    failed = ask(f"({expressions.failures(o, '5m', 'http_route')}) > 0", "http_route")
    means = ask(expressions.mean_seconds(o, "5m", "http_route"), "http_route")
    pages = ask(performance.page_seconds(o, goals["page"], "http_route"), "http_route")
    loads = ask(performance.page_loads(o, goals["page"], "http_route"), "http_route")
    statements = _means(ask, o, expressions.QUERY, "db_query_summary")
    operations = _means(ask, o, expressions.DB, "db_operation_name", "db_collection_name")
    relationships = ("http_route", "restaurant_db_relationship")
    repeated = o.series(expressions.N_PLUS_ONE)
    n_plus_one = ask(
        f"(sum by ({o.labels(*relationships)}) (increase({repeated}[{window}])) > 0)", *relationships
    )
    group = ("restaurant_cache_name", "restaurant_cache_group")
    asked = ask(expressions.lookups(o, "5m", *group), *group)
    answered = ask(expressions.lookups(o, "5m", *group, answered=True), *group)
    slope, suspected = (
        o.series(name)
        for name in (
            name_of(catalog.MEMORY_LEAK_SLOPE),
            name_of(catalog.MEMORY_LEAK_SUSPECTED),
        )
    )
    leaking = ask(f"({slope} and {suspected} == 1)", "instance", "worker")
    hosts = o.labels("instance")
    used = f"avg_over_time({o.series(name_of(catalog.CPU_UTILIZATION))}[{window}])"
    cpu = ask(f"max by ({hosts}) ({used})", "instance")
    memory = ask(f"max by ({hosts}) ({o.series(name_of(catalog.MEMORY_UTILIZATION))})", "instance")

    def of(service: str) -> dict[str, tuple[Fact, ...]]:
        requests = {
            key: (count, failed.get(service, {}).get(key, 0.0), count * means.get(service, {}).get(key, 0.0))
            for key, count in counts.get(service, {}).items()
        }
        looked_at = {key: each for key, each in requests.items() if evidence.looked_at(key[0], goals["api"])}
        times = statements.get(service) or operations.get(service) or {}
        groups = {
            key: (count, answered.get(service, {}).get(key, 0.0))
            for key, count in asked.get(service, {}).items()
        }
        return {
            "failing_routes": evidence.failing(requests),
            "slow_routes": evidence.slow(
                ((key, (count, total)) for key, (count, _, total) in looked_at.items()), goals["api"]
            ),
            "slow_pages": evidence.slow_pages(
                (
                    (key[0], time, loads.get(service, {}).get(key, 0.0))
                    for key, time in pages.get(service, {}).items()
                ),
                goals["page"],
            ),
            "statements": evidence.slow(times.items(), goals["database"]),
            "n_plus_one": evidence.most(
                {key: (count,) for key, count in n_plus_one.get(service, {}).items()}
            ),
            "cache_groups": evidence.missing(groups, goals["cache"]),
            "leaks": evidence.leaks(_named(leaking, service)),
            "busy_hosts": evidence.above(_named(cpu, service), goals["cpu"], "1"),
            "full_hosts": evidence.above(_named(memory, service), goals["memory"], "1"),
        }

    return of


def _means(
    ask: Callable[..., dict[str, dict[Key, float]]], o: Options, name: str, *labels: str
) -> dict[str, dict[Key, tuple[float, float]]]:
    """(count, seconds) a second of a histogram, by service and labels."""
    total, count = (
        ask(f"sum by ({o.labels(*labels)}) ({o.rate(f'{name}_{end}', '5m')})", *labels)
        for end in ("sum", "count")
    )
    return {
        service: {
            key: (count[service][key], seconds)
            for key, seconds in totals.items()
            if key in count.get(service, {})
        }
        for service, totals in total.items()
    }


def _named(table: dict[str, dict[Key, float]], service: str) -> list[tuple[str, float]]:
    return [(" ".join(filter(None, key)), value) for key, value in table.get(service, {}).items()]
