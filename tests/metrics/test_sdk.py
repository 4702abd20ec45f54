"""Promises of the mirror: the host app's SDK instruments, in the registry as if they were ours."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

from restaurant_otel.metrics import HistogramPoint, NumberPoint, Point, Registry
from restaurant_otel.metrics.exposition import render
from restaurant_otel.metrics.sdk import MirrorReader
from tests.support.wait import eventually

ERRORS = "restaurant_telemetry_errors_total"


class Host:
    """An app's meter on a provider of ours, mirrored into a registry only when told to."""

    def __init__(
        self, views: Iterable[View] = (), seconds: float = math.inf, registry: Registry | None = None
    ) -> None:
        self.registry = registry or Registry()
        self.reader = MirrorReader(self.registry, seconds)
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False, views=tuple(views))
        self.reader.start()
        self.meter = self.provider.get_meter("shop")

    def points(self, name: str) -> dict[tuple[Any, ...], Point]:
        """The points of a metric after a mirroring, by their attributes' values without the scope."""
        self.reader.mirror()
        return self.held(name)

    def held(self, name: str) -> dict[tuple[Any, ...], Point]:
        return {
            point.values[1:]: point
            for family in self.registry.collect_own()
            if family.metric.name == name
            for point in family.points
        }

    def numbers(self, name: str) -> dict[tuple[Any, ...], float]:
        """The same, as numbers; readings taken away are left out."""
        return {
            values: point.value
            for values, point in self.points(name).items()
            if isinstance(point, NumberPoint) and not math.isnan(point.value)
        }


@pytest.fixture
def host() -> Iterator[Callable[..., Host]]:
    made: list[Host] = []

    def start(**options: Any) -> Host:
        made.append(Host(**options))
        return made[-1]

    yield start
    for one in made:
        one.provider.shutdown(5000)


# --- every kind of instrument ----------------------------------------------------------------------------


def test_a_counter_is_mirrored_with_its_attributes(host: Callable[..., Host]) -> None:
    app = host()
    hits = app.meter.create_counter("host.hits", "{hit}", "Hits.")
    hits.add(5, {"page": "menu", "ab": True})
    hits.add(1, {"page": "home"})
    hits.add(2)
    assert app.numbers("host.hits") == {(True, "menu"): 5.0, ("home",): 1.0, (): 2.0}
    hits.add(1, {"page": "home"})
    assert app.numbers("host.hits")["home",] == 2.0


def test_an_up_down_counter_is_mirrored(host: Callable[..., Host]) -> None:
    app = host()
    queue = app.meter.create_up_down_counter("host.queue")
    queue.add(3)
    queue.add(-5)
    assert app.numbers("host.queue") == {(): -2.0}


def test_a_gauge_is_mirrored_for_each_worker(host: Callable[..., Host]) -> None:
    app = host()
    app.meter.create_gauge("host.depth").set(7.5, {"line": 1})
    assert app.numbers("host.depth") == {(1,): 7.5}
    page = b"".join(render(app.registry.collect())).decode()
    assert f'host_depth{{otel_scope_name="shop",line="1",worker="{os.getpid()}"}} 7.5\n' in page


def test_a_histogram_is_mirrored(host: Callable[..., Host]) -> None:
    app = host()
    wait = app.meter.create_histogram("host.wait", "s", explicit_bucket_boundaries_advisory=[0.5, 10.0])
    for value in (0.1, 0.2, 3.0, 99.0):
        wait.record(value, {"page": "menu"})
    point = app.points("host.wait")["menu",]
    assert isinstance(point, HistogramPoint)
    assert (list(point.counts), point.sum) == ([2, 1, 1], pytest.approx(102.3))


def test_observable_instruments_are_mirrored_and_vanish_when_they_fall_silent(
    host: Callable[..., Host],
) -> None:
    app = host()
    lines = [1, 2]

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(line * 10, {"line": line}) for line in lines]

    app.meter.create_observable_gauge("host.depth", [observe])
    app.meter.create_observable_up_down_counter("host.pool", [observe])
    app.meter.create_observable_counter("host.served", [observe])
    both = {(1,): 10.0, (2,): 20.0}
    assert app.numbers("host.depth") == app.numbers("host.pool") == app.numbers("host.served") == both
    lines.remove(2)
    assert app.numbers("host.depth") == {(1,): 10.0}
    assert app.numbers("host.pool") == {(1,): 10.0, (2,): 0.0}
    assert app.numbers("host.served") == both


def test_attribute_values_that_are_sequences_become_text(host: Callable[..., Host]) -> None:
    app = host()
    app.meter.create_counter("host.hits").add(1, {"tags": ["a", "b"]})
    assert app.numbers("host.hits") == {('["a", "b"]',): 1.0}


