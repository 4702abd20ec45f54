"""What one query costs: SQLAlchemy bare, ours, and contrib's instrumentation, in one process, side by side.

Added cost is a variant's cost minus bare SQLAlchemy's. Contrib's instrumentor refuses SQLAlchemy 2.1, so
its tracer is attached by hand where only queries are compared; "package" is its instrumentor with that
check skipped: pool counters and connect spans included. Spans go to a processor that drops them: what
exporting costs is the same for all, and no business of a query.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from sqlalchemy.engine import Dialect

from benchmarks import harness
from benchmarks.harness import Figure, Variant
from restaurant_otel import catalog, sql
from restaurant_otel.metrics import registry

QUERIES = 1_000  # a sample's: what it takes to install and to learn the statement is spread over so many

table = sa.Table(
    "guests", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String)
)
by_id = sa.select(table).where(table.c.id == sa.bindparam("id"))


class Dropped(SpanProcessor):
    """Counts spans and drops them."""

    def __init__(self) -> None:
        self.count = 0

    def on_end(self, span: ReadableSpan) -> None:
        self.count += span.context.trace_flags & 1


class Telemetry:
    """Providers of one variant."""

    def __init__(self, sampled: bool) -> None:
        self.dropped = Dropped()
        self.provider = TracerProvider(sampler=ALWAYS_ON if sampled else ALWAYS_OFF, shutdown_on_exit=False)
        self.provider.add_span_processor(self.dropped)
        self.meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
        self.tracer = self.provider.get_tracer("benchmark")


Setting = Callable[[sa.Engine, Telemetry], Any]
"""A context manager within which an engine's queries are observed."""


@contextmanager
def bare(engine: sa.Engine, telemetry: Telemetry) -> Iterator[None]:
    # SQLAlchemy never forgets that a dialect once had listeners, and then asks for them at every query.
    Dialect._has_events = False
    yield


@contextmanager
def ours(engine: sa.Engine, telemetry: Telemetry) -> Iterator[None]:
    sql.install(tracer=lambda: telemetry.tracer)
    yield
    sql.uninstall()


@contextmanager
def metrics_only(engine: sa.Engine, telemetry: Telemetry) -> Iterator[None]:
    sql.install(tracer=lambda: telemetry.tracer, enabled_spans=False)
    yield
    sql.uninstall()


@contextmanager
def contrib_tracer(engine: sa.Engine, telemetry: Telemetry) -> Iterator[None]:
    Dialect._has_events = False
    counter = telemetry.meters.get_meter("benchmark").create_up_down_counter("db.client.connections.usage")
    EngineTracer(telemetry.tracer, engine, counter)
    yield
    EngineTracer.remove_all_event_listeners()


@contextmanager
def contrib_tracer_and_our_metrics(engine: sa.Engine, telemetry: Telemetry) -> Iterator[None]:
    with contrib_tracer(engine, telemetry), metrics_only(engine, telemetry):
        yield


@contextmanager
def contrib_package(engine: sa.Engine, telemetry: Telemetry) -> Iterator[None]:
    Dialect._has_events = False
    instrumentor = SQLAlchemyInstrumentor()
    instrumentor.instrument(
        engine=engine,
        tracer_provider=telemetry.provider,
        meter_provider=telemetry.meters,
        skip_dep_check=True,
    )
    yield
    instrumentor.uninstrument()


SETTINGS: dict[str, tuple[Setting, bool, int, bool]] = {
    # name: (setting, sampled, spans a query on an open connection, counted by our metric)
    "bare": (bare, False, 0, False),
    "metrics only": (metrics_only, True, 0, True),
    "ours 0 %": (ours, False, 0, True),
    "ours 100 %": (ours, True, 1, True),
    "contrib tracer 0 %": (contrib_tracer, False, 0, False),
    "contrib tracer 100 %": (contrib_tracer, True, 1, False),
    "contrib tracer 100 %, our metrics": (contrib_tracer_and_our_metrics, True, 1, True),
    "contrib package 0 %": (contrib_package, False, 0, False),
    "contrib package 100 %": (contrib_package, True, 1, False),
}

Work = Callable[[sa.Engine, int], None]


