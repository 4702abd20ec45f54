"""Which cells a request is counted in, found by what it is: three look-ups instead of a set of labels.

A `RequestLine` is what a request begins with, a `Series` what it has become at its end. Both are made once
for each combination and remembered; all their values come from code, never from the client.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from opentelemetry.trace import SpanContext

from restaurant_otel import catalog, forks
from restaurant_otel.conventions import (
    KNOWN_METHODS,
    OTHER,
    known_method,
    known_scheme,
    known_version,
    usual_form,
)
from restaurant_otel.errors import survived
from restaurant_otel.metrics import CounterCell, HistogramCell, registry
from restaurant_otel.metrics.cells import Sampled, are_plain
from restaurant_otel.serving.headers import is_html

_SERIES_REMEMBERED: Final = 20_000

SeriesKey = tuple[str | None, int | None, str | None]
"""Route, status, and ``error.type``; None where there is none."""

Headers = Iterable[tuple[Any, Any]]
"""A response's, as the app gave them."""


class Series(Sampled):
    """One kind of finished request: its cells, and what its spans have in common."""

    __slots__ = (
        "attributes",
        "duration",
        "failed",
        "name",
        "plain",
        "request_size",
        "response_size",
        "time_to_first_byte",
    )

    def __init__(self, line: RequestLine, route: str | None, status: int | None, problem: str | None) -> None:
        super().__init__()
        cells = registry()
        labels = (line.method, route, status, line.scheme, line.version, problem)
        self.duration: HistogramCell = cells.histogram(catalog.HTTP_SERVER_REQUEST_DURATION).bind(*labels)
        self.request_size = cells.histogram(catalog.HTTP_SERVER_REQUEST_BODY_SIZE).bind(*labels)
        self.response_size = cells.histogram(catalog.HTTP_SERVER_RESPONSE_BODY_SIZE).bind(*labels)
        first_byte = cells.histogram(catalog.HTTP_SERVER_TIME_TO_FIRST_BYTE)
        self.time_to_first_byte = first_byte.bind(line.method, route)
        known: dict[str, Any] = {
            "http.response.status_code": status,
            "http.route": route,
            "error.type": problem,
        }
        self.attributes = {name: value for name, value in known.items() if value is not None}
        self.name = line.name if route is None else f"{line.name} {route}"
        self.failed = problem is not None
        self.plain = are_plain(line.active, self.duration, self.time_to_first_byte, self.response_size)

    def record_duration(self, seconds: float, ended: float, context: SpanContext) -> None:
        """Count a sampled request that took `seconds` until `ended` (`perf_counter`), as an exemplar if it is due."""
        if self.takes(seconds, ended):
            self.duration.record_with_exemplar(seconds, context.trace_id, context.span_id)
        else:
            self.duration.record(seconds)


class RequestLine:
    """A method, scheme and HTTP version as labels have them, and the requests in flight that began so."""

    __slots__ = ("active", "form", "known", "method", "name", "scheme", "version")

    def __init__(self, method: str, scheme: str, version: str | None) -> None:
        self.method = method
        self.scheme = scheme
        self.version = version
        self.name = method if method != OTHER else "HTTP"
        active = registry().counter(catalog.HTTP_SERVER_ACTIVE_REQUESTS)
        self.active: CounterCell = active.bind(method, scheme)
        self.form = usual_form(method, scheme, version)
        """What the attributes of usual requests are copied from."""
        self.known: dict[SeriesKey, Series] = {}
        """What such requests have become so far, by route, status and ``error.type``."""

    def series(self, key: SeriesKey, headers: Headers) -> Series:
        """The series of `key`, made if need be, and remembered within bounds.

        `headers` are those of the first response that it stands for. They tell here, once, whether the route is a
        page, so that no later request pays for that.
        """
        series = Series(self, *key)
        if len(self.known) < _SERIES_REMEMBERED:
            self.known[key] = series
        try:
            self._note_page(key, headers)
        except Exception as error:  # noqa: BLE001 - headers are the app's own, whatever it made of them
            survived("page", error)
        return series

    def _note_page(self, key: SeriesKey, headers: Headers) -> None:
        route, status, problem = key
        answered = problem is None and status is not None and 200 <= status < 300
        if answered and route is not None and self.method == "GET" and is_html(headers):
            registry().gauge(catalog.HTTP_SERVER_PAGE).bind(route).set(1)


class RequestLines:
    """All request lines of a middleware, by what the server says of the request."""

    def __init__(self) -> None:
        self.known: dict[tuple[Any, Any, Any], RequestLine] = {}
        """Those seen so far, by method, scheme and version as they come."""
        forks.follow(in_child=self._start_over)

    def _start_over(self) -> None:
        # A child's gauges are empty: what a series says but once is said again.
        self.known = {}

    def find(self, key: tuple[Any, Any, Any]) -> RequestLine:
        """The line for values that are not `known` yet: what is no standard becomes ``_OTHER``, or absent."""
        method, scheme, version = key
        if isinstance(version, str):
            version = version.removeprefix("HTTP/")  # as WSGI servers say it
        normal = (known_method(method), known_scheme(scheme), known_version(version))
        line = self.known.get(normal)
        if line is None:
            line = self.known[normal] = RequestLine(*normal)
        if method in KNOWN_METHODS and scheme == normal[1] and normal[2] is not None:
            self.known[key] = line  # a handful; what clients invent is not remembered
        return line
