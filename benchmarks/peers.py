"""The apps under measurement: the same app bare, with ours, and with each peer, each on providers of its own.

Every peer is set up as its documentation says, with its defaults. A `Subject` can tell what telemetry it has
made, so that `verify` shows, before anything is timed, that each variant really did its work. In-process and
socket benchmarks use the same subjects; nothing here measures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from flask import Flask
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as ContribASGI
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware as ContribWSGI
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_ON
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_fastapi_instrumentator import Instrumentator
from prometheus_flask_exporter import PrometheusMetrics  # type: ignore[import-untyped]
from starlette.applications import Starlette
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as StarletteOpenTelemetry
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette_exporter import PrometheusMiddleware

from restaurant_otel import ASGIMiddleware, WSGIMiddleware, catalog
from restaurant_otel.metrics import HistogramPoint, registry
from restaurant_otel.tracing.queue import SpanQueue

Message: TypeAlias = MutableMapping[str, Any]
ASGIApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
WSGIApp: TypeAlias = Callable[[Any, Any], Iterable[bytes]]
App = TypeVar("App", ASGIApp, WSGIApp)

ROUTES = 20
PATH = "/area10/items/42"
HEADERS = (
    ("host", "app.example.com"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "application/json, text/plain, */*"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-language", "en-GB,en;q=0.7"),
    ("cache-control", "no-cache"),
    ("connection", "keep-alive"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
)


# --- telemetry pipelines ------------------------------------------------------------------------------


class DroppingExporter(SpanExporter):
    """Counts what it is given and forgets it: the exporter that costs least."""

    def __init__(self) -> None:
        self.spans = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += len(spans)
        return SpanExportResult.SUCCESS


class Pipeline:
    """An SDK as a user sets it up: batch processor, cumulative metrics read from memory.

    Sampled means the SDK's default sampler, which follows the request's `traceparent`; unsampled means
    ``OTEL_TRACES_SAMPLER=always_off``.
    """

    batch_processor: Callable[[SpanExporter], SpanProcessor] = BatchSpanProcessor

    def __init__(self, *, sampled: bool) -> None:
        self.exporter = DroppingExporter()
        self.tracer_provider = TracerProvider(sampler=DEFAULT_ON if sampled else ALWAYS_OFF)
        self.tracer_provider.add_span_processor(self.batch_processor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self.reader])

    def flush(self) -> None:
        self.tracer_provider.force_flush()

    def spans(self) -> int:
        return self.exporter.spans

    def requests(self) -> int:
        """How often contrib's duration histogram was recorded."""
        data = self.reader.get_metrics_data()
        return sum(
            point.count
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == "http.server.duration"
            for point in metric.data.data_points
            if isinstance(point, HistogramDataPoint)
        )


class OurPipeline(Pipeline):
    """The same with our own batch processor, as `instrument` sets it up where the app has no provider."""

    batch_processor = SpanQueue


def _none() -> int:
    return 0


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Subject(Generic[App]):
    """An app and what can be said of its telemetry: spans exported and requests counted so far."""

    app: App
    spans: Callable[[], int] = _none
    requests: Callable[[], int] = _none
    flush: Callable[[], None] = _nothing
    spans_each: int = 0
    """Spans that one request makes."""
    counts: bool = False
    """Whether it has metrics."""


def _our_requests() -> int:
    return sum(
        point.count
        for family in registry().collect()
        if family.metric.name == catalog.HTTP_SERVER_REQUEST_DURATION.name
        for point in family.points
        if isinstance(point, HistogramPoint)
    )


def _samples(prometheus: CollectorRegistry, name: str) -> int:
    families = prometheus.collect()
    return int(sum(sample.value for family in families for sample in family.samples if sample.name == name))


# --- ASGI ---------------------------------------------------------------------------------------------


async def endpoint(request: Request) -> Response:
    return PlainTextResponse(f"item {request.path_params['item_id']}")


def starlette_app() -> Starlette:
    return Starlette(routes=[Route(f"/area{n}/items/{{item_id}}", endpoint) for n in range(ROUTES)])


