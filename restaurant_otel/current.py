"""The request being served in this context, for those who label by route: SQL, cache, measure().

It travels in the OpenTelemetry context beside the span, so that it goes wherever that goes (threads made by
the framework, tasks, greenlets). Not for carrying data between parts of an app.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, Protocol, cast

import opentelemetry.context as api
from opentelemetry.context import Context, create_key, get_current
from opentelemetry.trace import INVALID_SPAN, set_span_in_context

REQUEST_KEY: Final = create_key("restaurant-otel-request")
"""Where a context holds the request."""

SPAN_KEY: Final[str] = next(iter(set_span_in_context(INVALID_SPAN, Context())))
"""Where a context holds the span: the API's own key, which a context with nothing else in it shows."""


def _variable() -> ContextVar[Context] | None:
    """Where the API keeps the current context; None where it is not a `ContextVar`, or not where we know it."""
    runtime = getattr(api, "_RUNTIME_CONTEXT", None)
    variable = getattr(runtime, "_current_context", None)
    usual = type(runtime).__name__ == "ContextVarsRuntimeContext" and isinstance(variable, ContextVar)
    return variable if usual else None


_found: Final = _variable()

# The API's own functions do the same after two more calls each: 0.15 us instead of 0.6 for all three.
present: Final[Callable[[], Context]] = _found.get if _found is not None else api.get_current
"""The current context."""

enter: Final[Callable[[Context], Any]] = _found.set if _found is not None else api.attach
"""Make a context the current one; gives what `leave` needs."""

_reset: Final[Callable[[Any], None]] = _found.reset if _found is not None else api.detach


def leave(token: Any) -> None:
    """Go back to the context before `enter`. Never raises.

    A server that shuts down may close the app's coroutine from elsewhere: then there is nothing to go back to.
    """
    try:  # noqa: SIM105 - free where nothing is raised, which contextlib.suppress is not
        _reset(token)
    except (ValueError, RuntimeError):
        pass


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
