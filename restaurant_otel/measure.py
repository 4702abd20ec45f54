"""`measure`: time functions and blocks that are not endpoints."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from time import perf_counter
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.trace import StatusCode

from restaurant_otel import catalog, telemetry
from restaurant_otel.conventions import error_type
from restaurant_otel.current import current_request
from restaurant_otel.errors import survived
from restaurant_otel.metrics.registry import registry

F = TypeVar("F", bound=Callable[..., Any])

_NAME_LENGTH: Final = 200


class measure:  # noqa: N801 - used as a verb: a decorator and a context manager in one, as in contextlib
    """Time a function or a block under `name`, with a span of its own where traces are on.

    As a decorator it takes functions, coroutines and generators (timed until they are exhausted or closed)
    and is safe for any number of threads and tasks. As a context manager, ``with measure("name"):`` in
    plain and asynchronous code alike, make a new one for each block.

    Recorded as ``restaurant.operation.duration`` in seconds; an exception passes through and is counted by
    its type. `name` becomes a label: use a constant.

    Raises:
        ValueError: `name` is empty or not a string.
        TypeError: the decorated function is an asynchronous generator, which cannot be wrapped faithfully.
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(
                f"restaurant-otel: measure() needs a name, a constant such as 'price_menu', not {name!r}"
            )
        self.name = name[:_NAME_LENGTH]
        self._open: list[_Measurement] = []

    def __enter__(self) -> Self:
        measurement = _Measurement(self.name)
        measurement.__enter__()
        self._open.append(measurement)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        self._open.pop().__exit__(kind, error, trace_back)

    def __call__(self, function: F) -> F:
        """`function`, measured."""
        name = self.name
        if inspect.isasyncgenfunction(function):
            raise TypeError(
                f"restaurant-otel: measure({name!r}) cannot wrap the asynchronous generator {function.__qualname__}; "
                "use `with measure(...)` inside it"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def measured_coroutine(*args: Any, **kwargs: Any) -> Any:
                with _Measurement(name):
                    return await function(*args, **kwargs)

            return cast("F", measured_coroutine)
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def measured_generator(*args: Any, **kwargs: Any) -> Any:
                # Its span is not made the current one: a generator may be closed in another context.
                with _Measurement(name, current=False):
                    return (yield from function(*args, **kwargs))

            return cast("F", measured_generator)

        @functools.wraps(function)
        def measured(*args: Any, **kwargs: Any) -> Any:
            with _Measurement(name):
                return function(*args, **kwargs)

        return cast("F", measured)


class _Measurement:
    """One call or block, from its beginning to its end."""

    __slots__ = ("_current", "_name", "_span", "_started", "_token")

    def __init__(self, name: str, *, current: bool = True) -> None:
        self._name = name
        self._current = current
        self._span: trace.Span = trace.INVALID_SPAN
        self._token: Any = None

    def __enter__(self) -> None:
        try:
            self._span = telemetry.tracer().start_span(self._name)
            if self._current:
                self._token = attach(trace.set_span_in_context(self._span))
        except Exception as error:  # noqa: BLE001 - never into the app
            survived("measure", error)
        self._started = perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        seconds = perf_counter() - self._started
        try:
            self._record(seconds, error)
        except Exception as own:  # noqa: BLE001 - never into the app
            survived("measure", own)

    def _record(self, seconds: float, error: BaseException | None) -> None:
        if self._token is not None:
            detach(self._token)
        if isinstance(error, GeneratorExit):
            error = None  # a generator that its reader has had enough of has not failed
        problem = None if error is None else error_type(error)
        registry().histogram(catalog.OPERATION_DURATION).bind(self._name, problem).record(seconds)
        request = current_request()
        if request is not None:
            request.add_timing(self._name, seconds)
        if error is not None and self._span.is_recording():
            self._span.set_attribute("error.type", error_type(error))
            self._span.record_exception(error)
            self._span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {error}")
        self._span.end()
