"""Whether the app can do its work: ``GET /health``.

The open form says yes or no; the parts are for those who may read.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Literal

from restaurant_otel import forks
from restaurant_otel.administration.caches import process_caches
from restaurant_otel.administration.operations import Call
from restaurant_otel.errors import survived
from restaurant_otel.metrics.group import default_root

PATIENCE: Final = 3.0
"""Seconds that a part has to answer."""

_KEPT: Final = 2.0
"""Seconds for which a finding holds, so that asking often costs the parts nothing."""

_LEAST_SPACE: Final = 0.05
_LEAST_BYTES: Final = 64 * 1024 * 1024

State = Literal["ok", "not ok", "not used"]


@dataclass(slots=True)
class Part:
    """One thing that the app needs: `detail` says what was found."""

    name: str
    state: State
    detail: str = ""
    seconds: float | None = None


@dataclass(slots=True)
class Health:
    """`live`: this worker answers. `ready`: no part that is used is not ok."""

    live: bool
    ready: bool
    parts: list[Part] = field(default_factory=list)


@dataclass(slots=True)
class Brief:
    """What strangers are told."""

    status: Literal["ok", "not ok"]


class Examiner:
    """Looks at the parts, each in its time; what hangs is not waited for. Any thread."""

    def __init__(self, database_url: str | None) -> None:
        self._database_url = database_url
        self._start_over()
        forks.follow(in_child=self._start_over)

    def _start_over(self) -> None:
        self._lock = threading.Lock()
        self._found: tuple[float, Health] | None = None
        self._hanging: dict[str, threading.Thread] = {}

    def examine(self) -> Health:
        """The parts now, or as they were two seconds ago; or at the last look, while somebody else looks."""
        before = self._found
        if before is not None and time.monotonic() - before[0] < _KEPT:
            return before[1]
        # Anybody may ask: no more than one thread shall wait for parts that hang.
        if not self._lock.acquire(blocking=before is None):
            assert before is not None  # noqa: S101 - else it would have waited
            return before[1]
        try:
            if self._found is None or self._found is before:
                parts = self._look()
                health = Health(True, all(part.state != "not ok" for part in parts), parts)
                self._found = time.monotonic(), health
            return self._found[1]
        finally:
            self._lock.release()

    def _look(self) -> list[Part]:
        looks: dict[str, Callable[[], Part]] = {
            "database": lambda: _database(self._database_url),
            "cache": _cache,
            "telemetry": _telemetry,
            "disk": _disk,
        }
        found: dict[str, Part] = {}
        threads = {}
        for name, look in looks.items():
            if self._hanging.get(name) is not None and self._hanging[name].is_alive():
                continue  # it has not come back from the last time: one thread is enough
            thread = threading.Thread(target=_note, args=(found, name, look), daemon=True)
            thread.start()
            threads[name] = self._hanging[name] = thread
        deadline = time.monotonic() + PATIENCE
        for thread in threads.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        return [found.get(name) or Part(name, "not ok", f"no answer in {PATIENCE:g} s") for name in looks]


def _note(found: dict[str, Part], name: str, look: Callable[[], Part]) -> None:
    began = time.monotonic()
    try:
        part = look()
    except Exception as error:  # noqa: BLE001 - a part that cannot be asked is not ok
        survived("admin health", error)
        part = Part(name, "not ok", type(error).__name__)
    part.seconds = time.monotonic() - began
    found[name] = part


def _database(url: str | None) -> Part:
    if url is None:
        return Part("database", "not used", "the setting admin_database_url is not set")
    import sqlalchemy
    from sqlalchemy.pool import NullPool

    engine = sqlalchemy.create_engine(url, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT 1"))
    except sqlalchemy.exc.SQLAlchemyError as error:
        return Part("database", "not ok", type(error).__name__)
    return Part("database", "ok", engine.dialect.name)


def _cache() -> Part:
    caches = process_caches()
    if not caches:
        return Part("cache", "not used", "this worker has no cache")
    away = [cache.name for cache in caches if cache.state() == "open"]
    if away:
        return Part("cache", "not ok", f"Redis is away, memory serves: {', '.join(sorted(away))}")
    return Part("cache", "ok", f"{len(caches)} in use")


def _telemetry() -> Part:
    from restaurant_otel.metrics.registry import registry

    families = registry().collect()
    return Part("telemetry", "ok", f"{len(families)} metrics")


def _disk() -> Part:
    root = default_root()
    usage = shutil.disk_usage(root)
    tight = usage.free < max(_LEAST_BYTES, usage.total * _LEAST_SPACE) and usage.free < 1 << 30
    if tight or not os.access(root, os.W_OK):
        return Part("disk", "not ok", f"{usage.free} bytes free where workers keep their numbers")
    return Part("disk", "ok", f"{usage.free} bytes free where workers keep their numbers")


def read_health(call: Call) -> Any:
    """``GET /health/parts``."""
    return call.service.examiner.examine()


def read_brief(call: Call) -> Any:
    """``GET /health``, for all: 503 where a part that is used is not ok."""
    from restaurant_otel.administration.serving import Answer

    if call.service.examiner.examine().ready:
        return Brief("ok")
    return Answer(Brief("not ok"), HTTPStatus.SERVICE_UNAVAILABLE)