def asgi_bare(app: ASGIApp | None = None) -> Subject[ASGIApp]:
    return Subject(app or starlette_app())


def asgi_ours(
    app: ASGIApp | None = None, *, sampled: bool = True, sdk_pipeline: bool = False, **settings: Any
) -> Subject[ASGIApp]:
    pipeline = Pipeline(sampled=sampled) if sdk_pipeline else OurPipeline(sampled=sampled)
    app = ASGIMiddleware(app or starlette_app(), tracer_provider=pipeline.tracer_provider, **settings)
    return Subject(app, pipeline.spans, _our_requests, pipeline.flush, int(sampled), counts=True)


def asgi_contrib(*, sampled: bool = True, inner_spans: bool = True) -> Subject[ASGIApp]:
    pipeline = Pipeline(sampled=sampled)
    app = ContribASGI(
        starlette_app(),
        tracer_provider=pipeline.tracer_provider,
        meter_provider=pipeline.meter_provider,
        exclude_spans=None if inner_spans else ["receive", "send"],
    )
    spans = (3 if inner_spans else 1) if sampled else 0  # server, and one for each message that is sent
    return Subject(app, pipeline.spans, pipeline.requests, pipeline.flush, spans, counts=True)


def asgi_starlette(*, sampled: bool = True) -> Subject[ASGIApp]:
    pipeline = Pipeline(sampled=sampled)
    app = starlette_app()
    app.add_middleware(StarletteOpenTelemetry, tracer_provider=pipeline.tracer_provider)
    return Subject(app, pipeline.spans, flush=pipeline.flush, spans_each=int(sampled))


def asgi_instrumentator() -> Subject[ASGIApp]:
    app, prometheus = starlette_app(), CollectorRegistry()
    Instrumentator(registry=prometheus).instrument(app)
    return Subject(app, requests=lambda: _samples(prometheus, "http_requests_total"), counts=True)


def asgi_starlette_exporter() -> Subject[ASGIApp]:
    app = starlette_app()
    app.add_middleware(PrometheusMiddleware)
    return Subject(app, requests=lambda: _samples(REGISTRY, "starlette_requests_total"), counts=True)


ASGI: dict[str, Callable[[], Subject[ASGIApp]]] = {
    "bare": asgi_bare,
    "ours 100 %": asgi_ours,
    "ours 100 %, the SDK's batch processor": lambda: asgi_ours(sdk_pipeline=True),
    "ours 0 %": lambda: asgi_ours(sampled=False),
    "contrib 100 %": asgi_contrib,
    "contrib 100 %, server span only": lambda: asgi_contrib(inner_spans=False),
    "contrib 0 %": lambda: asgi_contrib(sampled=False),
    "contrib 0 %, server span only": lambda: asgi_contrib(sampled=False, inner_spans=False),
    "starlette 100 %, no metrics": asgi_starlette,
    "starlette 0 %, no metrics": lambda: asgi_starlette(sampled=False),
    "prometheus-fastapi-instrumentator": asgi_instrumentator,
    "starlette_exporter": asgi_starlette_exporter,
}


# --- WSGI ---------------------------------------------------------------------------------------------


def _plain_wsgi(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "7")])
    return [b"item 42"]


def _item(item_id: str) -> str:
    return f"item {item_id}"


def flask_app() -> Flask:
    app = Flask("benchmark")
    for n in range(ROUTES):
        app.add_url_rule(f"/area{n}/items/<item_id>", f"item{n}", _item)
    return app


def wsgi_ours(make: Callable[[], WSGIApp], *, sampled: bool = True) -> Subject[WSGIApp]:
    pipeline = OurPipeline(sampled=sampled)
    app = make()
    if isinstance(app, Flask):
        ours = WSGIMiddleware(app.wsgi_app, tracer_provider=pipeline.tracer_provider)
        app.wsgi_app = ours  # type: ignore[method-assign]
    else:
        app = WSGIMiddleware(app, tracer_provider=pipeline.tracer_provider)
    return Subject(app, pipeline.spans, _our_requests, pipeline.flush, int(sampled), counts=True)


