"""Fixtures for every test: real servers and receivers that always end with it, spans, metric readings."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support import collector as collectors
from tests.support import prometheus as prometheuses
from tests.support import servers
from tests.support.otlp import GrpcReceiver, HttpReceiver, Receiver
from tests.support.readings import Gained, Readings
from tests.support.spans import Spans

# How long an example takes is the machine's business; which examples there are is not left to chance, so that a run
# that fails fails again. Who hunts says `--hypothesis-profile=dice`.
_UNHURRIED = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("same", derandomize=True, database=None, print_blob=True, **_UNHURRIED)
hypothesis.settings.register_profile("dice", **_UNHURRIED)
hypothesis.settings.load_profile("same")


def pytest_configure(config: pytest.Config) -> None:
    """End as on Ctrl-C when told to terminate (`timeout`, a cancelled CI job): what runs is stopped on the way.

    Ctrl-C itself is ignored by what a shell starts in the background, and by all that this starts in turn.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Have the workers of apps meet in a folder of this process's tests: whoever starts removes what others left.

    In memory, as without this. Tests in other processes, under pytest-xdist or by somebody else, have one of theirs.
    """
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = tempfile.mkdtemp(prefix="restaurant-otel-tests-", dir=memory)
    os.environ["XDG_RUNTIME_DIR"] = folder
    session.config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests marked `slow` to those who ask for them: `pytest -m slow`, or any other `-m`."""
    if config.getoption("-m"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]  # `keywords` has a case's name as well
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., servers.Server]]:
    """`serve(server, app, workers=1, env={}, args=(), auto=False) -> Server`: see support/servers.py."""
    numbers = itertools.count()
    with ExitStack() as stack:

        def start(server: str, app: str, **options: Any) -> servers.Server:
            log = tmp_path / f"{server}-{next(numbers)}.log"
            return stack.enter_context(servers.start(server, app, log=log, **options))

        yield start


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[..., prometheuses.Prometheus]]:
    """`prometheus(["127.0.0.1:8000"], config={}) -> Prometheus`; skipped when it is not installed."""
    numbers = itertools.count()
    with ExitStack() as stack:

        def start(targets: Sequence[str], config: Mapping[str, Any] | None = None) -> prometheuses.Prometheus:
            running = prometheuses.start(targets, tmp_path / f"prometheus-{next(numbers)}", config)
            stack.callback(running.stop)
            return running

        yield start


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[collectors.Collector]:
    """A real OpenTelemetry Collector; skipped when none is installed."""
    running = collectors.start(tmp_path / "collector")
    yield running
    running.stop()


@pytest.fixture(params=["http", "grpc"])
def otlp(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    """An OTLP receiver; the test runs once for each protocol."""
    receiver = HttpReceiver() if request.param == "http" else GrpcReceiver()
    yield receiver
    receiver.close()


@pytest.fixture
def otlp_http() -> Iterator[Receiver]:
    """An OTLP/HTTP receiver."""
    receiver = HttpReceiver()
    yield receiver
    receiver.close()


@pytest.fixture
def spans() -> Iterator[Spans]:
    """Finished spans of a provider of the test's own: pass `tracer_provider=spans.provider`."""
    held = Spans()
    yield held
    held.close()


@pytest.fixture
def added() -> Callable[[], Readings]:
    """`added()` reads what this process's metrics have gained since the test began.

    The registry lives as long as the process and is not reset: a test looks at the difference.
    """
    return Gained()
