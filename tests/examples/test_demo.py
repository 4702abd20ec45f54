"""The demo: it shows, it sums up, it tells good from bad by its exit status, and it leaves nothing behind.

Each test runs the real thing, `python -m examples.restaurant.demo`, with a temporary folder of its own;
whatever process or file has to do with that folder is the demo's.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.sql.conftest import Postgres
from tests.support.servers import ROOT, clean_env
from tests.support.wait import eventually

ENDS_WITHIN = 60.0
NO_PROMETHEUS = {"PATH": "/nonexistent"}
"""Where Prometheus is not what a test is about."""


class Demo:
    """A running demo and what it printed; the context manager ends it and all that is its own."""

    def __init__(self, folder: Path, env: Mapping[str, str], terminal: bool) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self._log = folder / "output"
        self._master: int | None = None
        slave: int | None = None
        if terminal:
            self._master, slave = os.openpty()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "examples.restaurant.demo"],
                cwd=ROOT,
                env=clean_env({"TMPDIR": str(self.temporary), **env}),
                stdin=slave if terminal else subprocess.DEVNULL,
                stdout=slave if terminal else log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_take_terminal if terminal else None,
            )
        if slave is not None:
            os.close(slave)

    def output(self) -> str:
        """All that was printed so far."""
        if self._master is not None:
            os.set_blocking(self._master, False)
            with suppress(OSError), self._log.open("ab") as log:  # nothing more for now, or hung up
                while chunk := os.read(self._master, 65536):
                    log.write(chunk)
                    log.flush()
        return self._log.read_text(errors="replace")

    def says(self, text: str) -> str:
        """Wait until it has printed `text`; everything printed until then."""
        eventually(
            lambda: text in self.output() or self.process.poll() is not None, within=ENDS_WITHIN, what=text
        )
        output = self.output()
        assert text in output, (
            f"it ended with status {self.process.returncode} before it said {text!r}: {output}"
        )
        return output

    def press_ctrl_c(self) -> None:
        """What the terminal does when a person does it."""
        assert self._master is not None
        os.write(self._master, b"\x03")

    def ends(self) -> tuple[int, str]:
        """Wait for its end; its exit status and all that it printed."""
        eventually(
            lambda: (self.output(), self.process.poll() is not None)[1], within=ENDS_WITHIN, what="its end"
        )
        assert self.process.returncode is not None
        return self.process.returncode, self.output()

    def parts(self, name: str = "") -> list[psutil.Process]:
        """Living processes that were started with its folder, `name` in their command."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                ours = process.environ().get("TMPDIR", "").startswith(str(self.temporary))
                alive = process.status() != psutil.STATUS_ZOMBIE
                if ours and alive and process.pid != self.process.pid and name in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def assert_nothing_left(self) -> None:
        """No process, no file, nobody at the ports it named."""
        assert self.parts() == []
        assert list(self.temporary.iterdir()) == []
        for port in set(re.findall(r"http://127\.0\.0\.1:(\d+)", self.output())):
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", int(port))) != 0, f"port {port} answers"

    def close(self) -> None:
        """End whatever is left."""
        for pid in (*(part.pid for part in self.parts()), self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        if self._master is not None:
            os.close(self._master)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


Start = Callable[..., Demo]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(terminal=False, DURATION="5", ...) -> Demo`."""
    with ExitStack() as stack:

        def begin(terminal: bool = False, **env: str) -> Demo:
            running = Demo(tmp_path, env, terminal)
            stack.callback(running.close)
            return running

        yield begin


def test_it_ends_by_itself_with_a_summary_and_leaves_nothing(start: Start) -> None:
    demo = start(DURATION="5")
    if shutil.which("prometheus"):
        demo.says("/graph?g0.expr=")
        assert demo.parts("prometheus")
    status, output = demo.ends()  # not 0 if Prometheus runs and has no numbers of the app
    assert status == 0, output
    assert re.search(r"\nall \d{2,} requests were answered as they should be, and counted once\n", output), (
        output
    )
    for column in ("requests", "errors", "mean", "p95", "queries each"):
        assert column in output
    assert "slowest on average: /reports/" in output
    assert "most queries for one request: /" in output
    assert re.search(r"cache: answered [\d.]+ % of its look-ups", output)
    demo.assert_nothing_left()


def test_several_workers_are_counted_as_one_app(start: Start) -> None:
    demo = start(DURATION="4", WORKERS="2")
    demo.says("2 worker(s)")
    status, output = demo.ends()
    assert status == 0, output
    demo.assert_nothing_left()


def test_on_postgresql_it_works_in_a_schema_of_its_own_and_drops_it(start: Start, postgres: Postgres) -> None:
    demo = start(DURATION="3", DATABASE_URL=postgres.url("psycopg"), **NO_PROMETHEUS)
    status, output = demo.ends()
    assert status == 0, output
    with psycopg.connect(postgres.url("psycopg").replace("+psycopg", "")) as connection:
        schemas = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'restaurant%'")
        assert schemas.fetchall() == []
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE tablename = 'schedules'")
        assert tables.fetchall() == []
    demo.assert_nothing_left()


def test_where_prometheus_is_not_installed_it_is_left_out(start: Start) -> None:
    status, output = start(DURATION="2", **NO_PROMETHEUS).ends()
    assert status == 0, output
    assert "not installed" in output


def test_in_a_terminal_figures_are_drawn_in_place_until_ctrl_c(start: Start) -> None:
    demo = start(terminal=True, **NO_PROMETHEUS)
    drawn = demo.says("F\x1b[J")  # up over what was drawn, and away with it
    up = re.search(r"\x1b\[J([^\x1b]*)\x1b\[(\d+)F", drawn)
    assert up is not None
    assert up[1].count("\n") == int(up[2]) > 1
    demo.press_ctrl_c()
    status, output = demo.ends()
    assert status == 0, output
    assert "queries each" in output.rpartition("\x1b[J")[2]
    demo.assert_nothing_left()


@pytest.mark.parametrize("said", ["metrics     http", ""], ids=["in the middle", "at once"])
def test_sigterm_ends_it_in_order(start: Start, said: str) -> None:
    demo = start(**NO_PROMETHEUS)
    eventually(lambda: demo.parts() or any(demo.temporary.iterdir()), what="the demo has begun")
    demo.says(said)
    demo.process.send_signal(signal.SIGTERM)
    status, output = demo.ends()
    assert status == 0, output
    demo.assert_nothing_left()


def test_it_fails_when_the_app_dies_and_says_so(start: Start) -> None:
    demo = start(**NO_PROMETHEUS)
    demo.says("metrics     http")
    [app] = demo.parts("uvicorn")
    app.kill()
    status, output = demo.ends()
    assert status == 1, output
    assert "demo failed: the app ended with status -9" in output
    demo.assert_nothing_left()


def test_it_fails_when_the_app_does_not_start_and_shows_why(start: Start) -> None:
    demo = start(DURATION="3", RESTAURANT_OTEL_SERIES_LIMIT="many")
    status, output = demo.ends()
    assert status == 1, output
    assert "demo failed: the app ended with status" in output
    assert "SERIES_LIMIT" in output
    demo.assert_nothing_left()


def test_it_fails_when_the_app_has_no_metrics(start: Start) -> None:
    demo = start(DURATION="3", RESTAURANT_OTEL_METRICS_PATH="off", **NO_PROMETHEUS)
    status, output = demo.ends()
    assert status == 1, output
    assert "/metrics answers 404" in output
    demo.assert_nothing_left()


def test_it_fails_when_queries_are_not_counted(start: Start) -> None:
    demo = start(DURATION="2", RESTAURANT_OTEL_SQL="off", **NO_PROMETHEUS)
    status, output = demo.ends()
    assert status == 1, output
    assert "/metrics counted no SQL query" in output


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DURATION", "long"),
        ("WORKERS", "0"),
        ("RATE", "0"),
        ("PORT", "99999"),
        ("DATABASE_URL", "mysql://u@h/d"),
        ("DATABASE_URL", "postgresql://u@127.0.0.1:1/d"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(start: Start, name: str, value: str) -> None:
    demo = start(**{name: value})
    status, output = demo.ends()
    assert status == 1, output
    assert output.strip().startswith("demo failed: ")
    assert name in output
    assert "Traceback" not in output
    demo.assert_nothing_left()


def test_a_port_that_is_taken_is_not_mistaken_for_the_app(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, output = start(PORT=str(taken.getsockname()[1]), DURATION="3").ends()
    assert status == 1
    assert "in use" in output
