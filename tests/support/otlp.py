"""Receivers of OTLP, as a collector is one: HTTP/protobuf and gRPC, decoding with opentelemetry.proto.

A receiver may behave badly by its `behaviour`: refuse, be slow, or take the request and never answer. One
that is down is `free_port()` with nobody there. For a real collector see `collector`.
"""

from __future__ import annotations

import gzip
import threading
from concurrent import futures
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan

from tests.support.wait import eventually

SERVER, CLIENT, INTERNAL = (
    ProtoSpan.SPAN_KIND_SERVER,
    ProtoSpan.SPAN_KIND_CLIENT,
    ProtoSpan.SPAN_KIND_INTERNAL,
)


@dataclass
class Behaviour:
    """How a receiver answers: `refuse` (503 / UNAVAILABLE), and seconds of `delay` before the answer."""

    refuse: bool = False
    delay: float = 0.0


@dataclass(frozen=True)
class Span:
    """One received span, with the attributes of its resource."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    status: int
    events: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Point:
    """One received metric point; `value` is a number, or a histogram's count. `delta`: its temporality."""

    name: str
    unit: str
    kind: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    value: float
    sum: float
    bounds: tuple[float, ...]
    delta: bool
    exemplar_traces: tuple[str, ...]


class Receiver:
    """What arrived. Thread-safe. `requests` counts pushes, refused ones included."""

    def __init__(self) -> None:
        self.behaviour = Behaviour()
        self.requests = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._spans: list[Span] = []
        self._pushes: list[list[Point]] = []

    @property
    def endpoint(self) -> str:
        """What OTEL_EXPORTER_OTLP_ENDPOINT is set to."""
        raise NotImplementedError

    @property
    def protocol(self) -> str:
        """What OTEL_EXPORTER_OTLP_PROTOCOL is set to."""
        raise NotImplementedError

    def env(self) -> dict[str, str]:
        """The standard variables that make a process push here, quickly."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": self.protocol,
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_SERVICE_NAME": "shop",
        }

    def spans(self, kind: int | None = None) -> list[Span]:
        """Received spans, of one kind if given."""
        with self._lock:
            return [span for span in self._spans if kind is None or span.kind == kind]

    def points(self, name: str) -> list[Point]:
        """The points called `name` of the latest push that had any."""
        with self._lock:
            for push in reversed(self._pushes):
                if found := [point for point in push if point.name == name]:
                    return found
        return []

    def all_points(self, name: str) -> list[Point]:
        """The points called `name` of every push, in order of arrival."""
        with self._lock:
            return [point for push in self._pushes for point in push if point.name == name]

    def wait_for_spans(self, count: int, kind: int | None = None, within: float = 20.0) -> list[Span]:
        """The spans, once there are at least `count`."""
        eventually(
            lambda: len(self.spans(kind)) >= count, within=within, what=f"{count} spans at the receiver"
        )
        return self.spans(kind)

    def close(self) -> None:
        """Stop receiving; pending slow answers end."""
        self._stopped.set()

    def _take(self, message: Any) -> bool:
        """Note one push; False when it is to be refused."""
        behaviour = self.behaviour
        with self._lock:
            self.requests += 1
        if behaviour.delay:
            self._stopped.wait(behaviour.delay)
        if behaviour.refuse:
            return False
        with self._lock:
            if isinstance(message, trace_service_pb2.ExportTraceServiceRequest):
                self._spans.extend(_spans(message))
            else:
                self._pushes.append(list(_points(message)))
        return True


class HttpReceiver(Receiver):
    """OTLP/HTTP with protobuf bodies, gzip or not."""

    def __init__(self) -> None:
        super().__init__()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._server.block_on_close = False
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def protocol(self) -> str:
        return "http/protobuf"

    def close(self) -> None:
        super().close()
        self._server.shutdown()
        self._server.server_close()


class GrpcReceiver(Receiver):
    """OTLP/gRPC."""

    def __init__(self) -> None:
        super().__init__()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_TraceService(self), self._server)
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_MetricsService(self), self._server)
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def protocol(self) -> str:
        return "grpc"

    def close(self) -> None:
        super().close()
        self._server.stop(grace=0).wait(5)


_REQUESTS: dict[str, Any] = {
    "/v1/traces": trace_service_pb2.ExportTraceServiceRequest,
    "/v1/metrics": metrics_service_pb2.ExportMetricsServiceRequest,
}


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            kind = _REQUESTS.get(self.path)
            if kind is None:
                return self._answer(404)
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            try:
                message = kind.FromString(body)
            except DecodeError:
                return self._answer(400)
            return self._answer(200 if receiver._take(message) else 503)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:  # the pusher gave up waiting
                self.close_connection = True

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


class _TraceService(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        if not self.receiver._take(request):
            context.abort(grpc.StatusCode.UNAVAILABLE, "refused by the test")
        return trace_service_pb2.ExportTraceServiceResponse()


class _MetricsService(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        if not self.receiver._take(request):
            context.abort(grpc.StatusCode.UNAVAILABLE, "refused by the test")
        return metrics_service_pb2.ExportMetricsServiceResponse()


def _spans(request: Any) -> Any:
    for per_resource in request.resource_spans:
        resource = _attributes(per_resource.resource.attributes)
        for per_scope in per_resource.scope_spans:
            for span in per_scope.spans:
                yield Span(
                    name=span.name,
                    kind=span.kind,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    attributes=_attributes(span.attributes),
                    resource=resource,
                    status=span.status.code,
                    events=tuple(event.name for event in span.events),
                    seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                )


def _points(request: Any) -> Any:
    for per_resource in request.resource_metrics:
        resource = _attributes(per_resource.resource.attributes)
        for per_scope in per_resource.scope_metrics:
            for metric in per_scope.metrics:
                kind = metric.WhichOneof("data")
                data = getattr(metric, kind)
                for point in data.data_points:
                    histogram = kind in ("histogram", "exponential_histogram")
                    number = 0.0 if histogram else getattr(point, point.WhichOneof("value"))
                    yield Point(
                        name=metric.name,
                        unit=metric.unit,
                        kind=kind,
                        attributes=_attributes(point.attributes),
                        resource=resource,
                        value=float(point.count if histogram else number),
                        sum=point.sum if histogram else 0.0,
                        bounds=tuple(point.explicit_bounds) if kind == "histogram" else (),
                        delta=getattr(data, "aggregation_temporality", 2) == 1,
                        exemplar_traces=tuple(exemplar.trace_id.hex() for exemplar in point.exemplars),
                    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _value(pair.value) for pair in value.kvlist_value.values}
    return getattr(value, kind) if kind else None


__all__ = [
    "CLIENT",
    "INTERNAL",
    "SERVER",
    "Behaviour",
    "GrpcReceiver",
    "HttpReceiver",
    "Point",
    "Receiver",
    "Span",
]
