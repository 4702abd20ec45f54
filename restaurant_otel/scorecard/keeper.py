"""Keeps the score of this app: looks at the cells now and then, off the request path, and exports what it finds.

One of the workers, elected, looks every half a minute and remembers the last five minutes of totals, an hour of
requests and failures, and a day of scores, all of fixed length, in files of the workers' folder (`memory`): so each can
answer for the app, and another one goes on when that one dies. A look reads the numbers of all workers; if all of them
looked, the cost would grow with their square. `current` may be asked at any time, from any thread of any worker, and
takes what one scrape takes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from restaurant_otel import catalog, forks
from restaurant_otel.errors import survived
from restaurant_otel.metrics.cells import GaugeCell
from restaurant_otel.metrics.group import Group
from restaurant_otel.metrics.registry import Registry, registry
from restaurant_otel.metrics.ticker import Ticker
from restaurant_otel.scorecard import memory
from restaurant_otel.scorecard.cells import Totals, between, read
from restaurant_otel.scorecard.files import Goals
from restaurant_otel.scorecard.formula import Scorecard, Snapshot, score
from restaurant_otel.scorecard.memory import Memory
from restaurant_otel.usage.election import Election

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
        self._turns = forks.Lock()
        self._ticker: Ticker | None = None
        self._election = Election("score")
        self._begin()
        forks.follow(in_child=self._begin)

    def _begin(self) -> None:
        """In a child process too: its group's numbers need not be the parent's."""
        self._past: deque[Totals] = deque(maxlen=memory.SLOTS)
        self._hour: deque[tuple[float, float, float]] = deque(maxlen=int(HOUR_SECONDS / EVERY_SECONDS) + 2)
        self._trend: deque[tuple[float, float]] = deque(maxlen=_TREND_LENGTH)
        self._election.resign()
        self._elected = False
        self._group: Group | None = None

    # --- the ticker -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Look every half a minute from now on, in a thread; forked children go on by themselves."""
        with self._lock:
            if self._ticker is not None:
                return
            self._ticker = Ticker("restaurant-otel-score", EVERY_SECONDS, self.turn)
        self._ticker.start()

    def stop(self) -> None:
        """End for good, and leave it to another worker."""
        if self._ticker is not None:
            self._ticker.stop(timeout=1.0)
        with self._turns:
            self._hide()
            self._election.resign()
            self._elected = False

    def turn(self) -> None:
        """Look, unless another worker does. Any thread; never raises."""
        try:
            with self._turns:
                if self._is_elected():
                    self.look()
        except Exception as error:  # noqa: BLE001 - the thread goes on, the app even more so
            survived("score", error)

    def take_over(self) -> None:
        """Look if nobody does any more: before a scrape, so that it misses nothing. Any thread; never raises."""
        if self._ticker is not None and not self._elected:
            self.turn()

    def _is_elected(self) -> bool:
        group = self._registry.group
        try:
            elected = self._election.won(group)
        except OSError as error:  # the folder is gone: this process speaks for itself, and so does each other
            survived("score", error)
            elected = True
        if elected and group is not None and not (self._elected and group == self._group):
            self._go_on_from(memory.load(group))
        if self._elected and not elected:
            self._hide()
        self._elected, self._group = elected, group
        return elected

    def _go_on_from(self, found: Memory) -> None:
        """Remember what another worker has seen, if it is of late."""
        found = _of_late(found, self._clock())
        with self._lock:
            for kept, new in ((self._past, found.past), (self._hour, found.hour), (self._trend, found.trend)):
                if new:
                    kept.clear()
                    kept.extend(new)  # type: ignore[arg-type]

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
            hour, trend = list(self._hour), list(self._trend)
        self._export(card)
        if self._elected and self._group is not None:
            memory.save(self._group, int(now.at / EVERY_SECONDS), now, hour, trend)
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
        return self._remembered().trend

    # --- the work -------------------------------------------------------------------------------------

    def _remembered(self) -> Memory:
        """By this worker, or where another one looks by that one."""
        group = self._registry.group
        if group is not None and not self._elected:
            found = _of_late(memory.load(group), self._clock())
            if found.past:
                return found
        with self._lock:
            return Memory(list(self._past), list(self._hour), list(self._trend))

    def _snapshot(self) -> tuple[Snapshot, Totals]:
        now = read(self._registry.iter_families(), self._clock())
        remembered = self._remembered()
        past, hour = remembered.past, remembered.hour
        before = _last_before(past, now, WINDOW_SECONDS)
        count, failed = _since(_hour_ago(hour, now), now)
        cpus = [
            each.cpu for each in (*past, now) if each.cpu is not None and each.at > now.at - WINDOW_SECONDS
        ]
        cpu = sum(cpus) / len(cpus) if cpus else None
        return between(now, before, (count, failed), self.goals.objectives, cpu), now

    def _hide(self) -> None:
        """Export nothing any more."""
        own = self._registry
        for metric in (catalog.PERFORMANCE_SCORE, catalog.PERFORMANCE_COVERAGE):
            own.gauge(metric).bind().clear()
        for metric in _OF_COMPONENTS:
            for component in self.goals.objectives.components:
                own.gauge(metric).bind(component.component).clear()

    def _export(self, card: Scorecard) -> None:
        own = self._registry
        _show(own.gauge(catalog.PERFORMANCE_SCORE).bind(), card.total)
        own.gauge(catalog.PERFORMANCE_COVERAGE).bind().set(card.coverage)
        for component in card.components:
            weight = None if component.value is None else component.weight
            values = component.points, component.value, weight
            for metric, value in zip(_OF_COMPONENTS, values, strict=True):
                _show(own.gauge(metric).bind(component.name), value)


_OF_COMPONENTS: Final = (
    catalog.PERFORMANCE_COMPONENT_SCORE,
    catalog.PERFORMANCE_COMPONENT_VALUE,
    catalog.PERFORMANCE_COMPONENT_WEIGHT,
)


def _show(cell: GaugeCell, value: float | None) -> None:
    if value is None:
        cell.clear()
    else:
        cell.set(value)


def _of_late(found: Memory, now: float) -> Memory:
    """Without what is older than is looked at: of an earlier life of the app, or of one that was suspended."""
    return Memory(
        [each for each in found.past if now - WINDOW_SECONDS - 2 * EVERY_SECONDS <= each.at <= now],
        [each for each in found.hour if now - HOUR_SECONDS - 2 * EVERY_SECONDS <= each[0] <= now],
        [each for each in found.trend if now - _TREND_LENGTH * TREND_SECONDS <= each[0] <= now],
    )


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


def before_scrape() -> None:
    """Look if the worker that did so has died. For whoever is about to answer a scrape. Never raises."""
    if _keeper is not None:
        _keeper.take_over()


def keep(goals: Goals) -> None:
    """Keep the score of this app from now on, in a thread. The last call's goals count. Any thread."""
    found = keeper()
    found.goals = goals
    found.start()
