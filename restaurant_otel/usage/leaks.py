"""Whether a worker's memory leaks: a verdict on its resident memory over time, by a clock from outside.

Memory grows for good reasons: a worker warms up, caches fill, a large report leaves free space behind. What tells a
leak from these is that it goes on. So the verdict looks at the minima of short spans, which leave out what comes
and goes, over a long window, and asks that the growth be steady (rank correlation), present in every third of the
window, large enough to matter, and fast enough to reach the limit soon. `predict_linear` alone would suspect every
step.

Two windows: hours for slow leaks, minutes for fast ones, which would have eaten everything before the first was full.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import median
from typing import Final

Point = tuple[float, float]
"""Seconds, bytes."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When to suspect a leak. Times in seconds.

    A window is `spans` spans of `span` seconds, of each the minimum; the first `warm_up` seconds do not count. The
    growth over the window must be more than `least_growth` bytes and more than `least_share` of the limit, with a
    rank correlation of at least `least_tau`, each third of the window must keep `least_third` of the slope and the
    last one `least_kept` of the first one's, the limit must be nearer than `horizon`, and all of that for `hold`.
    """

    span: float
    spans: int
    warm_up: float
    hold: float
    horizon: float
    least_growth: float
    least_share: float
    least_tau: float
    least_third: float
    least_kept: float


SLOW: Final = Rule(
    span=1800,
    spans=12,
    warm_up=1800,
    hold=1800,
    horizon=86_400,
    least_growth=24e6,
    least_share=0.04,
    least_tau=0.6,
    least_third=0.35,
    least_kept=0.5,
)
"""Six hours. Tried on 36 hours of synthetic shapes: step, day and night, saw-tooth, warm-up, plateau, noise, leak."""

FAST: Final = Rule(
    span=45,
    spans=12,
    warm_up=300,
    hold=90,
    horizon=7200,
    least_growth=96e6,
    least_share=0.08,
    least_tau=0.9,
    least_third=0.6,
    least_kept=0.8,
)
"""Nine minutes, for leaks that reach the limit within two hours. Stricter, for it sees less."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known: bytes a second, whether that is suspected to be a leak, and seconds left. None: not yet."""

    slope: float | None = None
    suspected: bool = False
    time_to_limit: float | None = None


def theil_sen(points: Sequence[Point]) -> float:
    """The median of the slopes of all pairs: one outlier in four does not move it. 0 for fewer than two points."""
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2) if x2 != x1]
    return median(slopes) if slopes else 0.0


def kendall(points: Sequence[Point]) -> float:
    """Kendall's tau-a of points in the order of time: 1 where each is above the one before, -1 where below."""
    pairs = list(combinations(points, 2))
    if not pairs:
        return 0.0
    return sum((late > early) - (late < early) for (_, early), (_, late) in pairs) / len(pairs)


def grows_steadily(minima: Sequence[Point], slope: float, limit: float, rule: Rule) -> bool:
    """Whether minima whose slope is `slope` grow as a leak does, however far the limit is."""
    growth = slope * (minima[-1][0] - minima[0][0])
    if slope <= 0 or growth <= max(rule.least_growth, rule.least_share * limit):
        return False
    if kendall(minima) < rule.least_tau:
        return False
    third = len(minima) // 3
    parts = (minima[:third], minima[third : 2 * third], minima[2 * third :])
    slopes = [theil_sen(part) for part in parts]
    return min(slopes) > rule.least_third * slope and slopes[-1] >= rule.least_kept * slopes[0]


@dataclass(slots=True)
class Watch:
    """One rule at work on one process: takes memory as it is read, remembers `rule.spans` minima, and judges.

    `born` is the time of the process's start, on the clock of the readings.
    """

    rule: Rule
    born: float
    verdict: Verdict = field(default_factory=Verdict)
    _minima: deque[Point] = field(init=False)
    _open: Point | None = None
    _open_until: float = 0.0
    _since: float | None = None

    def __post_init__(self) -> None:
        self._minima = deque(maxlen=self.rule.spans)

    def add(self, now: float, memory: float, limit: float, left: float) -> Verdict:
        """Take a reading in bytes, and judge whenever a span has ended.

        `limit` is the memory at which the process is killed, `left` what is left until then.
        """
        if now - self.born < self.rule.warm_up:
            return self.verdict
        if self._open is not None and now >= self._open_until:
            self._minima.append(self._open)
            self._open = None
            self._judge(now, limit, left)
        if self._open is None:
            self._open = (now, memory)
            self._open_until = now + self.rule.span
        elif memory < self._open[1]:
            self._open = (now, memory)
        return self.verdict

    def _judge(self, now: float, limit: float, left: float) -> None:
        if len(self._minima) < self.rule.spans:
            return
        minima = list(self._minima)
        slope = theil_sen(minima)
        time_to_limit = max(0.0, left) / slope if slope > 0 else None
        leaks = (
            time_to_limit is not None
            and time_to_limit < self.rule.horizon
            and grows_steadily(minima, slope, limit, self.rule)
        )
        if not leaks:
            self._since = None
        elif self._since is None:
            self._since = now
        suspected = self._since is not None and now - self._since >= self.rule.hold
        self.verdict = Verdict(slope, suspected, time_to_limit)


class LeakWatch:
    """Both rules on one process. Suspected is what either suspects, and its figures are told first."""

    def __init__(self, born: float, rules: Sequence[Rule] = (SLOW, FAST)) -> None:
        self._watches = [Watch(rule, born) for rule in rules]

    def add(self, now: float, memory: float, limit: float, left: float) -> Verdict:
        """See `Watch.add`."""
        verdicts = [watch.add(now, memory, limit, left) for watch in self._watches]
        suspected = [verdict for verdict in verdicts if verdict.suspected]
        known = [verdict for verdict in verdicts if verdict.slope is not None]
        return next(iter(suspected or known), Verdict())
