"""Work that takes longer than a request should: done in a thread of one worker, asked after at any.

A job's state is a document on the shelf that workers share, so that whichever worker is asked can tell. Its result is
another, because it may be large: only who asks for that one job reads it. Few at a time, and the oldest are forgotten.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from secrets import token_hex
from typing import Any, Final, Literal

from restaurant_otel import forks
from restaurant_otel.administration.operations import Problem
from restaurant_otel.administration.shared import Shelf
from restaurant_otel.errors import survived

MOST_RUNNING: Final = 2
"""In one worker."""

MOST_KEPT: Final = 50

_SILENT: Final = 60.0
"""Seconds without a word after which a running job's worker is taken for dead."""

_OFTEN, _SELDOM = 0.25, 5.0
"""Seconds between two words: where there is something to say, and where there is nothing."""

_PREFIX: Final = "job-"
_RESULT: Final = "result-"

State = Literal["running", "done", "failed", "interrupted"]


@dataclass(slots=True)
class Job:
    """One job. `progress` is a share of 1; times are seconds since the epoch.

    `result` is there once it is done, and only where one job is asked for: a list has none.
    """

    id: str
    kind: str
    state: State
    by: str
    started: float
    updated: float
    progress: float = 0.0
    step: str = ""
    ended: float | None = None
    error: str | None = None
    result: Any = None
    worker: int = field(default_factory=os.getpid)


class FailedError(Exception):
    """The work could not be done; the message is for whoever asked for it."""


class StoppedError(Exception):
    """The work is not wanted any longer."""


Report = Callable[[float, str], None]
"""Called by the work, again and again, with its progress (a share of 1) and what it is doing. Raises StoppedError."""


class Jobs:
    """The jobs of an app. Any thread."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._start_over()
        forks.follow(in_child=self._start_over)

    def _start_over(self) -> None:
        self._lock = threading.RLock()
        self._running: dict[str, Job] = {}

    def start(self, kind: str, by: str, work: Callable[[Report], Any]) -> Job:
        """Begin; the job as it is now. Raises Problem where too many are running."""
        now = time.time()
        # The time comes first, so that names sort by age; the rest nobody can guess.
        job = Job(f"{int(now * 1000):013x}-{token_hex(8)}", kind, "running", by, now, now)
        with self._lock:
            if len(self._running) >= MOST_RUNNING:
                raise Problem(HTTPStatus.CONFLICT, "Too many jobs are running.", Retry_After="30")
            self._running[job.id] = job
            atexit.register(self.close)
        try:
            self._publish(job)
            threading.Thread(
                target=self._run, args=(job, work), name="restaurant-otel-job", daemon=True
            ).start()
        except BaseException:
            self._leave(job)
            raise
        self._forget_old()
        return job

    def get(self, name: str) -> Job | None:
        """The job with this id, and its result."""
        try:
            job = self._find(name)
        except ValueError:  # no name that a document could have
            return None
        if job is not None and job.state == "done":
            job.result = self._shelf.get(_RESULT + name)
        return job

    def list(self) -> list[Job]:
        """All that are remembered, latest first, without their results."""
        names = reversed(self._shelf.names(_PREFIX))
        return [job for name in names if (job := self._find(name.removeprefix(_PREFIX))) is not None]

    def _find(self, name: str) -> Job | None:
        document = self._shelf.get(_PREFIX + name)
        if document is None:
            return None
        job = Job(**document)
        if job.state == "running" and time.time() - job.updated > _SILENT:
            job.state = "interrupted"
        return job

    def close(self) -> None:
        """Have all that are running end, and say so, without waiting for it."""
        with self._lock:
            for job in self._running.values():
                job.state = "interrupted"
                self._publish_quietly(job)

    def _run(self, job: Job, work: Callable[[Report], Any]) -> None:
        def report(progress: float, step: str) -> None:
            progress, since = min(1.0, max(job.progress, progress)), time.time() - job.updated
            new = (progress, step) != (job.progress, job.step)
            with self._lock:  # who closes has the last word
                if job.state != "running":
                    raise StoppedError
                if step != job.step or since >= (_OFTEN if new else _SELDOM):
                    job.progress, job.step = progress, step
                    self._publish(job)

        try:
            # First the result: who hears that the job is done finds it there.
            self._shelf.put(_RESULT + job.id, work(report))
            job.state, job.progress, job.step = "done", 1.0, ""
        except StoppedError:
            pass
        except FailedError as error:
            job.state, job.error = "failed", str(error)
        except Exception as error:  # noqa: BLE001 - told to whoever asks; what exactly, to the log
            survived("admin job", error)
            job.state, job.error = "failed", "It could not be done; the log of the app says why."
        finally:
            self._leave(job)
            job.ended = time.time()
            self._publish_quietly(job)

    def _leave(self, job: Job) -> None:
        with self._lock:
            self._running.pop(job.id, None)
            if not self._running:
                atexit.unregister(self.close)

    def _publish_quietly(self, job: Job) -> None:
        try:
            self._publish(job)
        except Exception as error:  # noqa: BLE001 - nobody is left to tell
            survived("admin job", error)

    def _publish(self, job: Job) -> None:
        job.updated = time.time()
        self._shelf.put(_PREFIX + job.id, asdict(job))

    def _forget_old(self) -> None:
        for name in self._shelf.names(_PREFIX)[:-MOST_KEPT]:
            self._shelf.remove(name)
            self._shelf.remove(_RESULT + name.removeprefix(_PREFIX))
