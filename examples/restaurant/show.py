"""Figures as text: one line, a screen that is drawn anew in place, the summary at the end.

Knows nothing of where figures come from. Text goes to standard output.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Sequence

from examples.restaurant.figures import Figures

BUSIEST = 6
HEADINGS = ("route", "requests", "errors", "mean", "p95", "queries each")
_COLUMN = 13
_BAR = 40


def line(now: Figures) -> str:
    """One line over all routes, of figures over some seconds."""
    requests, queries = now.all_requests, now.all_queries
    return (
        f"{requests.count / now.at:6.1f} requests/s  {_percent(requests.error_share)} errors  "
        f"mean {_ms(requests.mean)}  p95 {_ms(requests.quantile(0.95))}  "
        f"{queries.count / now.at:6.1f} queries/s  mean {_ms(queries.mean)}  {now.active:.0f} in flight"
    )


def live(now: Figures, gone: float, duration: float | None) -> list[str]:
    """The line over all, the routes that take most of the time, and how much of `duration` (seconds) is `gone`."""
    return [line(now), "", *_table(now, _by_time(now)[:BUSIEST]), *_bar(gone, duration)]


def _bar(gone: float, duration: float | None) -> list[str]:
    if duration is None:
        return ["", "Ctrl-C ends it"]
    full = round(_BAR * min(1.0, gone / duration))
    return ["", f"{'━' * full}{'─' * (_BAR - full)} {min(gone, duration):.0f} of {duration:g} s"]


def summary(whole: Figures) -> list[str]:
    """Every route of the run, those that took most time first, and what stands out."""
    return [*_table(whole, _by_time(whole)), "", *_findings(whole)]


def _by_time(figures: Figures) -> list[str]:
    served = [route for route, tally in figures.requests.items() if tally.count]
    return sorted(served, key=lambda route: -figures.requests[route].seconds)


def _table(figures: Figures, routes: Sequence[str]) -> list[str]:
    width = max((len(route) for route in routes), default=0) + 2
    lines = [_row(width, HEADINGS)]
    for route in routes:
        tally = figures.requests[route]
        cells = (
            route,
            f"{tally.count:.0f}",
            f"{tally.errors:.0f}",
            _ms(tally.mean),
            _ms(tally.quantile(0.95)),
            f"{figures.queries_each(route):.1f}",
        )
        lines.append(_row(width, cells))
    return lines


def _row(width: int, cells: Sequence[str]) -> str:
    return cells[0].ljust(width) + "".join(cell.rjust(_COLUMN) for cell in cells[1:])


def _findings(whole: Figures) -> list[str]:
    served = _by_time(whole)
    if not served:
        return ["nothing was asked"]
    slowest = max(served, key=lambda route: whole.requests[route].mean)
    hungriest = max(served, key=whole.queries_each)
    weakest = max(served, key=lambda route: whole.requests[route].errors)
    found = [f"slowest on average: {slowest} ({_ms(whole.requests[slowest].mean)})"]
    if queries := whole.queries_each(hungriest):
        found.append(f"most queries for one request: {hungriest} ({queries:.1f})")
    if whole.requests[weakest].errors:
        share = _percent(whole.requests[weakest].error_share)
        found.append(f"most errors: {weakest} ({share} of its requests)")
    if not math.isnan(whole.hit_ratio):
        found.append(f"cache: answered {_percent(whole.hit_ratio)} of its look-ups")
    return found


def _ms(seconds: float) -> str:
    return "-" if math.isnan(seconds) else f"{seconds * 1000:.{0 if seconds >= 0.1 else 1}f} ms"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share * 100:.1f} %"


class Screen:
    """The last lines of the terminal, drawn over and over; only for a standard output that is one."""

    def __init__(self) -> None:
        self._drawn = 0

    def draw(self, lines: Sequence[str]) -> None:
        """Replace what was drawn before. Lines are cut to the width: a wrapped one would count as two."""
        width = shutil.get_terminal_size().columns - 1
        up = f"\x1b[{self._drawn}F" if self._drawn else ""
        sys.stdout.write(up + "\x1b[J" + "".join(text[:width] + "\n" for text in lines))
        sys.stdout.flush()
        self._drawn = len(lines)
