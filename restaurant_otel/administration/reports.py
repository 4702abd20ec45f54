"""The app's figures as the admin API tells them: score, requests, queries, resources. All workers together.

What each figure is, is worked out elsewhere (`scoring`, `figures`, `resources`); here it gets the shape that clients
see, which stays as it is when those parts change.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Annotated, Any, Literal

from pydantic import Field

from restaurant_otel import resources, scoring
from restaurant_otel.administration import figures
from restaurant_otel.administration.figures import EndpointFigures, QueryFigures
from restaurant_otel.administration.operations import Call, Page, Problem
from restaurant_otel.resources import HostReading, LeakSnapshot, ProcessReading
from restaurant_otel.sql import book

# --- the score ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class ScoreComponent:
    """One line of the scorecard. `points` (0-100) and `value` are None where too little is known: `why` says why."""

    name: str
    explain: str
    unit: str
    value: float | None
    objective: float
    limit: float
    points: float | None
    weight: float
    recoverable: float
    why: str


@dataclass(slots=True)
class Evidence:
    """What shows it."""

    subject: str
    value: float
    unit: str


@dataclass(slots=True)
class Advice:
    """What to do: `gain` is by how much the score would rise."""

    action: str
    component: str
    gain: float
    runbook: str
    evidence: list[Evidence]


@dataclass(slots=True)
class TrendPoint:
    """The score at `at`, seconds since the epoch."""

    at: float
    total: float


@dataclass(slots=True)
class ScoreReport:
    """The score, 0 to 100; None where too little of it is known (`coverage`, a share)."""

    total: float | None
    band: str
    coverage: float
    capped_by: str | None
    components: list[ScoreComponent]
    recommendations: list[Advice]
    trend: list[TrendPoint]


def read_score(_: Call) -> ScoreReport:
    """``GET /score``."""
    snapshot = scoring.current_snapshot()
    goals = scoring.current_goals()
    card = scoring.score(snapshot, goals.objectives)
    found = scoring.recommend(card, snapshot, goals.objectives)
    return ScoreReport(
        total=card.total,
        band=card.band.value,
        coverage=card.coverage,
        capped_by=card.capped_by,
        components=[
            ScoreComponent(
                name=one.name,
                explain=one.objective.explain,
                unit=one.objective.unit,
                value=one.value,
                objective=one.objective.objective,
                limit=one.objective.limit,
                points=one.points,
                weight=one.weight,
                recoverable=one.recoverable,
                why=one.why,
            )
            for one in card.components
        ],
        recommendations=[
            Advice(
                one.advice.action,
                one.component,
                one.gain,
                one.advice.runbook,
                [Evidence(fact.subject, fact.value, fact.unit) for fact in one.evidence],
            )
            for one in found
        ],
        trend=[TrendPoint(at, total) for at, total in scoring.trend()],
    )


# --- requests ----------------------------------------------------------------------------------------


def read_summary(call: Call) -> figures.Summary:
    """``GET /metrics/summary``."""
    return figures.summary(call.service.watch.window())


EndpointKey = Literal["route", "count", "rate", "error_ratio", "mean", "p50", "p95", "p99", "slowest_within"]


class EndpointsWanted(Page):
    """Which routes, in which order."""

    sort: Annotated[EndpointKey, Field(description="By what; figures fall, names rise.")] = "p95"
    route: Annotated[str | None, Field(max_length=200, description="Only routes that contain this.")] = None
    method: Annotated[str | None, Field(max_length=20, description="Only this method.")] = None
    least: Annotated[int, Field(ge=0, le=1_000_000_000, description="Only with so many requests.")] = 0


@dataclass(slots=True)
class EndpointList:
    """A page of routes; `total` before paging."""

    window_seconds: float
    total: int
    items: list[EndpointFigures]


def read_endpoints(call: Call) -> EndpointList:
    """``GET /endpoints``."""
    wanted: EndpointsWanted = call.query
    window = call.service.watch.window()
    found = [
        one
        for one in figures.endpoints(window)
        if (wanted.route is None or wanted.route.lower() in one.route.lower())
        and (wanted.method is None or wanted.method.upper() == one.method)
        and one.count >= wanted.least
    ]
    found.sort(key=lambda one: (one.route, one.method))
    if wanted.sort != "route":
        found.sort(key=lambda one: getattr(one, wanted.sort) or 0.0, reverse=True)
    return EndpointList(figures.window_seconds(window), len(found), _page(found, wanted))


def _page(items: Sequence[Any], wanted: Page) -> list[Any]:
    return list(items[wanted.offset : wanted.offset + wanted.limit])


# --- queries -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class QueryList:
    """A page of statements, those that took most time first; `total` before paging."""

    total: int
    items: list[QueryFigures]


class QueriesWanted(Page):
    """Which statements, in which order."""

    sort: Annotated[Literal["total", "calls", "mean", "p95"], Field(description="By what; it falls.")] = (
        "total"
    )
    route: Annotated[str | None, Field(max_length=200, description="Only those of this route.")] = None


def read_queries(call: Call) -> QueryList:
    """``GET /queries``."""
    wanted: QueriesWanted = call.query
    found = [
        one
        for one in book.query_book()
        if wanted.route is None or any(use.route == wanted.route for use in one.routes)
    ]
    found.sort(key=lambda one: getattr(one, wanted.sort) or 0.0, reverse=True)
    return QueryList(len(found), figures.query_figures(_page(found, wanted)))


@dataclass(slots=True)
class SlowExecution:
    """The slowest execution that took longer than the objective, at `when` (seconds since the epoch).

    `plan` is the database's, without values; None where there is none, and `no_plan` says why.
    """

    seconds: float
    when: float
    route: str | None
    trace_id: str | None
    plan: str | None
    no_plan: str | None


@dataclass(slots=True)
class QueryDetail:
    """One statement: its figures, its text without values, the lines of code that send it, its slowest execution."""

    figures: QueryFigures
    rows: int
    text: str | None
    locations: list[str]
    slowest: SlowExecution | None


def read_query(call: Call) -> QueryDetail:
    """``GET /queries/{fingerprint}``."""
    wanted = call.path["fingerprint"]
    found = next((one for one in book.query_book() if one.fingerprint == wanted), None)
    if found is None:
        raise Problem(HTTPStatus.NOT_FOUND, "There is no such statement.")
    slow = next((one for one in book.slow_queries() if one.fingerprint == wanted), None)
    return QueryDetail(
        figures.query_figures([found])[0],
        found.rows,
        found.text,
        list(found.locations),
        None
        if slow is None
        else SlowExecution(slow.seconds, slow.when, slow.route, slow.trace_id, slow.plan, slow.no_plan),
    )


@dataclass(slots=True)
class Repetition:
    """A statement that `route` repeats: in `requests` requests, `queries` in all. `fix` says what to do instead."""

    route: str | None
    relationship: str
    requests: int
    queries: int
    fix: str | None
    fingerprint: str | None
    location: str | None


@dataclass(slots=True)
class Repetitions:
    """A page of them; `total` before paging."""

    total: int
    items: list[Repetition]


def read_n_plus_one(call: Call) -> Repetitions:
    """``GET /n-plus-one``."""
    found = [Repetition(**asdict(one)) for one in book.repeated_queries()]
    return Repetitions(len(found), _page(found, call.query))


# --- resources ---------------------------------------------------------------------------------------


class ResourcesWanted(Page):
    """How much history."""

    limit: Annotated[int, Field(ge=1, le=1000, description="How many readings, at most.")] = 60


@dataclass(slots=True)
class ResourceReport:
    """What is used: the host (the same in all workers), and the worker that answers. Oldest first."""

    worker: int
    host: list[HostReading]
    process: list[ProcessReading]


def read_resources(call: Call) -> ResourceReport:
    """``GET /resources``."""
    history = resources.history()
    return ResourceReport(
        os.getpid(), _latest(history.host, call.query), _latest(history.process, call.query)
    )


def _latest(readings: Sequence[Any], wanted: Page) -> list[Any]:
    """`limit` readings, leaving out the latest `offset`."""
    end = max(0, len(readings) - wanted.offset)
    return list(readings[max(0, end - wanted.limit) : end])


@dataclass(slots=True)
class Grown:
    """A line of code, and by how much what it allocated has grown."""

    file: str
    line: int
    bytes: int
    blocks: int


@dataclass(slots=True)
class LeakReport:
    """Of one worker. `began`: tracing has only begun, which makes it slower; ask again later, and compare `worker`."""

    worker: int
    began: bool
    seconds: float
    growth: list[Grown]


def take_leak_snapshot(_: Call) -> LeakReport:
    """``POST /leak-snapshot``."""
    found: LeakSnapshot = resources.leak_snapshot()
    grown = [Grown(one["file"], one["line"], one["size"], one["count"]) for one in map(asdict, found.growth)]
    return LeakReport(os.getpid(), found.began, found.seconds, grown)
