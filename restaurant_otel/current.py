"""The request being served in this context, for those who label by route: SQL, cache, measure().

It travels in the OpenTelemetry context beside the span, so that it goes wherever that goes (threads made by
the framework, tasks, greenlets). Not for carrying data between parts of an app.
"""

from __future__ import annotations

from typing import Final, Protocol, cast

from opentelemetry.context import Context, create_key, get_current
from opentelemetry.trace import INVALID_SPAN, set_span_in_context

REQUEST_KEY: Final = create_key("restaurant-otel-request")
"""Where a context holds the request."""

SPAN_KEY: Final[str] = next(iter(set_span_in_context(INVALID_SPAN, Context())))
"""Where a context holds the span: the API's own key, which a context with nothing else in it shows."""


class Served(Protocol):
    """What a request tells while it is being served."""

    @property
    def route(self) -> str | None:
        """The route template matched so far, such as ``/users/{id}``; None while unknown."""

    def add_timing(self, phase: str, seconds: float) -> None:
        """Add `seconds` to a phase of the ``Server-Timing`` header; nothing where that is not wanted."""


def current_request() -> Served | None:
    """The request being served in this context; None outside of one."""
    return cast("Served | None", get_current().get(REQUEST_KEY))


def current_route() -> str | None:
    """The route template of the request being served in this context; None outside of one."""
    request = current_request()
    return request.route if request is not None else None
