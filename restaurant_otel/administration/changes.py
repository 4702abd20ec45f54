"""Settings that may change while the app runs: ``GET`` and ``PATCH /settings``.

A change is a document on the workers' shelf. Each worker with the admin API looks every two seconds whether it is
another, in a thread that exists only there, and puts it into force. It ends with the app's last worker: what is to
last belongs into the app's own settings.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError

from restaurant_otel import sql
from restaurant_otel.administration import tags
from restaurant_otel.administration.operations import Call, Given, Problem
from restaurant_otel.administration.shared import Shelf
from restaurant_otel.errors import survived
from restaurant_otel.metrics.ticker import Ticker
from restaurant_otel.tracing import tail

EVERY: Final = 2.0
"""Seconds until another worker has heard of a change, at most."""

_DOCUMENT: Final = "settings"

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
_RATIO: Final = Field(ge=0, le=1, description="Share of the usual traces that the tail sampler keeps.")
_SLOW: Final = Field(ge=0, le=86_400, description="Seconds above which the tail sampler keeps a trace.")
_SLOW_QUERY: Final = Field(ge=0, le=86_400, description="Seconds above which a query is slow, and kept.")
_REPEATS: Final = Field(
    ge=0, le=1_000_000, description="How often a request asks one SELECT before it is N+1; 0: never."
)


class Change(Given):
    """What is to change; the rest stays."""

    tail_sampling_ratio: Annotated[float | None, _RATIO] = None
    tail_sampling_slow_seconds: Annotated[float | None, _SLOW] = None
    sql_slow_seconds: Annotated[float | None, _SLOW_QUERY] = None
    sql_repeats: Annotated[int | None, _REPEATS] = None
    log_level: Annotated[LogLevel | None, Field(description="Of the logger `restaurant_otel`.")] = None


@dataclass(slots=True)
class Changeable:
    """What is in force in the worker that answers.

    The tail sampler's are None where there is none, those of queries where queries are not observed.
    """

    tail_sampling_ratio: float | None
    tail_sampling_slow_seconds: float | None
    sql_slow_seconds: float | None
    sql_repeats: int | None
    log_level: str
    changed: list[str]
    """Those that differ from the app's own settings because somebody changed them here."""


_CHANGE: Final = TypeAdapter(Change)
_SHOWN: Final = TypeAdapter(Changeable)


class Changes:
    """The changes of an app, in one process. Any thread."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._stamp = 0
        self._ticker: Ticker | None = None

    def follow(self) -> None:
        """From now on put into force what any worker changes. A second call does nothing."""
        if self._ticker is None:
            self._ticker = Ticker("restaurant-otel-settings", EVERY, self.look)
            self.look()
            self._ticker.start()

    def close(self) -> None:
        """Stop following, without waiting for the thread to end; what has been changed stays so."""
        ticker, self._ticker = self._ticker, None
        if ticker is not None:
            ticker.stop(timeout=0.0)

    def made(self) -> dict[str, Any]:
        """All changes so far, by setting."""
        document = self._shelf.get(_DOCUMENT)
        try:
            return _CHANGE.validate_python(document or {}).model_dump(exclude_none=True)
        except ValidationError as error:  # another version's, or damaged
            survived("admin settings", error)
            return {}

    def make(self, change: Mapping[str, Any], check: Callable[[], None]) -> None:
        """Make a change, here at once, unless `check` raises, which is called when nobody else can make one."""

        def changed(_: Any) -> dict[str, Any]:
            self.look()
            check()
            return {**self.made(), **change}

        self._shelf.change(_DOCUMENT, changed)
        self.look()

    def look(self) -> None:
        """Put into force what has been changed since the last look. Cheap where nothing has."""
        try:
            stamp = self._shelf.stamp(_DOCUMENT)
            if stamp != self._stamp:
                self._stamp = stamp
                _put_into_force(self.made())
        except Exception as error:  # noqa: BLE001 - in a thread of ours, or of a request that has been noted
            survived("admin settings", error)


def _put_into_force(change: Mapping[str, Any]) -> None:
    if "log_level" in change:
        logging.getLogger("restaurant_otel").setLevel(change["log_level"])
    for sampler in tail.samplers():
        sampler.change(change.get("tail_sampling_ratio"), change.get("tail_sampling_slow_seconds"))
    sql.change(slow_seconds=change.get("sql_slow_seconds"), repeats=change.get("sql_repeats"))


def read_settings(call: Call) -> Changeable:
    """``GET /settings``."""
    call.service.changes.look()
    return _in_force(call)


def _in_force(call: Call) -> Changeable:
    changed = sorted(call.service.changes.made())
    sampler, queries = next(iter(tail.samplers()), None), sql.options()
    return Changeable(
        tail_sampling_ratio=sampler.ratio if sampler is not None else None,
        tail_sampling_slow_seconds=sampler.slow_seconds if sampler is not None else None,
        sql_slow_seconds=queries.slow_seconds if queries is not None else None,
        sql_repeats=queries.repeats if queries is not None else None,
        log_level=logging.getLevelName(logging.getLogger("restaurant_otel").getEffectiveLevel()),
        changed=changed,
    )


def change_settings(call: Call) -> Changeable:
    """``PATCH /settings``. What this app has nothing for is refused: nobody shall believe that it holds."""
    change = call.body.model_dump(exclude_none=True)
    if any(name.startswith("tail_") for name in change) and not tail.samplers():
        raise Problem(
            HTTPStatus.CONFLICT,
            "There is no tail sampler: start the app with the setting tail_sampling_ratio.",
        )
    if any(name.startswith("sql_") for name in change) and sql.options() is None:
        raise Problem(HTTPStatus.CONFLICT, "Queries are not observed: start the app with the setting sql.")
    call.service.changes.make(change, lambda: _check_seen(call))
    return _in_force(call)


def _check_seen(call: Call) -> None:
    """Raise where the client has seen other settings than there are, and says so."""
    if call.if_match is None or tags.match(call.if_match, tags.of(_SHOWN.dump_json(_in_force(call)))):
        return
    raise Problem(HTTPStatus.PRECONDITION_FAILED, "The settings are not those any more: look again.")