def driver_sql(engine: sa.Engine, number: int) -> None:
    with engine.connect() as connection:
        execute = connection.exec_driver_sql
        for _ in range(number):
            execute("SELECT id, name FROM guests").fetchall()


def core_select(engine: sa.Engine, number: int) -> None:
    with engine.connect() as connection:
        execute, parameters = connection.execute, {"id": 1}
        for _ in range(number):
            execute(by_id, parameters).fetchall()


def connect_and_select(engine: sa.Engine, number: int) -> None:
    parameters = {"id": 1}
    for _ in range(number):
        with engine.connect() as connection:
            connection.execute(by_id, parameters).fetchall()


WORK: dict[str, Work] = {
    "driver SQL on an open connection": driver_sql,
    "Core select on an open connection": core_select,
    "connect and Core select": connect_and_select,
}


def counted() -> int:
    name = catalog.DB_CLIENT_OPERATION_DURATION.name
    return sum(
        point.count
        for family in registry().collect()
        if family.metric.name == name
        for point in family.points
    )


def variant(name: str, work: Work, url: str) -> Variant:
    setting, sampled, spans, counts = SETTINGS[name]
    telemetry, engine = Telemetry(sampled), sa.create_engine(url)

    def run(number: int) -> None:
        with setting(engine, telemetry):
            work(engine, number)

    with engine.begin() as connection:
        table.drop(connection, checkfirst=True)
        table.create(connection)
        connection.execute(table.insert(), {"id": 1, "name": "Ada"})
    before = counted()
    run(5)
    connects = work is connect_and_select and setting is contrib_package
    expected = (
        0 if not sampled else spans * (10 if connects else 5) + (setting is contrib_package and not connects)
    )
    if telemetry.dropped.count != expected or counted() - before != (5 if counts else 0):
        raise AssertionError(
            f"{name}: {telemetry.dropped.count} spans, {counted() - before} counts for 5 queries"
        )
    return Variant(name, run)


def measure(title: str, work: Work, arguments: argparse.Namespace) -> tuple[dict[str, object], bool]:
    variants = [variant(name, work, arguments.database_url) for name in SETTINGS]
    costs = harness.measure(variants, number=arguments.queries, rounds=arguments.rounds)
    figures = [
        Figure("metrics only, added", costs.added("metrics only", "bare").median, 5.0, unit="us"),
        Figure(
            "metrics on top of contrib's tracer, added",
            costs.added("contrib tracer 100 %, our metrics", "contrib tracer 100 %").median,
            5.0,
            unit="us",
        ),
        Figure(
            "100 %: ours / contrib's tracer",
            costs.ratio("ours 100 %", "contrib tracer 100 %", over="bare"),
            1.0,
        ),
        Figure(
            "0 %: ours / contrib's tracer", costs.ratio("ours 0 %", "contrib tracer 0 %", over="bare"), 1.0
        ),
    ]
    if work is connect_and_select:
        package = "contrib package"
        figures += [
            Figure(
                "100 %: ours / package",
                costs.ratio("ours 100 %", f"{package} 100 %", over="bare"),
                0.30,
                0.15,
            ),
            Figure("0 %: ours / package", costs.ratio("ours 0 %", f"{package} 0 %", over="bare"), 0.25, 0.10),
        ]
    harness.show(title, costs, figures, over="bare")
    return harness.as_json(title, costs, figures, over="bare"), all(figure.holds for figure in figures)


def main() -> int:
    parser = harness.parser(__doc__, rounds=40)
    parser.add_argument("--database-url", default="sqlite://", help="where to run the queries (%(default)s)")
    parser.add_argument(
        "--queries", type=int, default=QUERIES, metavar="N", help="queries a sample (%(default)s)"
    )
    arguments = harness.parse(parser)
    database = sa.make_url(arguments.database_url).get_backend_name()
    results = [
        measure(f"{database}: {title}; added cost over bare", work, arguments) for title, work in WORK.items()
    ]
    harness.write_json(arguments, [content for content, _ in results])
    return 0 if all(holds for _, holds in results) else 1


if __name__ == "__main__":
    sys.exit(main())
