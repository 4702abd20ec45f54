"""Where telemetry goes: the host app's providers if it has any, else ours, made once a process.

The order of preference, for traces and for metrics alike: the provider given as a setting; the global one
that the app or ``opentelemetry-instrument`` has set; one of our own, made from the standard ``OTEL_*``
variables. Nothing that exists is ever replaced. All of it happens at the first request, query or lifespan
start, not at import: by then the app has had its chance to set providers, and a pre-forking server has
forked.
"""

from __future__ import annotations

# The SDK would import this in the middle of the set-up, which a fork may be waiting for: it registers a lock to be
# taken before a fork and released after, and a fork that had begun by then would release what it has not taken.
import concurrent.futures.thread  # noqa: F401
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Final, Literal

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from restaurant_otel import forks, identity
from restaurant_otel._version import __version__
from restaurant_otel.errors import survived
from restaurant_otel.metrics.otlp import PushReader, build_metric_reader
from restaurant_otel.metrics.registry import registry
from restaurant_otel.metrics.sdk import MirrorReader
from restaurant_otel.settings import Settings
from restaurant_otel.tracing.propagation import Extractor
from restaurant_otel.tracing.queue import SpanQueue
from restaurant_otel.tracing.spans import SCHEMA, SCOPE, NoSpans, Spans, spans_of
from restaurant_otel.tracing.tail import TailSampler

logger = logging.getLogger(__name__)

Signal = Literal["TRACES", "METRICS"]


class _SetUp:
    """The lock under which everything is set up. A fork waits for it, so that no child finds things half made."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._held = False
        forks.follow(before=self._before_fork, in_parent=self._in_parent, in_child=self._in_child)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _before_fork(self) -> None:
        self._held = self._lock.acquire(timeout=_FORK_SECONDS)

    def _in_parent(self) -> None:
        if self._held:
            self._lock.release()

    def _in_child(self) -> None:
        self._lock = threading.RLock()


_FORK_SECONDS: Final = 2.0
set_up_lock: Final = _SetUp()


class Telemetry:
    """The providers in force for one set of settings."""

    def __init__(self, tracer_provider: trace.TracerProvider | None, resource: Resource) -> None:
        self.spans: Spans = _survive(lambda: spans_of(tracer_provider), NoSpans())
        self.tracer: trace.Tracer = (
            trace.NoOpTracer()
            if tracer_provider is None
            else tracer_provider.get_tracer(SCOPE, __version__, SCHEMA)
        )
        self.extractor = Extractor()
        self.shared_resource: Mapping[str, Any] = identity.shared_attributes(resource.attributes)


def flush() -> None:
    """Send off what our own providers still hold, waiting `FLUSH_SECONDS` at most, traces and metrics at once.

    Blocks: not for an event loop.
    """
    flushing = [
        threading.Thread(target=_flush, args=(provider,), name="restaurant-otel-flush", daemon=True)
        for provider in _owned
    ]
    deadline = time.monotonic() + FLUSH_SECONDS
    for thread in flushing:
        thread.start()
    for thread in flushing:
        thread.join(max(0.0, deadline - time.monotonic()))


def _flush(provider: TracerProvider | MeterProvider) -> None:
    _survive(lambda: provider.force_flush(int(FLUSH_SECONDS * 1000)), False)


def disabled() -> bool:
    """Whether the operator has switched OpenTelemetry off with ``OTEL_SDK_DISABLED``."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


_global: Telemetry | None = None
_mirror: MirrorReader | None = None
_owned: list[TracerProvider | MeterProvider] = []

FLUSH_SECONDS: Final = 2.0
"""How long the end of an app waits for a collector, at most."""


def before_scrape() -> None:
    """Bring the numbers of the host app's own OpenTelemetry instruments up to date."""
    if _mirror is not None:
        _mirror.mirror()


def telemetry_for(settings: Settings) -> Telemetry:
    """The telemetry that `settings` ask for; the process-wide one where they name no provider.

    Never raises: what cannot be set up is logged, and left out. Any thread.
    """
    global _global
    with set_up_lock:
        if settings.tracer_provider is None and settings.meter_provider is None:
            if _global is None:
                _global = _set_up(settings)
            return _global
        return _set_up(settings)


def tracer() -> trace.Tracer:
    """The process-wide tracer, for parts that no app's settings reach (SQL)."""
    current = _global
    return current.tracer if current is not None else telemetry_for(Settings.resolve({})).tracer


