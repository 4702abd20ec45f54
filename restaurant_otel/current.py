"""The request being served in this context, for those who label by route: SQL, cache, measure().

It travels in the OpenTelemetry context beside the span, so that it goes wherever that goes (threads made by
the framework, tasks, greenlets). Not for carrying data between parts of an app.
"""

from __future__ import annotations

from typing import Final, Protocol, cast

from opentelemetry.context import Context, create_key, get_current
from opentelemetry.trace import INVALID_SPAN, Span, set_span_in_context

_REQUEST_KEY: Final = create_key("restaurant-otel-request")
# The API keeps the span under a key of its own, which a context with nothing else in it shows.
_SPAN_KEY: Final[str] = next(iter(set_span_in_context(INVALID_SPAN, Context())))


class Served(Protocol):
    """What a request tells while it is being served."""

    @property
    def route(self) -> str | None:
        """The route template matched so far, such as ``/users/{id}``; None while unknown."""

    def add_timing(self, phase: str, seconds: float) -> None:
        """Add `seconds` to a phase of the ``Server-Timing`` header; nothing where that is not wanted."""


def serving(request: Served, span: Span, context: Context) -> Context:
    """`context` with `request` and its `span` in it: what is attached while the request is served."""
    # Written out instead of two calls of set_value: 0.2 us, where those take 0.9.
    return Context({**context, _SPAN_KEY: span, _REQUEST_KEY: request})


def current_request() -> Served | None:
    """The request being served in this context; None outside of one."""
    return cast("Served | None", get_current().get(_REQUEST_KEY))


def current_route() -> str | None:
    """The route template of the request being served in this context; None outside of one."""
    request = current_request()
    return request.route if request is not None else None
