"""What one measurement costs, in a cell of ours and in an instrument of the SDK; what cells weigh; what workers add.

The memory is measured in a process of its own, with everything that a series brings along: cell, index, what the
registry and a caller remember, three exemplars, and a file that siblings read. The last table reads four workers
of 10,000 series each, as Prometheus counts series, and tells the longest step, after which an event loop gets a
turn, and the same after one worker has died, when the step may be one of folding its counts into the ledger.

Run it as ``python -m benchmarks.cells``.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import psutil
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from benchmarks import harness
from benchmarks.harness import Figure, Variant
from restaurant_otel import catalog
from restaurant_otel.metrics.cells import LockedHistogramCell
from restaurant_otel.metrics.registry import Registry

MEASUREMENTS = 20_000  # a sample's
VALUES = ("GET", "/branches/{branch_id}/orders", 200, "http", "1.1", None)
TRACE_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736

HISTOGRAMS = 400  # of 19 lines each
COUNTERS = 2400
WORKERS = 4


# --- one measurement ---------------------------------------------------------------------------------


def variants() -> list[Variant]:
    registry = Registry()
    histogram = registry.histogram(catalog.HTTP_SERVER_REQUEST_DURATION).bind(*VALUES)
    counter = registry.counter(catalog.HTTP_SERVER_ACTIVE_REQUESTS).bind("GET", "http")
    locked = LockedHistogramCell(histogram.block, histogram.at, histogram.bounds)
    meter = MeterProvider([InMemoryMetricReader()]).get_meter("benchmark")
    sdk_histogram = meter.create_histogram(
        "peer", "s", explicit_bucket_boundaries_advisory=catalog.HTTP_SERVER_REQUEST_DURATION.bounds
    )
    sdk_counter = meter.create_up_down_counter("peer.active")
    names = catalog.HTTP_SERVER_REQUEST_DURATION.attributes
    attributes = {name: value for name, value in zip(names, VALUES, strict=True) if value is not None}
    active = {"http.request.method": "GET", "url.scheme": "http"}

    def nothing(value: float) -> None: ...

    return [
        Variant("an empty call", repeated(lambda: nothing(0.033))),
        Variant("histogram", repeated(lambda: histogram.record(0.033))),
        Variant("histogram, exemplar", repeated(lambda: histogram.record_with_exemplar(0.033, TRACE_ID, 77))),
        Variant("histogram, no GIL", repeated(lambda: locked.record(0.033))),
        Variant("counter", repeated(lambda: counter.add(1))),
        Variant("SDK histogram", repeated(lambda: sdk_histogram.record(0.033, attributes))),
        Variant("SDK counter", repeated(lambda: sdk_counter.add(1, active))),
    ]


def repeated(once: Callable[[], object]) -> Callable[[int], None]:
    """All are called through the same lambda and loop, which the empty call tells the price of."""

    def run(number: int) -> None:
        for _ in range(number):
            once()

    return run


# --- memory ------------------------------------------------------------------------------------------

SERIES = 5000


def weigh() -> float:
    """Bytes of resident memory that 1,000 histograms have added."""
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.cells", "--weigh"], check=True, capture_output=True, text=True
    )
    return float(run.stdout)


def print_weight() -> None:
    with shared_folder():
        registry = Registry(limit=10_000)
        registry.attach()
        remembered = {}
        values = [("GET", f"/orders/{number}", 200, "http", "1.1", None) for number in range(SERIES)]

        def measure(key: tuple[str, str, int, str, str, None]) -> None:
            cell = remembered[key] = registry.histogram(catalog.HTTP_SERVER_REQUEST_DURATION).bind(*key)
            for seconds in (0.003, 0.02, 0.3):
                cell.record_with_exemplar(seconds, TRACE_ID, 77)

        measure(("GET", "/", 200, "http", "1.1", None))
        gc.collect()
        before = psutil.Process().memory_info().rss
        for key in values:
            measure(key)
        gc.collect()
        print(1000 * (psutil.Process().memory_info().rss - before) / SERIES)


# --- workers -----------------------------------------------------------------------------------------


@contextmanager
def shared_folder() -> Iterator[None]:
    """A folder for the files of workers, in memory where there is one."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        os.environ["RESTAURANT_OTEL_WORKERS_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["RESTAURANT_OTEL_WORKERS_DIR"]


