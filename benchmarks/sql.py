"""What one query costs: SQLAlchemy bare, ours, and contrib's instrumentation, in one process, side by side.

Added cost is a variant's cost minus bare SQLAlchemy's. Ours is all of it: spans, metrics, the query book, N+1; each
sample is one request of an app. "Package" is contrib's instrumentor as it comes, with its pool counters and connect
spans; "tracer" its `EngineTracer` alone, attached by hand. Because the package refuses SQLAlchemy 2.1, all run under
2.0 (which `scripts/setup bench` has put aside), unless --this-version is given. On SQLite in memory and on a
PostgreSQL that is started for it. Spans go to a processor that drops them: what exporting costs is the same for all,
and no business of a query.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from opentelemetry import context
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
from restaurant_otel.current import REQUEST_KEY
from restaurant_otel.metrics import registry
from tests.sql import conftest

table = sa.Table(
    "guests", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String)
)
by_id = sa.select(table).where(table.c.id == sa.bindparam("id"))
rename = sa.update(table).where(table.c.id == sa.bindparam("guest")).values(name=sa.bindparam("to"))


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


ON_TOP = 5.0 / 15.5
"""What metrics alone may add to a query: 5 us, set on a machine where a bare Core select took 15.5."""

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
    """Neither spans nor what goes beyond metrics: N+1 is looked for by `ours`."""
    sql.install(tracer=lambda: telemetry.tracer, enabled_spans=False, options=sql.Options(repeats=0))
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


SETTINGS: dict[str, tuple[Setting, bool]] = {
    # name: (setting, sampled)
    "bare": (bare, False),
    "metrics only": (metrics_only, True),
    "ours 0 %": (ours, False),
    "ours 100 %": (ours, True),
    "contrib tracer 100 %": (contrib_tracer, True),
    "contrib tracer 100 %, our metrics": (contrib_tracer_and_our_metrics, True),
    "contrib package 0 %": (contrib_package, False),
    "contrib package 100 %": (contrib_package, True),
}

Work = Callable[[sa.Engine, int], None]


def core_select(engine: sa.Engine, number: int) -> None:
    with engine.connect() as connection:
        execute, parameters = connection.execute, {"id": 1}
        for _ in range(number):
            execute(by_id, parameters).fetchall()


def core_update(engine: sa.Engine, number: int) -> None:
    """Statements without rows: the listener alone, and no fetching that it has timed."""
    with engine.begin() as connection:
        execute, parameters = connection.execute, {"guest": 1, "to": "Ada"}
        for _ in range(number):
            execute(rename, parameters)


def connect_and_select(engine: sa.Engine, number: int) -> None:
    parameters = {"id": 1}
    for _ in range(number):
        with engine.connect() as connection:
            connection.execute(by_id, parameters).fetchall()


WORK: dict[str, Work] = {
    "a Core update on an open connection": core_update,
    "a Core select on an open connection": core_select,
    "connect and a Core select": connect_and_select,
}


class Request:
    """A request of an app, as the middleware would be serving it: it has a route, and its queries are counted."""

    route = "/guests/{id}"

    def add_timing(self, phase: str, seconds: float) -> None:
        pass


def counted() -> int:
    name = catalog.DB_CLIENT_OPERATION_DURATION.name
    return sum(
        point.count
        for family in registry().collect()
        if family.metric.name == name
        for point in family.points
    )


def variant(name: str, work: Work, engine: sa.Engine) -> Variant:
    around, sampled = SETTINGS[name]
    telemetry = Telemetry(sampled)

    @contextmanager
    def setting() -> Iterator[None]:
        token = context.attach(context.set_value(REQUEST_KEY, Request()))
        try:
            with around(engine, telemetry):
                work(engine, 20)  # what is learnt of a statement once is not what a query costs
                yield
        finally:
            context.detach(token)

    def run(number: int) -> None:
        work(engine, number)

    see_that_it_works(name, setting, run, telemetry)
    return Variant(name, run, setting)


def see_that_it_works(name: str, setting: Any, run: Any, telemetry: Telemetry) -> None:
    """A variant that tells nothing would win. Raises RuntimeError."""
    spans, counts = telemetry.dropped.count, counted()
    with setting():
        run(5)
    spans, counts = telemetry.dropped.count - spans, counted() - counts
    told = name.startswith(("ours", "contrib")) and "100 %" in name
    if (spans >= 25) is not told or (counts == 25) is not ("ours" in name or "metrics" in name):
        raise RuntimeError(f"{name}: {spans} spans, {counts} counts for 25 queries")


def measure(title: str, work: Work, engine: sa.Engine, arguments: argparse.Namespace) -> tuple[Any, bool]:
    variants = [variant(name, work, engine) for name in SETTINGS]
    costs = harness.measure(variants, number=arguments.queries, rounds=arguments.rounds)
    if work is connect_and_select:
        figures = [
            Figure(f"{share}: ours / contrib's package", ratio(costs, share), goal, aim)
            for share, goal, aim in (("100 %", 0.30, 0.15), ("0 %", 0.25, 0.10))
        ]
    else:
        on_top = costs.added_at_best("contrib tracer 100 %, our metrics", "contrib tracer 100 %")
        name = "metrics alone, on top of contrib's tracer (fastest samples)"
        figures = [
            Figure(name, on_top, 5.0, unit="us"),
            Figure("the same / a bare query", on_top / costs.at_best("bare"), ON_TOP),
        ]
    harness.show(title, costs, figures, over="bare")
    return harness.as_json(title, costs, figures, over="bare"), all(figure.holds for figure in figures)


def ratio(costs: harness.Costs, share: str) -> float:
    return costs.ratio(f"ours {share}", f"contrib package {share}", over="bare")


@contextmanager
def engines(arguments: argparse.Namespace) -> Iterator[dict[str, sa.Engine]]:
    """SQLite in memory, PostgreSQL on loopback; each with the table and one row."""
    with contextlib.ExitStack() as stack:
        urls = {"SQLite": "sqlite://"}
        if arguments.only != "sqlite":
            started = conftest.postgres.__wrapped__()  # the fixture's generator
            stack.callback(started.close)
            urls["PostgreSQL"] = next(started).url("psycopg")
        if arguments.only == "postgresql":
            del urls["SQLite"]
        found = {}
        for name, url in urls.items():
            engine = found[name] = sa.create_engine(url)
            stack.callback(engine.dispose)
            with engine.begin() as connection:
                table.create(connection)
                connection.execute(table.insert(), {"id": 1, "name": "Ada"})
        yield found


def under_sqlalchemy_2_0() -> None:
    """Begin anew under SQLAlchemy 2.0, if this is another one."""
    folder = Path(sys.prefix) / "versions" / "sqlalchemy-2.0"
    if sa.__version__.startswith("2.0."):
        return
    if not folder.is_dir():
        sys.exit(f"{folder} is missing: run `scripts/setup bench`, or take --this-version")
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    arguments = [sys.executable, "-m", "benchmarks.sql", *sys.argv[1:]]
    os.execve(sys.executable, arguments, {**os.environ, "PYTHONPATH": path})


def main() -> int:
    parser = harness.parser(__doc__, rounds=60)
    parser.add_argument("--only", choices=("sqlite", "postgresql"), help="one database only")
    parser.add_argument("--this-version", action="store_true", help="under the SQLAlchemy that is installed")
    parser.add_argument(
        "--queries", type=int, default=100, metavar="N", help="queries a sample (%(default)s)"
    )
    arguments = harness.parse(parser)
    if not arguments.this_version:
        under_sqlalchemy_2_0()
    print(f"SQLAlchemy {sa.__version__}; the machine's load: {os.getloadavg()[0]:.1f}")
    with engines(arguments) as found:
        results = [
            measure(f"{database}: {title}; added cost over bare", work, engine, arguments)
            for database, engine in found.items()
            for title, work in WORK.items()
        ]
    harness.write_json(arguments, [content for content, _ in results])
    return 0 if all(holds for _, holds in results) else 1


if __name__ == "__main__":
    sys.exit(main())
