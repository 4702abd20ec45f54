"""The request being served in this context, for those who label by route: SQL, cache, measure().

The middleware sets it; everybody else only reads. Not for carrying data between parts of an app.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol


class Served(Protocol):
    """What a request tells while it is being served."""

    @property
    def route(self) -> str | None:
        """The route template matched so far, such as ``/users/{id}``; None while unknown."""

    def add_timing(self, phase: str, seconds: float) -> None:
        """Add `seconds` to a phase of the ``Server-Timing`` header; nothing where that is not wanted."""


current_request: ContextVar[Served | None] = ContextVar("restaurant_otel_request", default=None)


def current_route() -> str | None:
    """The route template of the request being served in this context; None outside of one."""
    request = current_request.get()
    return request.route if request is not None else None
