"""What one full look at the resources costs: ours against OpenTelemetry's system metrics with their defaults.

Ours is `Sampler.sample`, by which a worker reads itself and, elected, the host and the container: what its thread does
every 15 seconds. The peer is `SystemMetricsInstrumentor` on a meter provider of its own, collected through a reader
that keeps nothing: what the SDK does at each export, by default every 60 seconds. Neither is charged for writing the
numbers out. They do not read the same things: the peer tells CPUs one by one and lists all connections, ours tells the
container, pressure and the run queue. So the ratio compares one look with one look, not number with number.

What the peer costs goes by the machine: it lists every socket, those that wait out their end included, and the open
files of every process. So that is measured by itself too, and the numbers of both are printed.

Run it as ``python -m benchmarks.resources``.
"""

from __future__ import annotations

import sys

import psutil
from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from benchmarks import harness
from benchmarks.harness import Figure, Variant
from restaurant_otel.metrics import Registry
from restaurant_otel.usage.sampler import Sampler

LOOKS = 20
INTERVAL = 15


def main() -> int:
    options = harness.options(__doc__)
    registry = Registry()
    sampler = Sampler(registry, INTERVAL)
    reader = InMemoryMetricReader()
    peer = SystemMetricsInstrumentor()
    peer.instrument(meter_provider=MeterProvider([reader]))

    def ours(number: int) -> None:
        for _ in range(number):
            sampler.sample()

    def theirs(number: int) -> None:
        for _ in range(number):
            reader.collect()
            reader.get_metrics_data()

    see_both_work(sampler, registry, reader)
    try:
        variants = [
            Variant("ours", ours),
            Variant("system-metrics", theirs),
            Variant("of which listing sockets", list_sockets),
        ]
        costs = harness.measure(variants, number=LOOKS, rounds=options.rounds)
    finally:
        peer.uninstrument()
        sampler.stop()
    # More than it is: of four workers only one reads the host as well.
    four = 4 * costs.cost("ours").median / 1e6 / INTERVAL * 100
    figures = [
        Figure("ours / system-metrics", costs.ratio("ours", "system-metrics"), goal=0.15),
        Figure("share of a core, four workers, every 15 s", four, goal=0.05, unit="%"),
    ]
    return harness.report("One look at the resources", costs, figures, options)


def list_sockets(number: int) -> None:
    for _ in range(number):
        psutil.net_connections()


def see_both_work(sampler: Sampler, registry: Registry, reader: InMemoryMetricReader) -> None:
    """Two looks of each; one that finds nothing would win. Raises RuntimeError."""
    for _ in range(2):
        sampler.sample()
    ours = sum(len(family.points) for family in registry.collect())
    reader.collect()
    told = reader.get_metrics_data()
    theirs = sum(
        len(metric.data.data_points)
        for resource in (told.resource_metrics if told else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )
    reading = sampler.history.process[-1]
    if not ours or not theirs or reading.memory is None or reading.cpu is None:
        raise RuntimeError(f"one of them finds nothing: ours {ours} series, theirs {theirs}")
    print(f"series: ours {ours}, system-metrics {theirs}")
    print(f"on this machine: {len(psutil.net_connections())} sockets, {len(psutil.pids())} processes")


if __name__ == "__main__":
    sys.exit(main())
