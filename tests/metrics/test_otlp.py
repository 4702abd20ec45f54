"""Promises of the push: what a collector decodes, cumulative and delta, and what a bad one costs."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ConsoleMetricExporter,
    MetricExporter,
    MetricExportResult,
    MetricReader,
    MetricsData,
)
from opentelemetry.sdk.metrics.export import Gauge as SdkGauge
from opentelemetry.sdk.metrics.export import Histogram as SdkHistogram
from opentelemetry.sdk.metrics.export import Sum as SdkSum
from opentelemetry.sdk.resources import Resource

from restaurant_otel import catalog
from restaurant_otel.catalog import Kind, Metric
from restaurant_otel.metrics import Family, HistogramPoint, NumberPoint, Registry
from restaurant_otel.metrics.otlp import build_metric_reader, difference, snapshot, to_metrics_data
from restaurant_otel.metrics.sdk import MirrorReader
from tests.support.otlp import HttpReceiver, Receiver
from tests.support.processes import free_port
from tests.support.wait import eventually

ORDERS = Metric("shop.orders", "{order}", Kind.COUNTER, "Orders taken.", ("branch", "payment"))
TABLES = Metric("shop.tables", "", Kind.UP_DOWN_COUNTER, "Tables taken.", ("branch",))
OVEN = Metric("shop.oven.temperature", "Cel", Kind.GAUGE, "How hot it is.", ("oven",))
WAIT = Metric("shop.wait", "s", Kind.HISTOGRAM, "Time until served.", ("branch",), (0.5, 10.0))
DISK = Metric("shop.disk.io", "By", Kind.OBSERVED_COUNTER, "Bytes written.")
RESOURCE = Resource({"service.name": "shop", "service.instance.id": "one"})


class Pushed:
    """A meter provider of ours with its registry; pushes only when told to."""

    def __init__(self, exporter: MetricExporter, *others: MetricReader, **options: Any) -> None:
        self.registry = Registry()
        self.reader = build_metric_reader(
            exporter, self.registry, RESOURCE, **{"interval_millis": math.inf, **options}
        )
        self.provider = MeterProvider([*others, self.reader], RESOURCE, shutdown_on_exit=False)
        self.reader.start()
        self.meter = self.provider.get_meter("shop")

    def push(self, within: float = 10.0) -> bool:
        return self.reader.force_flush(within * 1000)

    def dropped(self) -> float:
        return sum(
            point.value
            for family in self.registry.collect_own()
            if family.metric is catalog.TELEMETRY_METRICS_DROPPED
            for point in family.points
            if isinstance(point, NumberPoint)
        )


@pytest.fixture
def pushing() -> Iterator[Callable[..., Pushed]]:
    """`pushing(exporter) -> Pushed`, shut down at the end of the test."""
    made: list[Pushed] = []

    def start(exporter: MetricExporter, *others: MetricReader, **options: Any) -> Pushed:
        made.append(Pushed(exporter, *others, **options))
        return made[-1]

    yield start
    for pushed in made:
        pushed.provider.shutdown(5000)


def exporter_to(receiver: Receiver, **options: Any) -> MetricExporter:
    if receiver.protocol == "grpc":
        return GrpcExporter(endpoint=receiver.endpoint, insecure=True, **options)
    return HttpExporter(endpoint=f"{receiver.endpoint}/v1/metrics", **options)


class Kept(MetricExporter):
    """An exporter that keeps what it is given; it may refuse, raise, or hang until released."""

    def __init__(self, temporality: dict[type, AggregationTemporality] | None = None) -> None:
        super().__init__(preferred_temporality=temporality)
        self.pushes: list[MetricsData] = []
        self.result: MetricExportResult | Exception = MetricExportResult.SUCCESS
        self.release = threading.Event()
        self.release.set()
        self.ended = 0

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        self.release.wait(30)
        if isinstance(self.result, Exception):
            raise self.result
        if self.result is MetricExportResult.SUCCESS:
            self.pushes.append(metrics_data)
        return self.result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self.ended += 1

    def numbers(self, name: str) -> list[float]:
        """The values of a metric's points (a histogram's counts) in the latest push."""
        return [
            getattr(point, "value", None) if not hasattr(point, "count") else point.count  # type: ignore[misc]
            for of_resource in self.pushes[-1].resource_metrics
            for scope in of_resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def names(self) -> list[str]:
        """The metrics of the latest push."""
        return [
            metric.name
            for of_resource in self.pushes[-1].resource_metrics
            for scope in of_resource.scope_metrics
            for metric in scope.metrics
        ]


DELTA = {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}


# --- what arrives ---------------------------------------------------------------------------------------


def test_a_collector_gets_our_metrics_and_the_host_apps_in_one_request(
    otlp: Receiver, pushing: Callable[..., Pushed]
) -> None:
    app = pushing(exporter_to(otlp))
    app.registry.counter(ORDERS).bind("Mitte", None).add(3)
    app.registry.counter(TABLES).bind("Mitte").add(-2)
    app.registry.gauge(OVEN).bind(1).set(180.5)
    wait = app.registry.histogram(WAIT).bind("Mitte")
    wait.record(0.25)
    wait.record_with_exemplar(7.5, 0xABC, 0xDEF)
    app.meter.create_counter("host.hits").add(5, {"page": "menu"})
    assert app.push()
    assert otlp.requests == 1
    (orders,), (tables,), (oven,), (waits,), (hits,) = (
        otlp.points(name)
        for name in ("shop.orders", "shop.tables", "shop.oven.temperature", "shop.wait", "host.hits")
    )
    assert (orders.kind, orders.value, orders.attributes, orders.unit) == (
        "sum",
        3.0,
        {"branch": "Mitte"},
        "{order}",
    )
    assert (tables.kind, tables.value) == ("sum", -2.0)
    assert (oven.kind, oven.value, oven.attributes) == ("gauge", 180.5, {"oven": 1})
    assert (waits.kind, waits.value, waits.sum, waits.bounds) == ("histogram", 2.0, 7.75, (0.5, 10.0))
    assert waits.exemplar_traces == (f"{0xABC:032x}",)
    assert (hits.kind, hits.value, hits.attributes) == ("sum", 5.0, {"page": "menu"})
    for point in (orders, hits):
        assert not point.delta
        assert point.resource == {"service.name": "shop", "service.instance.id": "one"}


def test_our_metrics_are_pushed_when_the_host_app_has_none(
    otlp_http: Receiver, pushing: Callable[..., Pushed]
) -> None:
    app = pushing(exporter_to(otlp_http))
    app.registry.counter(ORDERS).bind("Mitte", "card").add(1)
    assert app.push()
    assert [point.value for point in otlp_http.points("shop.orders")] == [1.0]


def test_what_is_mirrored_for_prometheus_is_not_pushed_twice(pushing: Callable[..., Pushed]) -> None:
    kept = Kept()
    app = pushing(kept)
    mirror = MirrorReader(app.registry, math.inf)
    app.provider.add_metric_reader(mirror)
    app.meter.create_counter("host.hits").add(5)
    mirror.mirror()
    assert any(family.metric.name == "host.hits" for family in app.registry.collect())
    app.push()
    assert kept.numbers("host.hits") == [5]


def test_what_another_instrumentation_counts_under_our_names_is_left_out(
    pushing: Callable[..., Pushed],
) -> None:
    kept = Kept()
    app = pushing(kept)
    app.meter.create_histogram("http.server.request.duration", "s").record(1.0)
    app.registry.histogram(catalog.HTTP_SERVER_REQUEST_DURATION).bind(
        "GET", "/", 200, "http", None, None
    ).record(1.0)
    app.push()
    (scope,) = kept.pushes[-1].resource_metrics[0].scope_metrics
    assert scope.scope.name == "restaurant_otel"
    assert kept.numbers("http.server.request.duration") == [1]


def test_each_kind_has_the_form_of_the_sdk() -> None:
    families = [
        Family(ORDERS, [NumberPoint(("a", None), 1.0, start=5.0), NumberPoint((), 9.0, overflow=True)]),
        Family(TABLES, [NumberPoint(("a",), 2.0)]),
        Family(OVEN, [NumberPoint((1,), 3.0), NumberPoint((2,), math.nan)]),
        Family(WAIT, [HistogramPoint(("a",), [1, 2, 3], 4.5, start=5.0)]),
        Family(Metric("shop.silent", "", Kind.GAUGE, "", ())),
    ]
    (of_resource,) = to_metrics_data(families, RESOURCE).resource_metrics
    (scope,) = of_resource.scope_metrics
    orders, tables, oven, wait = scope.metrics
    assert (of_resource.resource, scope.scope.name) == (RESOURCE, "restaurant_otel")
    assert isinstance(orders.data, SdkSum)
    assert orders.data.is_monotonic
    assert [point.attributes for point in orders.data.data_points] == [
        {"branch": "a"},
        {"otel.metric.overflow": True},
    ]
    assert orders.data.data_points[0].start_time_unix_nano == 5_000_000_000
    assert (orders.description, orders.unit) == ("Orders taken.", "{order}")
    assert isinstance(tables.data, SdkSum)
    assert not tables.data.is_monotonic
    assert isinstance(oven.data, SdkGauge)
    assert [point.value for point in oven.data.data_points] == [3.0]
    assert isinstance(wait.data, SdkHistogram)
    (point,) = wait.data.data_points
    assert (point.count, point.sum, tuple(point.bucket_counts), point.explicit_bounds) == (
        6,
        4.5,
        (1, 2, 3),
        (0.5, 10.0),
    )


def test_families_of_one_name_become_one_metric() -> None:
    others = Metric(ORDERS.name, ORDERS.unit, Kind.COUNTER, ORDERS.help, ("guest",))
    data = to_metrics_data(
        [Family(ORDERS, [NumberPoint(("a", "b"), 1.0)]), Family(others, [NumberPoint(("c",), 2.0)])], RESOURCE
    )
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    assert [point.attributes for point in metric.data.data_points] == [
        {"branch": "a", "payment": "b"},
        {"guest": "c"},
    ]


def test_nothing_measured_is_nothing_to_send() -> None:
    assert to_metrics_data([Family(OVEN, [NumberPoint((1,), math.nan)])], RESOURCE).resource_metrics == []


def test_an_exemplar_is_sent_once(pushing: Callable[..., Pushed]) -> None:
    kept = Kept()
    app = pushing(kept)
    cell = app.registry.histogram(WAIT).bind("a")
    time.sleep(0.01)  # an exemplar's clock must have moved on since the reader was made
    cell.record_with_exemplar(0.1, 7, 8)
    app.push()
    cell.record(0.1)
    app.push()
    sent = [
        [
            exemplar.trace_id
            for exemplar in push.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0].exemplars
        ]
        for push in kept.pushes
    ]
    assert sent == [[7], []]


# --- cumulative and delta ------------------------------------------------------------------------------


@pytest.mark.parametrize("exporter", [HttpExporter, GrpcExporter, ConsoleMetricExporter])
def test_the_sdk_still_tells_what_an_exporter_prefers(
    exporter: type[MetricExporter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Private names of the SDK that its own reader uses as well; should they change, this tells."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    made = exporter()
    assert hasattr(made, "_preferred_aggregation")
    preferred = made._preferred_temporality
    if exporter is not ConsoleMetricExporter:
        assert preferred[Counter] is AggregationTemporality.DELTA
    made.shutdown()


@pytest.mark.parametrize(
    ("preference", "delta"),
    [
        (None, set()),
        ("cumulative", set()),
        ("delta", {"shop.orders", "shop.wait"}),
        ("lowmemory", {"shop.orders", "shop.wait"}),
    ],
)
def test_the_standard_variable_chooses_between_cumulative_and_delta(
    preference: str | None,
    delta: set[str],
    otlp_http: Receiver,
    pushing: Callable[..., Pushed],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if preference is not None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", preference)
    app = pushing(exporter_to(otlp_http))
    for _ in range(2):
        app.registry.counter(ORDERS).bind("a", "b").add(3)
        app.registry.counter(TABLES).bind("a").add(3)
        app.registry.histogram(WAIT).bind("a").record(1.0)
        assert app.push()
    for name, once in (("shop.orders", 3.0), ("shop.tables", 3.0), ("shop.wait", 1.0)):
        (point,) = otlp_http.points(name)
        assert point.delta == (name in delta)
        assert point.value == (once if name in delta else 2 * once)


def test_what_has_not_changed_is_not_in_a_delta(pushing: Callable[..., Pushed]) -> None:
    kept = Kept(DELTA)
    app = pushing(kept)
    app.registry.counter(ORDERS).bind("a", "b").add(3)
    app.registry.counter(TABLES).bind("a").add(1)
    app.push()
    app.push()
    assert "shop.orders" not in kept.names()
    assert kept.numbers("shop.tables") == [1.0]


def test_a_total_that_the_kernel_counts_is_a_sum_whose_beginning_nobody_knows(
    pushing: Callable[..., Pushed], otlp_http: Receiver
) -> None:
    app = pushing(exporter_to(otlp_http))
    app.registry.gauge(DISK).bind().set(4096)
    assert app.push()
    (disk,) = otlp_http.points("shop.disk.io")
    assert (disk.kind, disk.value, disk.delta) == ("sum", 4096.0, False)


def test_what_the_kernel_counted_before_is_in_no_delta(pushing: Callable[..., Pushed]) -> None:
    kept = Kept({ObservableCounter: AggregationTemporality.DELTA})
    app = pushing(kept)
    disk = app.registry.gauge(DISK).bind()
    app.registry.gauge(OVEN).bind(1).set(20)
    disk.set(1_000_000)
    app.push()
    assert "shop.disk.io" not in kept.names()
    disk.set(1_000_007)
    app.push()
    assert kept.numbers("shop.disk.io") == [7.0]


def test_a_delta_that_was_refused_is_in_the_next(pushing: Callable[..., Pushed]) -> None:
    kept = Kept(DELTA)
    app = pushing(kept)
    orders, wait = app.registry.counter(ORDERS).bind("a", "b"), app.registry.histogram(WAIT).bind("a")
    for result in (MetricExportResult.SUCCESS, MetricExportResult.FAILURE, MetricExportResult.SUCCESS):
        kept.result = result
        orders.add(2)
        wait.record(1.0)
        app.push()
    assert kept.numbers("shop.orders") == [4.0]
    assert kept.numbers("shop.wait") == [2]


STEPS = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 5), st.booleans()), max_size=20)


@given(STEPS)
def test_deltas_add_up_to_the_total_whatever_fails(steps: list[tuple[str, int, bool]]) -> None:
    kinds = (Kind.COUNTER, Kind.HISTOGRAM)
    totals = {"a": 0, "b": 0}
    arrived = {"a": 0.0, "b": 0.0}
    measured = {"a": 0.0, "b": 0.0}
    before: dict[Any, Any] = {}
    for branch, amount, success in [*steps, ("a", 0, True)]:
        totals[branch] += amount
        families = [
            Family(ORDERS, [NumberPoint((name, None), float(total)) for name, total in totals.items()]),
            Family(
                WAIT, [HistogramPoint((name,), [total, 0, 0], total / 2) for name, total in totals.items()]
            ),
        ]
        added = list(difference(families, before, kinds, 1.0))
        if success:
            before = snapshot(families, kinds)
            for point in added[0].points:
                arrived[str(point.values[0])] += point.value  # type: ignore[union-attr]
            for point in added[1].points:
                measured[str(point.values[0])] += point.count  # type: ignore[union-attr]
    assert arrived == measured == totals


# --- when it is pushed ---------------------------------------------------------------------------------


def test_it_pushes_at_the_interval_of_the_standard_variable(
    otlp_http: Receiver, pushing: Callable[..., Pushed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
    app = pushing(exporter_to(otlp_http), interval_millis=None)
    app.registry.counter(ORDERS).bind("a", "b").add(1)
    eventually(lambda: otlp_http.requests >= 3, what="three pushes")


@pytest.mark.parametrize("value", ["soon", "0", "-5", "nan"])
def test_a_senseless_interval_is_logged_and_the_default_used(
    value: str,
    pushing: Callable[..., Pushed],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", value)
    pushing(Kept(), interval_millis=None)
    assert f"OTEL_METRIC_EXPORT_INTERVAL={value} is not a number above 0; 60000 is used" in caplog.text


def test_the_end_of_the_provider_is_the_last_push(pushing: Callable[..., Pushed]) -> None:
    kept = Kept()
    app = pushing(kept)
    app.registry.counter(ORDERS).bind("a", "b").add(3)
    app.provider.shutdown()
    assert kept.numbers("shop.orders") == [3.0]
    assert kept.ended == 1


# --- a collector that behaves badly ---------------------------------------------------------------------


def test_a_collector_that_refuses_costs_points_and_they_are_counted(
    otlp: Receiver, pushing: Callable[..., Pushed]
) -> None:
    app = pushing(exporter_to(otlp, timeout=0.5))
    app.registry.counter(ORDERS).bind("a", "b").add(1)
    app.registry.counter(ORDERS).bind("a", "c").add(1)
    otlp.behaviour.refuse = True
    assert app.push()
    dropped = app.dropped()
    assert dropped >= 2
    otlp.behaviour.refuse = False
    assert app.push()
    assert [point.value for point in otlp.points("shop.orders")] == [1.0, 1.0]
    assert [point.value for point in otlp.points("restaurant.telemetry.metrics.dropped")] == [dropped]


def test_a_collector_that_is_away_is_survived(pushing: Callable[..., Pushed]) -> None:
    app = pushing(HttpExporter(endpoint=f"http://127.0.0.1:{free_port()}/v1/metrics", timeout=0.5))
    app.registry.counter(ORDERS).bind("a", "b").add(1)
    assert app.push()
    assert app.dropped() >= 1


def test_an_exporter_that_raises_is_survived_and_counted(
    pushing: Callable[..., Pushed], added: Callable[[], Any]
) -> None:
    kept = Kept()
    kept.result = RuntimeError("broken")
    app = pushing(kept)
    app.registry.counter(ORDERS).bind("a", "b").add(1)
    assert app.push()
    assert app.dropped() >= 1
    assert added().total("restaurant_telemetry_errors_total", restaurant_telemetry_part="metrics export") == 1


def test_an_exporter_that_hangs_holds_up_neither_a_flush_nor_the_end(pushing: Callable[..., Pushed]) -> None:
    kept = Kept()
    kept.release.clear()
    app = pushing(kept)
    app.registry.counter(ORDERS).bind("a", "b").add(1)
    begun = time.monotonic()
    assert not app.push(within=0.2)
    app.provider.shutdown()
    took = time.monotonic() - begun
    kept.release.set()
    assert took < 10  # 0.2 s and 3 s; the SDK's own reader waits 30


def test_a_callback_of_the_host_app_that_raises_does_not_keep_our_metrics_back(
    pushing: Callable[..., Pushed],
) -> None:
    def broken(_: CallbackOptions) -> Iterator[Observation]:
        raise RuntimeError("the host's own")
        yield

    kept = Kept()
    app = pushing(kept)
    app.meter.create_observable_gauge("host.broken", [broken])
    app.registry.counter(ORDERS).bind("a", "b").add(1)
    app.push()
    assert kept.numbers("shop.orders") == [1.0]


# --- forks --------------------------------------------------------------------------------------------

FORKING = """
import os, sys, time
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from restaurant_otel import identity
from restaurant_otel.metrics import registry
from restaurant_otel.metrics.otlp import build_metric_reader
from tests.metrics.test_otlp import ORDERS

resource = identity.resource()
reader = build_metric_reader(OTLPMetricExporter(endpoint=sys.argv[1]), registry(), resource, 100)
provider = MeterProvider([reader], resource)
reader.start()
cell = registry().counter(ORDERS).bind("parent", None)
cell.add(5)
child = os.fork()
if child == 0:
    registry().counter(ORDERS).bind("child", None).add(7)
    provider.shutdown()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
provider.shutdown()
"""


def test_a_forked_child_pushes_for_itself(otlp_http: HttpReceiver) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, f"{otlp_http.endpoint}/v1/metrics"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    latest = {}
    for push in otlp_http._pushes:
        for point in push:
            if point.name == "shop.orders" and point.value:
                latest[point.resource["process.pid"], point.attributes["branch"]] = point
    assert sorted((branch, point.value) for (_, branch), point in latest.items()) == [
        ("child", 7.0),
        ("parent", 5.0),
    ]
    assert len({pid for pid, _ in latest}) == 2
    assert len({point.resource["service.instance.id"] for point in latest.values()}) == 2