def test_what_two_libraries_count_under_one_name_is_kept_apart(host: Callable[..., Host]) -> None:
    app = host()
    app.meter.create_counter("host.hits").add(1)
    app.provider.get_meter("another").create_counter("host.hits").add(2)
    app.reader.mirror()
    page = b"".join(render(app.registry.collect())).decode()
    assert 'host_hits_total{otel_scope_name="shop"} 1.0\n' in page
    assert 'host_hits_total{otel_scope_name="another"} 2.0\n' in page


# --- what is left out -----------------------------------------------------------------------------------


def test_exponential_histograms_are_left_out_and_counted_once(
    host: Callable[..., Host], added: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    app = host(views=[View(instrument_name="host.wait", aggregation=ExponentialBucketHistogramAggregation())])
    app.meter.create_histogram("host.wait").record(5.0)
    app.meter.create_counter("host.hits").add(1)
    for _ in range(3):
        assert app.points("host.wait") == {}
    assert app.numbers("host.hits") == {(): 1.0}
    assert added().total(ERRORS, restaurant_telemetry_part="mirror") == 1


def test_what_another_instrumentation_counts_under_our_names_is_left_out(host: Callable[..., Host]) -> None:
    app = host()
    app.meter.create_histogram("http.server.request.duration", "s").record(1.0)
    assert app.points("http.server.request.duration") == {}


def test_attribute_sets_beyond_the_limit_are_added_up_in_one(host: Callable[..., Host]) -> None:
    app = host(registry=Registry(limit=10))
    hits = app.meter.create_counter("host.hits")
    for number in range(30):
        hits.add(1, {"user": number})
    for _ in range(2):  # absolute values: a second look must not add up again
        points = app.points("host.hits")
        assert sum(point.value for point in points.values() if isinstance(point, NumberPoint)) == 30.0
        assert len(points) <= 11
        assert any(point.overflow for point in points.values())


def test_attribute_names_without_end_are_bounded(host: Callable[..., Host], added: Callable[[], Any]) -> None:
    app = host()
    hits = app.meter.create_counter("host.hits")
    for number in range(1100):
        hits.add(1, {f"user{number}": 1})
    app.reader.mirror()
    assert len([family for family in app.registry.collect() if family.metric.name == "host.hits"]) <= 1000
    assert added().total(ERRORS, restaurant_telemetry_part="mirror") >= 1


def test_an_error_of_the_host_apps_callback_leaves_the_rest_standing(host: Callable[..., Host]) -> None:
    def broken(_: CallbackOptions) -> Iterator[Observation]:
        raise RuntimeError("the host's own")
        yield

    app = host()
    app.meter.create_observable_gauge("host.broken", [broken])
    app.meter.create_counter("host.hits").add(1)
    assert app.numbers("host.hits") == {(): 1.0}


def test_a_callback_that_hangs_holds_up_only_the_one_who_called_it(host: Callable[..., Host]) -> None:
    entered, release = threading.Event(), threading.Event()

    def hanging(_: CallbackOptions) -> list[Observation]:
        entered.set()
        release.wait(30)
        return [Observation(1)]

    app = host()
    app.meter.create_observable_gauge("host.depth", [hanging])
    first = threading.Thread(target=app.reader.mirror)
    first.start()
    assert entered.wait(10)
    second = threading.Thread(target=app.reader.mirror)
    second.start()
    second.join(10)
    assert not second.is_alive()
    release.set()
    first.join(10)
    assert list(app.held("host.depth")) == [()]


# --- when ----------------------------------------------------------------------------------------------


def test_it_happens_by_itself_every_few_seconds(host: Callable[..., Host]) -> None:
    app = host(seconds=0.05)
    app.meter.create_counter("host.hits").add(4)
    eventually(lambda: app.held("host.hits"), what="the counter in the registry")


def test_the_end_of_the_provider_is_the_last_time() -> None:
    app = Host()
    app.meter.create_counter("host.hits").add(4)
    app.provider.shutdown()
    assert {point.value for point in app.held("host.hits").values() if isinstance(point, NumberPoint)} == {
        4.0
    }


def test_a_reader_without_a_provider_does_no_harm() -> None:
    reader = MirrorReader(Registry(), math.inf)
    reader.mirror()
    reader.shutdown()


# --- forks ---------------------------------------------------------------------------------------------

FORKING = """
import os
from tests.metrics.test_sdk import Host

app = Host()
hits, queue = app.meter.create_counter("host.hits"), app.meter.create_up_down_counter("host.queue")
wait = app.meter.create_histogram("host.wait", explicit_bucket_boundaries_advisory=[1.0])
hits.add(5)
queue.add(3)
wait.record(0.5)
child = os.fork()
hits.add(2)
queue.add(1)
wait.record(2.0)
counted = app.numbers("host.hits"), app.numbers("host.queue"), list(app.points("host.wait")[()].counts)
if child == 0:
    assert counted == ({(): 2.0}, {(): 1.0}, [0, 1]), counted
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert counted == ({(): 7.0}, {(): 4.0}, [1, 1]), counted
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_does_not_count_what_its_parent_had_counted() -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
