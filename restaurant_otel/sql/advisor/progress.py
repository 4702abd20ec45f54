"""How far the advisor is, for whoever watches: shares of the whole that only grow, from 0 to 1.

Each phase knows how many steps it has (statements, tables, indexes), and which share of the whole it ends at. How many
rounds the search takes, nobody knows beforehand, so each of them takes half of what is left of its share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

Told = Callable[[float, str], None]
"""Hears of a share of the whole, 0 to 1, and of what is being done."""

LEAST: Final = 0.002
"""The least step that is told."""
T = TypeVar("T")


class Progress:
    """Where one run is. Costs nothing if nobody is `told`."""

    def __init__(self, told: Told | None = None) -> None:
        self._told = told
        self._share = 0.0
        self._last: tuple[float, str] = -1.0, ""

    def at(self, share: float, what: str) -> None:
        """It is at `share` of the whole, or further, and begins with `what`."""
        if self._told is None:
            return
        self._share = max(self._share, share)
        before, said = self._last
        if what != said or self._share >= min(1.0, before + LEAST) > before:
            self._last = self._share, what
            self._told(self._share, what)

    def over(self, items: Sequence[T], what: str, until: float) -> Iterable[T]:
        """The `items`; taking them is told as the way to the share `until`, which is reached after the last."""
        return items if self._told is None else self._counted(items, what, until)

    def half_way(self, until: float) -> float:
        """The share in the middle between here and `until`."""
        return (self._share + until) / 2

    def _counted(self, items: Sequence[T], what: str, until: float) -> Iterator[T]:
        begin = self._share
        for number, item in enumerate(items):
            self.at(begin + (until - begin) * number / len(items), what)
            yield item
        self.at(until, what)
