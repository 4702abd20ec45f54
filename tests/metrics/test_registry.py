"""Promises of the registry: what is bound where, what is refused, what is answered, and to whose pipeline it goes."""

from __future__ import annotations

import logging
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.metrics import NoOpMeter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader

from restaurant_otel import catalog
from restaurant_otel.catalog import Kind, Metric
from restaurant_otel.metrics import Family, HistogramPoint, NumberPoint, configure, registry
from restaurant_otel.metrics.registry import Registry
from restaurant_otel.metrics.tee import TeeCounter

ORDERS = Metric("shop.orders", "{order}", Kind.COUNTER, "Orders taken.", ("branch", "paid"))
GUESTS = Metric("shop.guests", "{guest}", Kind.UP_DOWN_COUNTER, "Guests present.")
HEAT = Metric("shop.heat", "Cel", Kind.GAUGE, "Heat of the oven.")
DISK = Metric("shop.disk.io", "By", Kind.OBSERVED_COUNTER, "Bytes written.", ("disk",))
WAIT = Metric("shop.wait", "s", Kind.HISTOGRAM, "Time until served.", ("branch",), (0.5, 10.0))


def values(registry: Registry, metric: Metric) -> dict[object, float]:
    """A metric's points by attribute values; the overflow set under "overflow"."""
    return {
        "overflow" if point.overflow else point.values: point.value
        for family in registry.collect()
        if family.metric is metric
        for point in family.points
        if isinstance(point, NumberPoint)
    }


def test_the_same_values_have_the_same_cell() -> None:
    own = Registry()
    assert own.counter(ORDERS).bind("north", True) is own.counter(ORDERS).bind("north", True)
    assert own.counter(ORDERS).bind("north", None) is not own.counter(ORDERS).bind("north", True)


def test_an_absent_attribute_is_none() -> None:
    own = Registry()
    own.counter(ORDERS).bind("north", None).add(1)
    own.counter(ORDERS).bind(None, None).add(2)
    assert values(own, ORDERS) == {("north", None): 1, (None, None): 2}


def test_the_number_of_values_must_be_right() -> None:
    with pytest.raises(ValueError, match="2 attributes"):
        Registry().counter(ORDERS).bind("north")


def test_a_histogram_with_absurdly_many_bounds_is_refused() -> None:
    absurd = Metric("shop.absurd", "s", Kind.HISTOGRAM, "", (), tuple(map(float, range(20_000))))
    with pytest.raises(ValueError, match="bounds"):
        Registry().histogram(absurd)
    own = Registry()
    many = Metric("shop.many", "s", Kind.HISTOGRAM, "", (), tuple(map(float, range(10_000))))
    own.histogram(many).bind().record_with_exemplar(9_999.5, 1, 1)
    own.counter(ORDERS).bind("north", None).add(1)
    (point,) = next(family.points for family in own.collect() if family.metric is many)
    assert isinstance(point, HistogramPoint)
    assert (point.counts[-1], point.count) == (1, 1)


# --- the limit ---------------------------------------------------------------------------------------


def test_what_goes_over_the_limit_is_added_to_one_set_and_counted() -> None:
    own = Registry(limit=3)
    for branch in range(10):
        own.counter(ORDERS).bind(branch, None).add(1)
    own.counter(ORDERS).bind(1, None).add(1)
    assert values(own, ORDERS) == {(0, None): 1, (1, None): 2, (2, None): 1, "overflow": 7}
    assert values(own, catalog.TELEMETRY_OVERFLOW) == {("shop.orders",): 7}


def test_the_overflow_sets_values_are_absent() -> None:
    own = Registry(limit=1)
    for branch in "ab":
        own.histogram(WAIT).bind(branch).record_with_exemplar(1.0, 5, 5)
    points = next(family.points for family in own.collect() if family.metric is WAIT)
    assert [(point.values, point.overflow) for point in points] == [(("a",), False), ((None,), True)]


