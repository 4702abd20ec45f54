"""Real databases for the SQL tests: SQLite in a file and a PostgreSQL of our own, through every driver."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
import sqlalchemy as sa
from opentelemetry import context
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import SpanProcessor
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from restaurant_otel import sql
from restaurant_otel.current import REQUEST_KEY
from restaurant_otel.metrics.registry import registry
from restaurant_otel.sql import series, slow
from restaurant_otel.sql.book import SlowQuery, slow_queries
from restaurant_otel.sql.notes import notes
from tests.support.processes import free_port
from tests.support.readings import Readings
from tests.support.spans import Spans
from tests.support.wait import eventually

PASSWORD = "Sw0rdf1sh-9041"
POSTGRES_PORT = "TESTS_POSTGRES_PORT"
T = TypeVar("T")


@dataclass(frozen=True)
class Postgres:
    """A running server: its address, and what a URL of it is."""

    port: int

    def url(self, driver: str) -> str:
        return f"postgresql+{driver}://postgres:{PASSWORD}@127.0.0.1:{self.port}/postgres"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server, stopped and removed at the end; skipped where it is not installed."""
    port = os.environ.get(POSTGRES_PORT)
    if port is not None:  # one that the tests which started these have lent
        yield Postgres(int(port))
        return
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL's server programs (initdb, postgres) are not installed")
    # The server refuses to run as root, and its files must belong to the user it runs as.
    user: dict[str, Any] = {"user": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    server: subprocess.Popen[bytes] | None = None
    try:
        (folder / "password").write_text(PASSWORD)
        if user:
            shutil.chown(folder, "postgres")
            shutil.chown(folder / "password", "postgres")
        initdb = [programs / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "scram-sha-256", "-N"]
        made = subprocess.run(
            [*initdb, f"--pwfile={folder}/password"], **user, cwd=folder, capture_output=True, text=True
        )
        assert made.returncode == 0, made.stderr
        port = free_port()
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(folder), "fsync": "off"}
        if (programs.parent / "lib/pg_stat_statements.so").exists():
            options["shared_preload_libraries"] = "pg_stat_statements"
        arguments = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            command = [programs / "postgres", "-D", folder / "data", "-p", str(port), *arguments]
            server = subprocess.Popen(command, **user, cwd=folder, stdout=log, stderr=log)
        ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        eventually(lambda: subprocess.run(ready).returncode == 0, within=60, what="PostgreSQL ready")
        yield Postgres(port)
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)  # SIGTERM would wait for clients that are still connected
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    for folder in [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), _folder_of("initdb")]:
        if folder is not None and (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    return None


def _folder_of(program: str) -> Path | None:
    found = shutil.which(program)
    return Path(found).resolve().parent if found else None


class Told:
    """What was told of queries since the last `clear`."""

    def __init__(self, spans: Spans, added: Callable[[], Readings]) -> None:
        self._spans = spans
        self._added = added
        self._before = added()

    @property
    def spans(self) -> list[Any]:
        return self._spans.all()

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]

    def count(self, **labels: str) -> int:
        """Executions counted, by Prometheus labels."""
        return int(self.gained().total("db_client_operation_duration_seconds_count", **labels))

    def series(self) -> list[dict[str, str]]:
        """The label sets that have counted anything."""
        return [
            dict(key) for key in self.gained().samples.get("db_client_operation_duration_seconds_count", {})
        ]

    def everything(self) -> str:
        """Every word that was told, in spans and labels."""
        return "\n".join([*(span.to_json() for span in self.spans), *map(str, self.series())])

    def clear(self) -> None:
        self._spans.clear()
        self._before = self._added()

    def total(self, name: str, **labels: str) -> float:
        """What was gained by any metric."""
        return self.gained().total(name, **labels)

    def gained(self) -> Readings:
        """Everything that was gained."""
        return self._added() - self._before


@pytest.fixture
def told(spans: Spans, added: Callable[[], Readings]) -> Iterator[Told]:
    """Queries are told to this from here on."""
    sql.uninstall()  # another test's app may have installed it, with a tracer of its own
    for thread in threading.enumerate():
        if thread.name == "restaurant-otel-sql":
            thread.join(10)  # it ends with the job in hand, which may be an earlier test's plan
    sql.install(tracer=lambda: spans.provider.get_tracer("tests"))
    yield Told(spans, added)
    sql.uninstall()


def fresh_words() -> None:
    """Forget texts, places and plans: one process plays many in these tests."""
    notes.save()  # what an earlier test's keeper has taken is to be written before it is removed
    notes.forget()
    group = registry().group
    if group is not None:  # a test has forked: since then there is a folder, with the words of earlier tests
        for file in Path(group.root).glob(f"*/{group.name}/*.note"):
            file.unlink()
    series.forget()
    slow.forget()


