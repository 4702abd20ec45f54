"""How the advisor opens a database: read-only, with time-outs, and by a driver that is not async.

Every connection for advice goes through `read_only`: the session itself refuses to write, whatever is sent.
`apply.py` alone opens another one.
"""

from __future__ import annotations

import importlib.util
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa
from opentelemetry.instrumentation.utils import suppress_instrumentation

from restaurant_otel.sql.advisor.model import AdviseError
from restaurant_otel.sql.queries import describe_error

STATEMENT_SECONDS: Final = 30.0
"""How long one statement of ours may take."""
_DRIVERS: Final = {
    "postgresql": ("psycopg", "psycopg2", "pg8000"),
    "mysql": ("mysqldb", "pymysql", "mysqlconnector"),
    "mariadb": ("mysqldb", "pymysql", "mariadbconnector"),
}
_MODULES: Final = {"mysqldb": "MySQLdb", "mysqlconnector": "mysql.connector", "mariadbconnector": "mariadb"}
_READ_ONLY: Final = {
    "postgresql": (
        "SET default_transaction_read_only = on",
        "SET statement_timeout = {milliseconds}",
        "SET lock_timeout = 2000",
    ),
    "mysql": (
        "SET SESSION TRANSACTION READ ONLY",
        "SET SESSION max_execution_time = {milliseconds}, lock_wait_timeout = 2",
    ),
    "mariadb": (
        "SET SESSION TRANSACTION READ ONLY",
        "SET SESSION max_statement_time = {seconds}, lock_wait_timeout = 2",
    ),
}


def usable(url: str | sa.URL | Any) -> sa.URL:
    """The URL with a driver that can be used here; AdviseError, without the URL, where there is none."""
    url = getattr(url, "url", url)
    if isinstance(url, str):
        if url.startswith("postgres://"):  # as hosting companies like to write it
            url = "postgresql" + url.removeprefix("postgres")
        try:
            url = sa.make_url(url)
        except (sa.exc.ArgumentError, ValueError):
            raise AdviseError(
                "the database's URL is not one: postgresql://user@host/database or sqlite:///file"
            ) from None
    system, _, driver = url.drivername.partition("+")
    if system == "sqlite":
        return url.set(drivername="sqlite")
    drivers = _DRIVERS.get(system)
    if drivers is None:
        return url
    for name in (driver, *drivers) if driver in drivers else drivers:
        if importlib.util.find_spec(_MODULES.get(name, name).partition(".")[0]) is not None:
            return url.set(drivername=f"{system}+{name}")
    raise AdviseError(f"no driver for {system} is installed: pip install {drivers[0]}")


@contextmanager
def read_only(url: sa.URL) -> Iterator[sa.Connection]:
    """A connection, each statement a transaction of its own, that can change nothing. Of one thread."""
    engine = _engine(url)
    try:
        with suppress_instrumentation(), opened(engine) as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def opened(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection of `engine`; AdviseError, with the kind of error only, where there is none."""
    try:
        connection = engine.connect()
    except (sa.exc.SQLAlchemyError, OSError, sqlite3.Error) as error:
        raise AdviseError(f"the database cannot be opened: {failure(error)}") from None
    with connection:
        yield connection


def failure(error: BaseException) -> str:
    """An error's kind and code. Its message stays here: databases quote values in them."""
    kind, code = describe_error(error)
    return kind if code is None else f"{kind} ({code})"


def sqlite_path(url: sa.URL) -> Path:
    """The file of a SQLite database; AdviseError where it has none, or none that exists."""
    name = url.database or ""
    if name.startswith("file:"):
        name = name.removeprefix("file:").partition("?")[0]
    if not name or name == ":memory:":
        raise AdviseError("a SQLite database in memory has no file that could be looked at")
    path = Path(name)
    if not path.is_file():
        raise AdviseError("the SQLite database's file does not exist")
    return path


class Patience:
    """Ends what a SQLite connection runs for too long: SQLite itself knows no such limit.

    SQLite calls us back now and then, and Python turns whatever that raises, a Ctrl-C too, into the same error as our
    refusal to wait any longer; `watched` tells the two apart.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._deadline = 0.0
        self._is_late = False
        connection.set_progress_handler(self._ask, 100_000)

    def allow(self, seconds: float) -> None:
        """What runs from here on may take so long."""
        self._deadline, self._is_late = time.monotonic() + seconds, False

    def _ask(self) -> bool:
        self._is_late = time.monotonic() > self._deadline
        return self._is_late

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Raises KeyboardInterrupt where that is what ended a statement, and not we."""
        try:
            yield
        except sqlite3.OperationalError as error:
            self.tell(error)
            raise

    def tell(self, error: BaseException | None) -> None:
        """The same for an `error` that was caught otherwise."""
        interrupted = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
        if interrupted and not self._is_late:
            raise KeyboardInterrupt from None


def _limit_sqlite(engine: sa.Engine) -> None:
    patience: list[Patience] = []  # of the one connection that there is

    @sa.event.listens_for(engine, "connect")
    def begin(connection: Any, _record: Any) -> None:
        patience[:] = [Patience(connection)]
        patience[0].allow(STATEMENT_SECONDS)

    @sa.event.listens_for(engine, "before_cursor_execute")
    def allow(*_: Any) -> None:
        patience[0].allow(STATEMENT_SECONDS)

    @sa.event.listens_for(engine, "handle_error")
    def tell(context: Any) -> None:
        patience[0].tell(context.original_exception)


def _engine(url: sa.URL) -> sa.Engine:
    system = url.get_backend_name()
    if system == "sqlite":
        path = sqlite_path(url)

        def connect() -> sqlite3.Connection:
            return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, check_same_thread=False)

        engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.NullPool)
        _limit_sqlite(engine)
        return engine
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    known = {"milliseconds": int(STATEMENT_SECONDS * 1000), "seconds": STATEMENT_SECONDS}

    @sa.event.listens_for(engine, "connect")
    def restrict(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for statement in _READ_ONLY.get(_server(system, cursor), ()):
            cursor.execute(statement.format(**known))
        cursor.close()
        connection.commit()

    return engine


def _server(system: str, cursor: Any) -> str:
    """MySQL and MariaDB answer to each other's URLs, and know different time-outs."""
    if system not in {"mysql", "mariadb"}:
        return system
    cursor.execute("SELECT version()")
    return "mariadb" if "mariadb" in str(cursor.fetchone()[0]).lower() else "mysql"