def test_a_flood_of_refused_sets_costs_no_memory() -> None:
    own = Registry(limit=10)
    instrument = own.counter(ORDERS)
    for branch in range(100):
        instrument.bind(branch, None).add(1)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for branch in range(20_000):
            instrument.bind(f"flood {branch}", None).add(1)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 20_000


def test_each_metric_has_a_limit_of_its_own() -> None:
    own = Registry(limit=2)
    for number in range(5):
        own.counter(Metric(f"shop.{number}", "1", Kind.COUNTER, "", ("a",))).bind(1).add(1)
    assert len([family for family in own.collect() if family.metric.name.startswith("shop.")]) == 5
    assert values(own, catalog.TELEMETRY_OVERFLOW) == {}


def test_the_limit_of_the_shared_registry_can_be_set() -> None:
    before = registry().limit
    try:
        configure(limit=7)
        assert registry().limit == 7
        assert registry() is registry()
    finally:
        configure(limit=before)


# --- reading -----------------------------------------------------------------------------------------


def test_metrics_of_one_name_with_other_attributes_live_side_by_side_and_are_read_in_a_row() -> None:
    own = Registry()
    paid = Metric("shop.orders", "{order}", Kind.COUNTER, "Orders taken.", ("paid",))
    own.counter(ORDERS).bind("north", True).add(1)
    own.counter(GUESTS).bind().add(5)
    own.counter(paid).bind(False).add(2)
    assert [family.metric for family in own.collect()] == [ORDERS, paid, GUESTS, catalog.TELEMETRY_WORKERS]


def test_two_objects_that_say_the_same_are_one_metric() -> None:
    own = Registry()
    again = Metric(ORDERS.name, ORDERS.unit, ORDERS.kind, ORDERS.help, ORDERS.attributes)
    own.counter(ORDERS).bind("north", None).add(1)
    own.counter(again).bind("north", None).add(1)
    assert values(own, ORDERS) == {("north", None): 2}


def test_a_histogram_of_one_name_with_other_bounds_is_another_metric() -> None:
    own = Registry()
    finer = Metric(WAIT.name, WAIT.unit, WAIT.kind, WAIT.help, WAIT.attributes, (0.1, 0.5, 10.0))
    own.histogram(WAIT).bind("north").record(1)
    own.histogram(finer).bind("north").record(1)
    counts = [
        family.points[0].counts for family in own.collect() if isinstance(family.points[0], HistogramPoint)
    ]
    assert counts == [[0, 1, 0], [0, 0, 1, 0]]


def test_pieces_are_small_and_join_to_the_whole() -> None:
    own = Registry(limit=10_000)
    for branch in range(1700):
        own.histogram(WAIT).bind(str(branch)).record(1)
    pieces = list(own.iter_families(chunk=500))
    sizes = [len(piece.points) for piece in pieces if piece.metric is WAIT]
    assert sizes == [500, 500, 500, 200]
    joined = [point.values for piece in pieces if piece.metric is WAIT for point in piece.points]
    assert joined == [
        point.values for family in own.collect() if family.metric is WAIT for point in family.points
    ]


def test_a_scrape_that_is_given_up_halfway_disturbs_no_other() -> None:
    own = Registry(limit=10_000)
    for branch in range(1700):
        own.histogram(WAIT).bind(str(branch)).record(1)
    given_up = own.iter_families()
    next(given_up)
    other = own.iter_families()
    next(other)
    del given_up
    rest = sum(len(piece.points) for piece in other if piece.metric is WAIT)
    assert rest == 1700


def test_what_is_bound_during_a_scrape_appears_in_the_next() -> None:
    own = Registry(limit=10_000)
    for branch in range(600):
        own.histogram(WAIT).bind(str(branch)).record(1)

    def scrape(pieces: Iterator[Family]) -> int:
        return sum(len(piece.points) for piece in pieces if piece.metric is WAIT)

    pieces = own.iter_families(chunk=100)
    first = next(piece for piece in pieces if piece.metric is WAIT)
    for branch in range(600, 1200):
        own.histogram(WAIT).bind(str(branch)).record(1)
    assert scrape(own.iter_families()) == 1200
    assert len(first.points) + scrape(pieces) in range(600, 1201)
    assert scrape(own.iter_families()) == 1200