def fill(registry: Registry) -> None:
    durations = registry.histogram(catalog.HTTP_SERVER_REQUEST_DURATION)
    for number in range(HISTOGRAMS):
        cell = durations.bind("GET", f"/orders/{number}", 200, "http", "1.1", None)
        for seconds in (0.003, 0.02, 0.3):
            cell.record_with_exemplar(seconds, TRACE_ID, 77)
    interrupted = registry.counter(catalog.HTTP_SERVER_INTERRUPTED)
    for number in range(COUNTERS):
        interrupted.bind("GET", f"/orders/{number}", "cancelled").add(1)


@contextmanager
def worker() -> Iterator[int]:
    """A process that has its series in a file of the shared folder."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        registry = Registry(limit=10_000)
        registry.attach()
        fill(registry)
        os.write(write, b"ready")
        signal.pause()
        os._exit(0)
    os.read(read, 5)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def scrape(registry: Registry) -> tuple[float, float]:
    """Milliseconds of CPU that a scrape takes, and that its longest step takes."""
    longest, began = 0.0, time.process_time()
    last = began
    for _ in registry.iter_families():
        now = time.process_time()
        longest, last = max(longest, now - last), now
    end = time.process_time()
    return 1000 * (end - began), 1000 * max(longest, end - last)


def read_workers(rounds: int) -> dict[str, tuple[float, float]]:
    """For each kind of scrape the median of its time and of its longest step."""
    found: dict[str, list[tuple[float, float]]] = {"first": [], "later": [], "after a death": []}

    def round_of_scrapes() -> None:
        with shared_folder(), worker(), worker(), worker() as mortal:
            registry = Registry(limit=10_000)
            registry.attach()
            fill(registry)
            found["first"].append(scrape(registry))
            found["later"] += [scrape(registry) for _ in range(3)]
            os.kill(mortal, signal.SIGKILL)
            os.waitid(os.P_PID, mortal, os.WEXITED | os.WNOWAIT)
            found["after a death"].append(scrape(registry))

    for _ in range(rounds):
        round_of_scrapes()
        gc.collect()  # a registry that lingers would follow the workers of the next round
    return {
        kind: (median(total for total, _ in times), median(longest for _, longest in times))
        for kind, times in found.items()
    }


def main() -> int:
    made = harness.parser(__doc__, rounds=40)
    made.add_argument("--weigh", action="store_true", help=argparse.SUPPRESS)
    arguments = harness.parse(made)
    if arguments.weigh:
        print_weight()
        return 0
    times = read_workers(max(3, arguments.rounds // 4))
    weight = weigh() / (1 << 20)
    costs = harness.measure(variants(), number=MEASUREMENTS, rounds=arguments.rounds)

    def added(name: str) -> float:
        return costs.added(name, "an empty call").median

    figures = [
        Figure("histogram record", added("histogram"), 0.6, 0.3, "us"),
        Figure(
            "histogram record: ours / SDK",
            costs.ratio("histogram", "SDK histogram", over="an empty call"),
            0.1,
        ),
        Figure("resident memory of 1,000 histograms", weight, 1.0, None, "MiB"),
        Figure("4 workers, 10,000 series: longest step", times["later"][1], 5.0, 2.0, "ms"),
        Figure("the same, first scrape", times["first"][1], 5.0, 2.0, "ms"),
        Figure("the same, a worker has died", times["after a death"][1], 5.0, 2.0, "ms"),
    ]
    status = harness.report("Cells", costs, figures, arguments, over="an empty call")
    rows = [(f"{kind} scrape", f"{total:.1f}", f"{longest:.2f}") for kind, (total, longest) in times.items()]
    print()
    harness.table((f"{WORKERS} workers", "CPU ms in all", "longest step"), rows)
    return status


if __name__ == "__main__":
    sys.exit(main())
