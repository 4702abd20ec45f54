"""A server span that costs a tenth of the SDK's, for pipelines that only look at spans when they have ended.

`ServerSpan` keeps a few plain attributes and one dict while the request runs. It is an SDK `ReadableSpan`, laid out
as that is, so that exporters and processors take it as it stands. Every public `Span` method behaves as the SDK's
does; what only hooks and handlers use (events, links, attributes set by the app) is handled by the SDK's own bounded
types, made when first needed. Where a processor wants to see spans begin, or a sampler is not one of the standard
ones, the SDK's span is used instead: `restaurant_otel.tracing.spans` decides.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Mapping
from time import time_ns
from types import MappingProxyType, TracebackType
from typing import Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Link, Span, SpanContext, SpanKind, Status, StatusCode

from restaurant_otel import forks

logger = logging.getLogger(__name__)

# One lock for all spans: it guards what the app does to its own span, which is rare and short. The request
# path itself writes from one thread and takes no lock.
_lock = forks.Lock()
_ending = forks.Lock()


class Pipeline:
    """What the spans of one tracer share: whose they are, what bounds them, and where they go when ended.

    `room` is the number of attributes up to which a span may keep a plain dict, which neither counts nor cuts.
    """

    __slots__ = ("limits", "on_end", "resource", "room", "scope")

    def __init__(
        self, resource: Resource, scope: InstrumentationScope, limits: SpanLimits, on_end: Any
    ) -> None:
        self.resource = resource
        self.scope = scope
        self.limits = limits
        self.on_end = on_end
        most = sys.maxsize if limits.max_span_attributes is None else limits.max_span_attributes
        self.room = most if limits.max_span_attribute_length is None else -1


_NO_SCOPE: Final = InstrumentationScope("")
_UNSET: Final = Status(StatusCode.UNSET)


class ServerSpan(Span, ReadableSpan):
    """A recording, sampled SERVER span. Made by `restaurant_otel.tracing.spans` only."""

    # What most spans never change is read off the class.
    _kind = SpanKind.SERVER
    _instrumentation_info = None
    _status = _UNSET
    _events: Any = ()
    _links: Any = ()
    _end_time: int | None = None
    _bounded = False
    _attributes: Any

    def __init__(
        self,
        pipeline: Pipeline,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        attributes: dict[str, Any],
    ) -> None:
        self._pipeline = pipeline
        self._resource = pipeline.resource
        self._instrumentation_scope = pipeline.scope
        self._name = name
        self._context = context
        self._parent = parent
        self._attributes = attributes
        self._start_time = time_ns()

    def __repr__(self) -> str:
        return f'{type(self).__name__}(name="{self._name}", context={self._context})'

    # --- the public Span ------------------------------------------------------------------------------

    def get_span_context(self) -> SpanContext:
        """The span's identity."""
        return self._context  # type: ignore[return-value]

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
            if not self._events:
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
            if not self._links:
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
        self._hand_on()

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

    @property
    def attributes(self) -> Any:
        """The attributes as they stand now, not to be written to."""
        self._keep_within_limits()
        return MappingProxyType(self._attributes)

    @property
    def dropped_attributes(self) -> int:
        """How many did not fit into the limits."""
        self._keep_within_limits()
        return self._attributes.dropped if self._bounded else 0

    # --- inside ---------------------------------------------------------------------------------------

    def finish(self, name: str, attributes: Mapping[str, Any]) -> None:
        """Name the span, add attributes that need no check because this package made them, and end it."""
        if self._end_time is None:
            self._name = name
            held = self._attributes
            held.update(attributes)
            self._end_time = time_ns()
            pipeline = self._pipeline
            if len(held) > pipeline.room:
                self._keep_within_limits()
            on_end = pipeline.on_end
            on_end(self)

    def _hand_on(self) -> None:
        self._keep_within_limits()
        self._pipeline.on_end(self)

    def _keep_within_limits(self) -> None:
        if len(self._attributes) > self._pipeline.room:
            with _lock:
                self._bound()

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


def readable_as_known() -> bool:
    """Whether the SDK's `ReadableSpan` keeps what it tells where `ServerSpan` puts it."""
    held = set(vars(ReadableSpan("", resource=Resource.get_empty())))
    ours = ServerSpan(
        Pipeline(Resource.get_empty(), _NO_SCOPE, SpanLimits(), None), "", INVALID_SPAN_CONTEXT, None, {}
    )
    return all(hasattr(ours, name) for name in held)


def _frozen(attributes: Any, most: int | None, limits: SpanLimits) -> BoundedAttributes:
    """The attributes of an event or a link, `most` of them, as the SDK keeps them."""
    return BoundedAttributes(most, attributes, max_value_len=limits.max_attribute_length, immutable=True)