def test_counting_began_when_the_process_did_not_later() -> None:
    own = Registry()
    own.counter(GUESTS).bind().add(1)
    for families in (own.collect(), own.collect_own()):
        assert [point.start for family in families for point in family.points] == [own.start_time] * len(
            families
        )


@given(
    added=st.lists(
        st.tuples(st.sampled_from(["a", "b", None, 1, 2.5, "\ud800"]), st.integers(0, 1 << 40)), max_size=30
    )
)
def test_a_sum_is_what_was_added(added: list[tuple[str | float | None, int]]) -> None:
    own = Registry()
    wanted: dict[object, float] = {}
    for branch, amount in added:
        own.counter(ORDERS).bind(branch, None).add(amount)
        wanted[branch, None] = wanted.get((branch, None), 0) + amount
    assert values(own, ORDERS) == wanted


# --- the host app's own pipeline ---------------------------------------------------------------------


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


def pipeline(reader: InMemoryMetricReader) -> dict[str, list[tuple[dict[str, object], object]]]:
    """What the host's pipeline has: by metric, attributes and value (counts and sum for a histogram)."""
    data = reader.get_metrics_data()
    found: dict[str, list[tuple[dict[str, object], object]]] = {}
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                found[metric.name] = [
                    (
                        dict(point.attributes or {}),
                        getattr(point, "value", None) or getattr(point, "bucket_counts", None),
                    )
                    for point in metric.data.data_points
                ]
    return found


def test_the_hosts_pipeline_gets_the_same_numbers(reader: InMemoryMetricReader) -> None:
    own = Registry()
    own.counter(ORDERS).bind("before", None).add(1)
    own.use_meter(MeterProvider([reader]).get_meter("test"))
    own.counter(ORDERS).bind("north", None).add(3)
    own.counter(GUESTS).bind().add(5)
    own.counter(GUESTS).bind().add(-2)
    own.gauge(HEAT).bind().set(200)
    own.histogram(WAIT).bind("north").record(1.0)
    own.histogram(WAIT).bind("north").record_with_exemplar(20.0, 7, 7)
    assert pipeline(reader) == {
        "shop.orders": [({"branch": "north"}, 3)],
        "shop.guests": [({}, 3)],
        "shop.heat": [({}, 200)],
        "shop.wait": [({"branch": "north"}, (0, 1, 1))],
    }
    assert values(own, ORDERS) == {("before", None): 1, ("north", None): 3}
    assert values(own, GUESTS) == {(): 3}
    assert values(own, HEAT) == {(): 200}
    (point,) = next(family.points for family in own.collect() if family.metric is WAIT)
    assert isinstance(point, HistogramPoint)
    assert point.counts == [0, 1, 1]


def test_the_hosts_pipeline_asks_for_observed_counters(reader: InMemoryMetricReader) -> None:
    own = Registry()
    own.use_meter(MeterProvider([reader]).get_meter("test"))
    first, second = own.gauge(DISK).bind("sda"), own.gauge(DISK).bind("sdb")
    first.set(10)
    second.set(20)
    first.set(12)
    assert pipeline(reader)["shop.disk.io"] == [({"disk": "sda"}, 12), ({"disk": "sdb"}, 20)]
    second.clear()
    first.set(15)
    assert pipeline(reader)["shop.disk.io"] == [({"disk": "sda"}, 15)]
    assert values(own, DISK) == {("sda",): 15}


def test_the_hosts_exemplars_name_the_measured_span(reader: InMemoryMetricReader) -> None:
    own = Registry()
    own.use_meter(MeterProvider([reader]).get_meter("test"))
    own.histogram(WAIT).bind("north").record_with_exemplar(1.0, 0xABC, 0xDEF)
    data = reader.get_metrics_data()
    assert data is not None
    point = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0]
    assert [(exemplar.trace_id, exemplar.span_id) for exemplar in point.exemplars] == [(0xABC, 0xDEF)]