@pytest.fixture
def everything_is_slow(told: Told, spans: Spans) -> None:
    """Every query is kept, with its plan; none is a repetition."""
    fresh_words()
    sql.uninstall()
    sql.install(
        tracer=lambda: spans.provider.get_tracer("tests"), options=sql.Options(slow_seconds=0.0, repeats=0)
    )


def explained(is_it: Callable[[SlowQuery], bool]) -> SlowQuery:
    """The slow query that `is_it`, once it has its plan or the reason why not."""

    def found() -> list[SlowQuery]:
        return [each for each in slow_queries() if is_it(each) and (each.plan or each.no_plan)]

    eventually(found)
    return found()[0]


class Request:
    """A request as the middleware would be serving it: ``with Request("/guests") as request: ...``."""

    def __init__(self, route: str) -> None:
        self.route = route
        self.timings: list[tuple[str, float]] = []

    def add_timing(self, phase: str, seconds: float) -> None:
        self.timings.append((phase, seconds))

    def __enter__(self) -> Self:
        self._token = context.attach(context.set_value(REQUEST_KEY, self))
        return self

    def __exit__(self, *_: object) -> None:
        context.detach(self._token)


class Database:
    """One database by one driver. `run` works the same whether that is a sync or an async one."""

    def __init__(self, url: str) -> None:
        self.url = sa.engine.make_url(url)  # SQLAlchemy 1.4 has it nowhere else
        self.driver = self.url.drivername.partition("+")[2] or "pysqlite"
        self.is_async = self.driver in {"aiosqlite", "asyncpg"}
        self.system = self.url.get_backend_name()

    def engine(self, **options: Any) -> Any:
        return (create_async_engine if self.is_async else sa.create_engine)(self.url, **options)

    def run(self, work: Callable[[sa.Connection], T], **options: Any) -> T:
        """Run `work` on a new engine, in a transaction that is committed."""
        if self.is_async:
            return asyncio.run(self._run_async(work, options))
        engine = self.engine(**options)
        try:
            warm(engine)
            with engine.begin() as connection:
                return work(connection)
        finally:
            engine.dispose()

    async def _run_async(self, work: Callable[[sa.Connection], T], options: dict[str, Any]) -> T:
        engine = self.engine(**options)
        try:
            await warm_async(engine)
            async with engine.begin() as connection:
                return await connection.run_sync(work)
        finally:
            await engine.dispose()


def warm(engine: sa.Engine) -> None:
    """Have the dialect ask the server what it is, untold: it does so on an engine's first connection."""
    with suppress_instrumentation(), engine.connect():
        pass


async def warm_async(engine: Any) -> None:
    """The same for an async engine."""
    with suppress_instrumentation():
        async with engine.connect():
            pass


async def stream_rows(database: Database, statement: Any) -> int:
    """Stream the result of a SELECT; how many rows it has."""
    engine = database.engine()
    await warm_async(engine)
    async with AsyncSession(engine) as session:
        result = await session.stream(statement)
        rows = len([row async for row in result])
    await engine.dispose()
    return rows


async def cancel_query(database: Database, statement: str, has_begun: Callable[[], object]) -> None:
    """Cancel the task that executes `statement` once it `has_begun`."""
    engine = database.engine()
    await warm_async(engine)

    async def query() -> None:
        async with engine.connect() as connection:
            await connection.execute(sa.text(statement))

    task = asyncio.create_task(query())
    await asyncio.to_thread(eventually, has_begun)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await engine.dispose()


@pytest.fixture
def counting_starts(spans: Spans) -> list[str]:
    """Names of the spans that began, to hold against those that ended."""
    begun: list[str] = []

    class Counter(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            begun.append(span.name)

    spans.provider.add_span_processor(Counter())
    return begun


@pytest.fixture(params=["pysqlite", "aiosqlite", "psycopg", "asyncpg"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """Each database by each driver, with an empty table ``users (id, name)``."""
    if "sqlite" in request.param:
        database = Database(f"sqlite+{request.param}:///{tmp_path}/guests.db")
    else:
        database = Database(request.getfixturevalue("postgres").url(request.param))
    database.run(fresh_tables)
    if "told" in request.fixturenames:
        request.getfixturevalue("told").clear()
    return database


metadata = sa.MetaData()
users = sa.Table(
    "users", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(80))
)


def fresh_tables(connection: sa.Connection) -> None:
    metadata.drop_all(connection)
    metadata.create_all(connection)
