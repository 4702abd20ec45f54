"""A scrape of 10,000 series: ours against OpenTelemetry's Prometheus reader, and what the event loop feels.

Both sides hold the same measurements: a histogram of 16 bounds and two counters, which are 10,000 lines in
Prometheus's text. Ours reads the mapped cells and renders them; the peer is `PrometheusMetricReader` with
prometheus_client's `generate_latest`. The stall is the longest time for which another task of the event
loop got no turn while one scrape was answered; a scrape asks as Prometheus does, for OpenMetrics and gzip.
It is told in CPU time of the loop's thread, which a busy machine does not change, and by the clock.

Run it as ``python -m benchmarks.scrape``.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from benchmarks import harness
from benchmarks.harness import Figure, Variant
from restaurant_otel import catalog
from restaurant_otel.endpoint import MetricsEndpoint
from restaurant_otel.metrics import registry
from restaurant_otel.metrics.exposition import OPENMETRICS, TEXT, Format, render
from restaurant_otel.settings import Settings

HISTOGRAMS = 400  # of 19 lines each
COUNTERS = 1200  # in each of two metrics
SERIES = HISTOGRAMS * (len(catalog.SECONDS) + 3) + 2 * COUNTERS

ACCEPT = b"application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


def labels(number: int) -> tuple[str, str, int, str, str, None]:
    """Attributes of a request, as the middleware binds them."""
    return ("GET", f"/branches/{{branch_id}}/orders/{number}", 200, "http", "1.1", None)


def fill_ours() -> None:
    durations = registry().histogram(catalog.HTTP_SERVER_REQUEST_DURATION)
    for number in range(HISTOGRAMS):
        cell = durations.bind(*labels(number))
        for step in range(20):
            cell.record(0.003 * (number % 7 + 1) * step)
    for metric in (catalog.HTTP_SERVER_INTERRUPTED, catalog.WEBSOCKET_MESSAGES):
        for number in range(COUNTERS):
            values = ("GET", f"/branches/{number}", "cancelled")[: len(metric.attributes)]
            registry().counter(metric).bind(*values).add(number)


def fill_peer() -> CollectorRegistry:
    """The same through the SDK's instruments."""
    collected = CollectorRegistry()
    meter = MeterProvider([PrometheusMetricReader(registry=collected)], shutdown_on_exit=False).get_meter(
        "peer"
    )
    durations = meter.create_histogram(
        "http.server.request.duration", "s", explicit_bucket_boundaries_advisory=list(catalog.SECONDS)
    )
    for number in range(HISTOGRAMS):
        named = zip(catalog.HTTP_SERVER_REQUEST_DURATION.attributes, labels(number), strict=True)
        attributes = {name: value for name, value in named if value is not None}
        for step in range(20):
            durations.record(0.003 * (number % 7 + 1) * step, attributes)
    for metric in (catalog.HTTP_SERVER_INTERRUPTED, catalog.WEBSOCKET_MESSAGES):
        counter = meter.create_counter(metric.name, metric.unit)
        for number in range(COUNTERS):
            values = ("GET", f"/branches/{number}", "cancelled")
            counter.add(number, dict(zip(metric.attributes, values, strict=False)))
    return collected


def ours(form: Format) -> Callable[[int], object]:
    def run(times: int) -> object:
        for _ in range(times):
            page = b"".join(render(registry().iter_families(), form, target_info={"service.name": "shop"}))
        return page

    return run


def series_of(page: bytes) -> int:
    return sum(not line.startswith(b"#") for line in page.splitlines())


# --- the event loop -----------------------------------------------------------------------------------


async def longest_stall(scrape: Callable[[], Awaitable[object]], clock: Callable[[], float]) -> float:
    """The longest time in milliseconds between two turns of another task, during one scrape."""
    longest = 0.0
    scraping = True

    async def other() -> None:
        nonlocal longest
        last = clock()
        while scraping:
            await asyncio.sleep(0)
            now = clock()
            longest, last = max(longest, now - last), now

    task = asyncio.create_task(other())
    await asyncio.sleep(0)
    await scrape()
    await asyncio.sleep(0)
    scraping = False
    await task
    return 1000 * longest


async def _ignore(_: Any) -> None:
    pass


async def _nothing_to_receive() -> Any:
    await asyncio.Event().wait()


def stalls(rounds: int, peer: CollectorRegistry) -> dict[str, list[float]]:
    """The longest stall of each scrape in milliseconds; the peer makes its page in the event loop."""
    endpoint = MetricsEndpoint(Settings.resolve({}), {"service.name": "shop"})
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/metrics",
        "client": ("127.0.0.1", 1),
        "headers": [(b"accept", ACCEPT), (b"accept-encoding", b"gzip")],
    }

    async def ours_() -> None:
        await endpoint.respond_asgi(scope, _nothing_to_receive, _ignore)

    async def peer_() -> None:
        generate_latest(peer)

    async def all_rounds() -> dict[str, list[float]]:
        found: dict[str, list[float]] = {
            "ours": [],
            "ours, by the clock": [],
            "peer": [],
            "peer, by the clock": [],
        }
        for _ in range(rounds):
            found["ours"].append(await longest_stall(ours_, time.thread_time))
            found["ours, by the clock"].append(await longest_stall(ours_, time.perf_counter))
            found["peer"].append(await longest_stall(peer_, time.thread_time))
            found["peer, by the clock"].append(await longest_stall(peer_, time.perf_counter))
        return found

    return asyncio.run(all_rounds())


def main() -> int:
    options = harness.options(__doc__, rounds=30)
    fill_ours()
    peer = fill_peer()
    for page in (ours(TEXT)(1), generate_latest(peer)):
        assert isinstance(page, bytes)
        assert SERIES <= series_of(page) <= SERIES + 10, series_of(page)
    variants = [
        Variant("ours, text", ours(TEXT)),
        Variant("ours, OpenMetrics", ours(OPENMETRICS)),
        Variant(
            "PrometheusMetricReader + generate_latest",
            lambda times: [generate_latest(peer) for _ in range(times)],
        ),
    ]
    costs = harness.measure(variants, number=1, rounds=options.rounds)
    longest = stalls(max(options.rounds // 3, 5), peer)
    print("\nLongest stall of the event loop in one scrape, ms: median and worst")
    for name, values in longest.items():
        print(f"  {name:<24}{statistics.median(values):8.2f}{max(values):8.2f}")
    figures = [
        Figure(
            f"scrape of {SERIES} series: ours / peer",
            costs.ratio("ours, text", "PrometheusMetricReader + generate_latest"),
            goal=0.30,
            aim=0.10,
        ),
        Figure(
            "longest stall of the event loop",
            statistics.median(longest["ours"]),
            goal=5.0,
            aim=2.0,
            unit="ms",
        ),
    ]
    return harness.report(f"A scrape of {SERIES} series", costs, figures, options)


if __name__ == "__main__":
    sys.exit(main())