def test_the_hosts_instruments_get_our_bounds_and_units(reader: InMemoryMetricReader) -> None:
    own = Registry()
    own.use_meter(MeterProvider([reader]).get_meter("test"))
    own.histogram(WAIT).bind("north").record(1.0)
    data = reader.get_metrics_data()
    assert data is not None
    metric = data.resource_metrics[0].scope_metrics[0].metrics[0]
    assert (metric.unit, metric.description) == ("s", WAIT.help)
    (point,) = metric.data.data_points
    assert isinstance(point, HistogramDataPoint)
    assert point.explicit_bounds == WAIT.bounds


def test_a_mirrored_instrument_does_not_meet_itself(reader: InMemoryMetricReader) -> None:
    own = Registry()
    own.use_meter(MeterProvider([reader]).get_meter("test"))
    own.counter(ORDERS).bind("north", None).replace(3)
    own.histogram(WAIT).bind("north").replace([1, 0, 0], 0.1)
    assert pipeline(reader) == {}
    assert values(own, ORDERS) == {("north", None): 3}


def test_without_a_meter_cells_are_plain(reader: InMemoryMetricReader) -> None:
    own = Registry()
    assert not isinstance(own.counter(GUESTS).bind(), TeeCounter)
    own.use_meter(MeterProvider([reader]).get_meter("test"))
    assert isinstance(own.counter(GUESTS).bind(), TeeCounter)
    own.use_meter(None)
    assert not isinstance(own.counter(GUESTS).bind(), TeeCounter)


def test_a_pipeline_that_raises_is_survived(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def __getattr__(self, name: str) -> object:
            raise RuntimeError("the host's own trouble")

    own = Registry()
    own.use_meter(Broken())  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        own.counter(GUESTS).bind().add(2)
        own.gauge(HEAT).bind().set(1)
        own.gauge(DISK).bind("sda").set(1)
        own.histogram(WAIT).bind("north").record(1)
        own.histogram(WAIT).bind("north").record_with_exemplar(1, 1, 1)
    assert values(own, GUESTS) == {(): 2}


def test_a_pipeline_that_hangs_holds_up_nobody_who_does_not_ask_it() -> None:
    """A fork at a bad moment leaves the SDK's own locks taken for ever: who binds a cell meanwhile must not wait."""
    asked, goes_on = threading.Event(), threading.Event()

    class Hanging(NoOpMeter):
        def create_observable_counter(self, *args: Any, **options: Any) -> Any:
            asked.set()
            goes_on.wait(60)

    own = Registry()
    own.use_meter(Hanging("test"))
    observer = threading.Thread(target=lambda: own.gauge(DISK).bind("sda").set(1))
    observer.start()
    try:
        assert asked.wait(60)
        request = threading.Thread(target=lambda: own.counter(ORDERS).bind("north", True).add(1), daemon=True)
        request.start()
        request.join(30)
        assert not request.is_alive()
    finally:
        goes_on.set()
        observer.join()
    assert values(own, ORDERS) == {("north", True): 1}
    assert values(own, DISK) == {("sda",): 1}


def test_past_the_limit_the_hosts_pipeline_gets_the_overflow_set(reader: InMemoryMetricReader) -> None:
    own = Registry(limit=1)
    own.use_meter(MeterProvider([reader]).get_meter("test"))
    for branch in "abc":
        own.counter(ORDERS).bind(branch, None).add(1)
    assert sorted(pipeline(reader)["shop.orders"], key=str) == [
        ({"branch": "a"}, 1),
        ({"otel.metric.overflow": True}, 2),
    ]


def test_making_a_registry_starts_nothing_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    threads = threading.active_count()
    own = Registry()
    own.counter(GUESTS).bind().add(1)
    own.collect()
    assert threading.active_count() == threads
    assert list(tmp_path.iterdir()) == []