def _set_up(settings: Settings) -> Telemetry:
    resource = _survive(identity.resource, Resource.get_empty())
    _survive(lambda: _set_up_metrics(settings.meter_provider, resource), None)
    found = settings.tracer_provider or _host_tracer_provider()
    if found is None:
        found = _survive(lambda: _own_tracer_provider(resource, settings), None)
    return Telemetry(found, getattr(found, "resource", resource))


def _survive(make: Callable[[], Any], otherwise: Any) -> Any:
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - exporters and detectors are other people's code
        survived("set-up", error)
        return otherwise


# --- traces ------------------------------------------------------------------------------------------


def _host_tracer_provider() -> trace.TracerProvider | None:
    provider = trace.get_tracer_provider()
    return None if isinstance(provider, trace.ProxyTracerProvider) else provider


def _own_tracer_provider(resource: Resource, settings: Settings) -> TracerProvider | None:
    exporters = [make() for make in _exporters("TRACES")]
    if not exporters:
        return None
    provider = tracer_provider_with(exporters, resource, settings)
    _owned.append(provider)
    trace.set_tracer_provider(provider)
    return provider


def tracer_provider_with(
    exporters: list[Any], resource: Resource | None = None, settings: Settings | None = None
) -> TracerProvider:
    """An SDK provider that hands spans to `exporters` through our queue; head sampler and limits by ``OTEL_*``."""
    provider = TracerProvider(resource=resource)
    for exporter in exporters:
        queue = SpanQueue(exporter)
        if settings is None or settings.tail_sampling_ratio is None:
            provider.add_span_processor(queue)
        else:
            slow = settings.tail_sampling_slow_seconds, settings.tail_sampling_slow_routes
            provider.add_span_processor(TailSampler(queue, settings.tail_sampling_ratio, *slow))
    return provider


# --- metrics -----------------------------------------------------------------------------------------


def _set_up_metrics(given: metrics.MeterProvider | None, resource: Resource) -> None:
    provider = given or _host_meter_provider()
    if provider in _owned:
        return
    if provider is not None:
        # The host's pipeline gets the same numbers through the public API; /metrics keeps answering from the cells.
        registry().use_meter(provider.get_meter(SCOPE, __version__, schema_url=SCHEMA))
        return
    global _mirror
    mirror = MirrorReader(registry())
    readers: list[MirrorReader | PushReader] = [mirror]
    readers += [build_metric_reader(make(), registry(), resource) for make in _exporters("METRICS")]
    own = MeterProvider(readers, resource)
    for reader in readers:
        reader.start()
    _mirror = mirror  # not before: a scrape in another thread would ask a reader that nobody has yet
    _owned.append(own)
    metrics.set_meter_provider(own)


def _host_meter_provider() -> metrics.MeterProvider | None:
    provider = metrics.get_meter_provider()
    # The API has no public name for "not set yet"; a test tells should this one change.
    return None if type(provider).__name__ == "_ProxyMeterProvider" else provider


# --- exporters by the standard variables ------------------------------------------------------------

_PROTOCOLS: Final = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}


def _exporters(signal: Signal) -> list[Callable[[], Any]]:
    found = []
    for name in exporter_names(signal, os.environ):
        points = entry_points(group=f"opentelemetry_{signal.lower()}_exporter", name=name)
        if not points:
            logger.error(
                "OpenTelemetry %s exporter %r is not installed; for OTLP: pip install 'restaurant-otel[otlp]'",
                signal.lower(),
                name,
            )
            continue
        found.append(next(iter(points)).load())
    return found


def exporter_names(signal: Signal, environ: Mapping[str, str]) -> list[str]:
    """The exporters that the standard variables ask for, by entry point name.

    ``OTEL_TRACES_EXPORTER`` and ``OTEL_METRICS_EXPORTER`` decide; where one is not set, an OTLP endpoint
    asks for OTLP, and nothing asks for nothing. ``prometheus`` is what /metrics does already.
    """
    names = environ.get(f"OTEL_{signal}_EXPORTER", "").strip()
    if not names:
        endpoint = environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT") or environ.get(
            "OTEL_EXPORTER_OTLP_ENDPOINT"
        )
        names = "otlp" if endpoint else ""
    protocol = environ.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL") or environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL"
    )
    otlp = _PROTOCOLS.get((protocol or "http/protobuf").strip(), f"otlp protocol {protocol}")
    wanted = [name.strip() for name in names.split(",")]
    return [otlp if name == "otlp" else name for name in wanted if name not in {"", "none", "prometheus"}]
