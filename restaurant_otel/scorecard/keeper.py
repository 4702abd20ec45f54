"""Keeps the score of this app: looks at the cells now and then, off the request path, and exports what it finds.

A worker looks every half a minute and remembers the last five minutes of totals, an hour of requests and failures,
and a day of scores, all of fixed length. Every worker does so for all of them, so that each can answer for the app.
`current` may be asked at any time, from any thread, and takes what one scrape takes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from restaurant_otel import catalog, forks
from restaurant_otel.errors import survived
from restaurant_otel.metrics.cells import GaugeCell
from restaurant_otel.metrics.registry import Registry, registry
from restaurant_otel.metrics.ticker import Ticker
from restaurant_otel.scorecard.cells import Totals, between, read
from restaurant_otel.scorecard.files import Goals
from restaurant_otel.scorecard.formula import Scorecard, Snapshot, score

EVERY_SECONDS: Final = 30.0
WINDOW_SECONDS: Final = 300.0
HOUR_SECONDS: Final = 3600.0
TREND_SECONDS: Final = 300.0
_TREND_LENGTH: Final = 288


class Keeper:
    """The history of one app and its latest scorecard. Any thread.

    `clock` gives seconds since the epoch; tests turn it themselves.
    """

    def __init__(
        self,
        goals: Goals | None = None,
        source: Registry | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.goals = goals or Goals()
        self._registry = source or registry()
        self._clock = clock
        self._lock = forks.Lock()
        self._ticker: Ticker | None = None
        self._begin()
        forks.follow(in_child=self._begin)

    def _begin(self) -> None:
        """In a child process too: its group's numbers need not be the parent's."""
        self._past: deque[Totals] = deque(maxlen=int(WINDOW_SECONDS / EVERY_SECONDS) + 2)
        self._hour: deque[tuple[float, float, float]] = deque(maxlen=int(HOUR_SECONDS / EVERY_SECONDS) + 2)
        self._trend: deque[tuple[float, float]] = deque(maxlen=_TREND_LENGTH)

    # --- the ticker -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Look every half a minute from now on, in a thread; forked children go on by themselves."""
        with self._lock:
            if self._ticker is not None:
                return
            self._ticker = Ticker("restaurant-otel-score", EVERY_SECONDS, self._tick)
        self._ticker.start()

    def stop(self) -> None:
        """End for good."""
        if self._ticker is not None:
            self._ticker.stop(timeout=1.0)

    def _tick(self) -> None:
        try:
            self.look()
        except Exception as error:  # noqa: BLE001 - the thread goes on, the app even more so
            survived("score", error)

    def look(self) -> Scorecard:
        """Take the totals, remember them, and export the score."""
        snapshot, now = self._snapshot()
        card = score(snapshot, self.goals.objectives)
        with self._lock:
            self._past.append(now)
            count, failed = now.all_requests
            self._hour.append((now.at, count, failed))
            if card.total is not None and (
                not self._trend or now.at - self._trend[-1][0] >= TREND_SECONDS - EVERY_SECONDS / 2
            ):
                self._trend.append((now.at, card.total))
        self._export(card)
        return card

    # --- for readers ----------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """What the last five minutes (availability: the last hour) were like. Takes what one scrape takes."""
        return self._snapshot()[0]

    def current(self) -> Scorecard:
        """The score now."""
        return score(self.snapshot(), self.goals.objectives)

    def trend(self) -> list[tuple[float, float]]:
        """The score of up to a day, every five minutes: (seconds since the epoch, total)."""
        with self._lock:
            return list(self._trend)

    # --- the work -------------------------------------------------------------------------------------

    def _snapshot(self) -> tuple[Snapshot, Totals]:
        now = read(self._registry.iter_families(), self._clock())
        with self._lock:
            past, hour = list(self._past), list(self._hour)
        before = _last_before(past, now, WINDOW_SECONDS)
        count, failed = _since(_hour_ago(hour, now), now)
        cpus = [
            each.cpu for each in (*past, now) if each.cpu is not None and each.at > now.at - WINDOW_SECONDS
        ]
        cpu = sum(cpus) / len(cpus) if cpus else None
        return between(now, before, (count, failed), self.goals.objectives, cpu), now

    def _export(self, card: Scorecard) -> None:
        own = self._registry
        _show(own.gauge(catalog.PERFORMANCE_SCORE).bind(), card.total)
        own.gauge(catalog.PERFORMANCE_COVERAGE).bind().set(card.coverage)
        for component in card.components:
            for metric, value in (
                (catalog.PERFORMANCE_COMPONENT_SCORE, component.points),
                (catalog.PERFORMANCE_COMPONENT_VALUE, component.value),
                (catalog.PERFORMANCE_COMPONENT_WEIGHT, None if component.value is None else component.weight),
            ):
                cell = own.gauge(metric).bind(component.name)
                _show(cell, value)


def _show(cell: GaugeCell, value: float | None) -> None:
    if value is None:
        cell.clear()
    else:
        cell.set(value)


def _began_within(now: Totals, length: float) -> bool:
    """Whether counting began so lately that all of it counts."""
    return now.start is None or now.start >= now.at - length


def _last_before(past: list[Totals], now: Totals, length: float) -> Totals | None:
    """The newest totals that are as old as the window; the oldest where counting is older than our memory of it."""
    for each in reversed(past):
        if each.at <= now.at - length:
            return each
    if _began_within(now, length):
        return None
    return past[0] if past else now


def _hour_ago(hour: list[tuple[float, float, float]], now: Totals) -> tuple[float, float]:
    """Requests and failures as they stood an hour ago, by the same rule."""
    for at, count, failed in reversed(hour):
        if at <= now.at - HOUR_SECONDS:
            return count, failed
    if _began_within(now, HOUR_SECONDS):
        return 0.0, 0.0
    return hour[0][1:] if hour else now.all_requests


def _since(before: tuple[float, float], now: Totals) -> tuple[float, float]:
    """What was added; all of it where counting has begun anew."""
    count, failed = now.all_requests
    return (count, failed) if before[0] > count else (count - before[0], failed - before[1])


_keeper: Keeper | None = None
_making = forks.Lock()


def keeper() -> Keeper:
    """The process's keeper, made at the first call, with default goals unless `keep` is told others."""
    global _keeper
    with _making:
        if _keeper is None:
            _keeper = Keeper()
        return _keeper


def keep(goals: Goals) -> None:
    """Keep the score of this app from now on, in a thread. The last call's goals count. Any thread."""
    found = keeper()
    found.goals = goals
    found.start()
