"""What the score costs an app of many workers: one of them looking for all, against each looking for itself.

Sixteen workers hold 400 histograms of requests each. A look reads the numbers of all of them. If each worker looks, the
work grows with the square of their number; elected, one looks and keeps what it has seen where the others can read it,
and the others ask in vain for the lock. In CPU time of the process, by the median of the rounds.

Run it as ``python -m benchmarks.score``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Final

from benchmarks.scrape import labels
from restaurant_otel import catalog
from restaurant_otel.metrics import registry
from restaurant_otel.scorecard.keeper import EVERY_SECONDS, Keeper
from restaurant_otel.usage.election import Election

WORKERS: Final = 16
HISTOGRAMS: Final = 400
LEAST_RATIO: Final = 8.0
"""How many times cheaper it must be at least with one that looks."""


def fill() -> None:
    """Join the group, and count some requests."""
    registry().attach()
    durations = registry().histogram(catalog.HTTP_SERVER_REQUEST_DURATION)
    for number in range(HISTOGRAMS):
        cell = durations.bind(*labels(number))
        for step in range(20):
            cell.record(0.003 * (number % 7 + 1) * step)


@contextlib.contextmanager
def siblings(count: int) -> Iterator[None]:
    """That many further workers, with numbers of their own, idle."""
    started = []
    try:
        for _ in range(count):
            read, write = os.pipe()
            pid = os.fork()
            if pid == 0:
                fill()
                os.write(write, b".")
                signal.pause()
                os._exit(0)
            started.append(pid)
            os.close(write)
            ready = os.read(read, 1)
            os.close(read)
            if not ready:
                raise RuntimeError("a worker could not start")
        yield
    finally:
        for pid in started:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def cpu(work: Callable[[], object], rounds: int) -> float:
    """Milliseconds of CPU time of one, in the middle."""
    times = []
    for _ in range(rounds):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return statistics.median(times) * 1000


def main() -> int:
    """Measure and tell; 1 if it is not as much cheaper as it must be."""
    parser = argparse.ArgumentParser(description="What the score costs an app of many workers.")
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RESTAURANT_OTEL_WORKERS_DIR"] = folder
        with siblings(WORKERS - 1):
            fill()
            alone, elected = Keeper(), Keeper()
            elected.turn()
            look, turn = cpu(alone.look, rounds), cpu(elected.turn, rounds)
            ask = cpu(lambda: Election("score").won(registry().group), rounds)
            elected.stop()
    each, one = look * WORKERS, turn + ask * (WORKERS - 1)
    print(
        f"{WORKERS} workers, {HISTOGRAMS} histograms in each; all workers together, each {EVERY_SECONDS:.0f} s:"
    )
    print(
        f"each looks                {each:8.1f} ms of CPU time ({each / EVERY_SECONDS / 10:.2f} % of a core)"
    )
    print(f"one looks, and keeps it   {one:8.1f} ms of CPU time ({one / EVERY_SECONDS / 10:.2f} % of a core)")
    print(
        f"{each / one:.1f} times cheaper; a look {look:.1f} ms, kept {turn:.1f} ms, asking for the lock {ask:.3f} ms"
    )
    return int(each / one < LEAST_RATIO)


if __name__ == "__main__":
    sys.exit(main())