def wsgi_contrib(make: Callable[[], WSGIApp], *, sampled: bool = True) -> Subject[WSGIApp]:
    pipeline = Pipeline(sampled=sampled)
    app = ContribWSGI(
        make(), tracer_provider=pipeline.tracer_provider, meter_provider=pipeline.meter_provider
    )
    return Subject(app, pipeline.spans, pipeline.requests, pipeline.flush, int(sampled), counts=True)


def flask_exporter() -> Subject[WSGIApp]:
    app, prometheus = flask_app(), CollectorRegistry()
    PrometheusMetrics(app, registry=prometheus)
    return Subject(app, requests=lambda: _samples(prometheus, "flask_http_request_total"), counts=True)


def _wsgi(make: Callable[[], WSGIApp]) -> dict[str, Callable[[], Subject[WSGIApp]]]:
    return {
        "bare": lambda: Subject(make()),
        "ours 100 %": lambda: wsgi_ours(make),
        "ours 0 %": lambda: wsgi_ours(make, sampled=False),
        "contrib 100 %": lambda: wsgi_contrib(make),
        "contrib 0 %": lambda: wsgi_contrib(make, sampled=False),
    }


WSGI = _wsgi(lambda: _plain_wsgi)
FLASK = {**_wsgi(flask_app), "prometheus-flask-exporter": flask_exporter}


# --- requests without a server ------------------------------------------------------------------------

_SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.4"},
    "http_version": "1.1",
    "server": ("127.0.0.1", 8000),
    "client": ("127.0.0.1", 41234),
    "scheme": "http",
    "method": "GET",
    "root_path": "",
    "query_string": b"",
}
_RAW_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS]


class WrongAnswerError(RuntimeError):
    """The app did not answer 200, or a variant did not make the telemetry that it should."""


def asgi_scope(path: str = PATH, method: str = "GET") -> dict[str, Any]:
    """What a server hands an app for one request: nothing in it is shared with the next one."""
    return {
        **_SCOPE,
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "headers": list(_RAW_HEADERS),
        "state": {},
    }


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def asgi_runner(
    subject: Subject[ASGIApp], loop: asyncio.AbstractEventLoop, path: str = PATH
) -> Callable[[int], None]:
    """A function that sends n requests, one after the other, and exports what they left to export."""
    app, flush = subject.app, subject.flush

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] != 200:
            raise WrongAnswerError(f"status {message['status']}")

    async def requests(number: int) -> None:
        for _ in range(number):
            await app(asgi_scope(path), _receive, send)

    def run(number: int) -> None:
        loop.run_until_complete(requests(number))
        flush()

    return run


_ENVIRON = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "PATH_INFO": PATH,
    "QUERY_STRING": "",
    "SERVER_NAME": "127.0.0.1",
    "SERVER_PORT": "8000",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "127.0.0.1",
    "REMOTE_PORT": "41234",
    "RAW_URI": PATH,
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.multithread": True,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
    **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in HEADERS},
}


def wsgi_runner(subject: Subject[WSGIApp]) -> Callable[[int], None]:
    """The same for WSGI, reading and closing each body as servers do."""
    app, flush = subject.app, subject.flush

    def start_response(status: str, headers: object, exc_info: object = None) -> Callable[[bytes], object]:
        if not status.startswith("200"):
            raise WrongAnswerError(status)
        return bytes

    def run(number: int) -> None:
        for _ in range(number):
            body = app(dict(_ENVIRON), start_response)
            try:
                for _chunk in body:
                    pass
            finally:
                close = getattr(body, "close", None)
                if close is not None:
                    close()
        flush()

    return run


def verify(name: str, subject: Subject[Any], run: Callable[[int], None]) -> None:
    """Send a few requests and see that each made the spans and counts that it should, no more, no fewer."""
    number = 5
    run(1)  # what a first request does once
    spans, requests = subject.spans(), subject.requests()
    run(number)
    made = subject.spans() - spans, subject.requests() - requests
    due = number * subject.spans_each, number * subject.counts
    if made != due:
        raise WrongAnswerError(f"{name}: {number} requests made {made} spans and counts instead of {due}")
