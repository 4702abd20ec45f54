"""A server span that costs a tenth of the SDK's, for pipelines that only look at spans when they have ended.

`ServerSpan` keeps plain slots and one dict while the request runs, and becomes an SDK `ReadableSpan` when
somebody exports it. Every public `Span` method behaves as the SDK's does; what only hooks and handlers
use (events, links, attributes set by the app) is handled by the SDK's own bounded types, made when first
needed. Where a processor wants to see spans begin, or a sampler is not one of the standard ones, the SDK's
span is used instead: `restaurant_otel.tracing.spans` decides.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Mapping
from time import time_ns
from types import TracebackType
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode

from restaurant_otel import forks

logger = logging.getLogger(__name__)

# One lock for all spans: it guards what the app does to its own span, which is rare and short. The request
# path itself writes from one thread and takes no lock.
_lock = forks.Lock()
_ending = forks.Lock()


class Pipeline:
    """What the spans of one tracer share: whose they are, what bounds them, and where they go when ended."""

    __slots__ = ("limits", "on_end", "resource", "scope")

    def __init__(
        self, resource: Resource, scope: InstrumentationScope, limits: SpanLimits, on_end: Any
    ) -> None:
        self.resource = resource
        self.scope = scope
        self.limits = limits
        self.on_end = on_end


class ServerSpan(Span):
    """A recording, sampled SERVER span. Made by `restaurant_otel.tracing.spans` only."""

    __slots__ = (
        "_attributes",
        "_bounded",
        "_context",
        "_end_time",
        "_events",
        "_links",
        "_name",
        "_parent",
        "_pipeline",
        "_start_time",
        "_status",
    )

    def __init__(
        self,
        pipeline: Pipeline,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        attributes: dict[str, Any],
    ) -> None:
        self._pipeline = pipeline
        self._name = name
        self._context = context
        self._parent = parent
        self._attributes: Any = attributes
        self._bounded = False
        self._events: Any = None
        self._links: Any = None
        self._status = _UNSET
        self._end_time: int | None = None
        self._start_time = time_ns()

    # --- the public Span ------------------------------------------------------------------------------

    def get_span_context(self) -> SpanContext:
        """The span's identity."""
        return self._context

    def is_recording(self) -> bool:
        """True until the span has ended."""
        return self._end_time is None

    def set_attribute(self, key: str, value: Any) -> None:
        """Set one attribute, checked and bounded as the SDK does."""
        if self._still_open("attribute"):
            with _lock:
                self._bound()[key] = value

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set several attributes."""
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        """Add an event; `timestamp` in nanoseconds since the epoch, now by default."""
        if not self._still_open("event"):
            return
        limits = self._pipeline.limits
        bounded = _frozen(attributes, limits.max_event_attributes, limits)
        with _lock:
            if self._events is None:
                self._events = BoundedList(limits.max_events)
            self._events.append(Event(name=name, attributes=bounded, timestamp=timestamp))

    def add_link(self, context: SpanContext, attributes: Any = None) -> None:
        """Add a link to another span; one that carries nothing is ignored."""
        if not (context and (context.is_valid or attributes or context.trace_state)):
            return
        if not self._still_open("link"):
            return
        limits = self._pipeline.limits
        bounded = _frozen(attributes, limits.max_link_attributes, limits)
        with _lock:
            if self._links is None:
                self._links = BoundedList(limits.max_links)
            self._links.append(Link(context, bounded))

    def update_name(self, name: str) -> None:
        """Rename the span."""
        if self._still_open("name"):
            self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set the status, as the specification orders them: OK is final, UNSET never replaces."""
        if not self._still_open("status") or self._status.status_code is StatusCode.OK:
            return
        if isinstance(status, Status):
            if status.status_code is StatusCode.UNSET:
                return
            if description is not None:
                logger.warning(
                    "Description %s ignored. Use either `Status` or `(StatusCode, Description)`", description
                )
            self._status = status
        elif status is not StatusCode.UNSET:
            self._status = Status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Any = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Add an ``exception`` event with type, message and stack trace."""
        kind = type(exception)
        name = (
            kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        )
        event: dict[str, Any] = {
            "exception.type": name,
            "exception.message": str(exception),
            "exception.stacktrace": "".join(traceback.format_exception(exception)),
            "exception.escaped": str(escaped),
        }
        self.add_event("exception", {**event, **(attributes or {})}, timestamp)

    def end(self, end_time: int | None = None) -> None:
        """End the span and hand it on; a second call only warns. `end_time` in nanoseconds since the epoch."""
        with _ending:
            if self._end_time is not None:
                logger.warning("Calling end() on an ended span.")
                return
            self._end_time = time_ns() if end_time is None else end_time
        self._pipeline.on_end(self)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if exc_val is not None and self.is_recording():
            self.record_exception(exc_val, escaped=True)
            self.set_status(StatusCode.ERROR, f"{type(exc_val).__name__}: {exc_val}")
        super().__exit__(exc_type, exc_val, exc_tb)

    # --- what hooks and exporters read ------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        """What hooks read off the SDK's span (`name`, `attributes`, `kind`, `status`, ...), as it stands now."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.readable(), name)

    def readable(self) -> ReadableSpan:
        """The span as the SDK's exporters and processors know it."""
        limits = self._pipeline.limits
        plain = limits.max_span_attribute_length is None and not self._bounded
        if not plain or len(self._attributes) > (limits.max_span_attributes or _NO_LIMIT):
            with _lock:
                self._bound()
        return ReadableSpan(
            name=self._name,
            context=self._context,
            parent=self._parent,
            resource=self._pipeline.resource,
            attributes=self._attributes,
            events=self._events or (),
            links=self._links or (),
            kind=SpanKind.SERVER,
            status=self._status,
            start_time=self._start_time,
            end_time=self._end_time,
            instrumentation_scope=self._pipeline.scope,
        )

    # --- inside ---------------------------------------------------------------------------------------

    def finish(self, name: str, attributes: Mapping[str, Any]) -> None:
        """Name the span, add attributes that need no check because this package made them, and end it."""
        if self._end_time is None:
            self._name = name
            self._attributes.update(attributes)
            self._end_time = time_ns()
            self._pipeline.on_end(self)

    def _still_open(self, what: str) -> bool:
        if self._end_time is None:
            return True
        logger.warning("Setting %s on ended span.", what)
        return False

    def _bound(self) -> Any:
        """The attributes as the SDK's bounded, checking mapping; turned into one at the first need."""
        if not self._bounded:
            limits = self._pipeline.limits
            self._attributes = BoundedAttributes(
                limits.max_span_attributes,
                self._attributes,
                immutable=False,
                max_value_len=limits.max_span_attribute_length,
            )
            self._bounded = True
        return self._attributes


def _frozen(attributes: Any, most: int | None, limits: SpanLimits) -> BoundedAttributes:
    """The attributes of an event or a link, `most` of them, as the SDK keeps them."""
    return BoundedAttributes(most, attributes, max_value_len=limits.max_attribute_length, immutable=True)


_UNSET = Status(StatusCode.UNSET)
_NO_LIMIT = sys.maxsize
