"""A look as lines of text, for a terminal of any size from 60 by 12.

`draw` gives exactly as many lines as there are rows, none wider than there are columns. What matters most comes first,
and what does not fit is left out from the bottom: first caches, then queries, then routes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from restaurant_otel.commands.common import shown
from restaurant_otel.live.screen import Look

WIDE: Final = 150
"""Columns from which routes and queries stand side by side."""

_FULL, _EMPTY = "━", "─"


@dataclass(slots=True)
class View:
    """What the person at the keys has chosen."""

    sort: str = "p95"
    falling: bool = True
    filter: str = ""
    typing: bool = False
    problem: str = ""
    paused: bool = False


SORTS: Final = {"p": "p95", "m": "mean", "r": "rate", "e": "error_ratio", "c": "count", "n": "route"}
"""By key, what routes are sorted by."""


def draw(look: Look | None, view: View, columns: int, rows: int) -> list[Text]:
    """The screen."""
    if look is None:
        told = wrap(_printable(view.problem), columns) or ["looking…"]
        lines = [Text(line, style="red" if view.problem else "dim") for line in told]
    else:
        lines = _head(look, view, columns) + _components(look, columns)
        lines += [*_figures(look, columns), Text()]
        lines += _tables(look, view, columns, rows - len(lines) - 1)
    lines = lines[: rows - 1] + [Text()] * max(0, rows - 1 - len(lines))
    return [_fit(line, columns) for line in [*lines, _foot(view)]]


def _fit(line: Text, columns: int) -> Text:
    if line.cell_len > columns:
        line = line.copy()
        line.truncate(columns, overflow="ellipsis")
    return line


def _head(look: Look, view: View, columns: int) -> list[Text]:
    left = Text.assemble(
        (shown(look.service) or "app", "bold"),
        ("  workers ", "dim"),
        str(look.workers),
        ("  window ", "dim"),
        f"{look.window_seconds:.0f} s" if look.window_seconds else "since the start",
    )
    state = "paused " if view.paused else ""
    right = Text(f"{state}{time.strftime('%H:%M:%S', time.localtime(look.at))}", style="dim")
    if view.problem:  # which needs the room, and the rest is old
        right = Text(_printable(view.problem), style="red")
        name = shown(look.service) or "app"
        left = Text(name if cell_len(name) + right.cell_len < columns else "", style="bold")
    gap = max(1 if left else 0, columns - left.cell_len - right.cell_len)
    score = Text.assemble(
        ("score ", "bold"),
        (f"{look.score:5.1f} " if look.score is not None else "    - ", f"bold {_colour(look.score)}"),
        bar(look.score, max(10, min(60, columns - 34))),
        ("  known ", "dim"),
        percent(look.coverage),
    )
    return [Text.assemble(left, " " * gap, right), score]


def bar(points: float | None, width: int) -> Text:
    """A bar of `points` out of 100."""
    if points is None:
        return Text(_EMPTY * width, style="dim")
    full = max(0, min(width, round(width * points / 100)))
    return Text.assemble((_FULL * full, _colour(points)), (_EMPTY * (width - full), "dim"))


def _colour(points: float | None) -> str:
    if points is None:
        return "dim"
    return "green" if points >= 80 else "yellow" if points >= 50 else "red"


def _components(look: Look, columns: int) -> list[Text]:
    across = max(1, columns // 38)
    width = columns // across
    longest = max((len(one.name) for one in look.components), default=0)
    cells = [
        Text.assemble(
            (one.name.ljust(longest + 1), "dim" if one.points is None else ""),
            bar(one.points, max(5, width - longest - 8)),
            f" {one.points:3.0f}" if one.points is not None else "   -",
        )
        for one in look.components
    ]
    down = -(-len(cells) // across)
    lines = []
    for row in range(down):
        line = Text()
        for cell in cells[row::down]:
            line.append_text(cell)
            line.append("  ")
        lines.append(line)
    return lines


def _figures(look: Look, columns: int) -> list[Text]:
    requests = [
        ("requests", f"{rate(look.request_rate)}/s"),
        ("errors", percent(look.error_ratio)),
        ("mean", seconds(look.mean)),
        ("p95", seconds(look.p95)),
        ("active", f"{look.active_requests:.0f}"),
    ]
    others = [
        ("queries", f"{rate(look.query_rate)}/s"),
        ("mean", seconds(look.query_mean)),
        ("cpu", percent(look.cpu)),
        ("memory", percent(look.memory)),
    ]
    together = _wrapped([*requests, *others], columns)
    return together if len(together) == 1 else _wrapped(requests, columns) + _wrapped(others, columns)


def _wrapped(pairs: Sequence[tuple[str, str]], columns: int) -> list[Text]:
    lines = [Text()]
    for name, value in pairs:
        cell = Text.assemble((f"{name} ", "dim"), value)
        if lines[-1] and lines[-1].cell_len + 3 + cell.cell_len > columns:
            lines.append(Text())
        lines[-1].append_text(Text.assemble("   " if lines[-1] else "", cell))
    return lines


# --- tables ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Column:
    """A column: its head, its width (0: what is left), and a row's cell."""

    head: str
    width: int
    cell: Callable[[Any], str]
    style: Callable[[Any], str] = lambda _: ""
    ends_matter: bool = False
    """What does not fit is left out in the middle."""


def _tables(look: Look, view: View, columns: int, rows: int) -> list[Text]:
    routes = sorted_routes(look, view)
    queries = sorted(look.queries, key=lambda one: one.total, reverse=True)
    caches = _caches(look) if rows >= 8 else []
    rows -= len(caches) + bool(caches)
    if columns >= WIDE and queries:
        half = (columns - 3) // 2
        left = _table(_ROUTES, routes, half, rows, view)
        right = _table(_QUERIES, queries, half, rows, view)
        lines = [_side_by_side(one, other, half) for one, other in zip(left, right, strict=True)]
    else:
        for_queries = min(len(queries) + 2, rows // 3) if rows >= 9 and queries else 0
        lines = _table(_ROUTES, routes, columns, rows - for_queries, view)
        if for_queries >= 3:
            lines += [Text(), *_table(_QUERIES, queries, columns, for_queries - 1, view)]
    return [*lines, *([Text()] if caches else []), *caches]


def _side_by_side(one: Text, other: Text, half: int) -> Text:
    gap = max(0, half - one.cell_len) + 3
    return Text.assemble(one, " " * gap, other)


def sorted_routes(look: Look, view: View) -> list[Any]:
    """The routes that the filter lets through, in the order that is chosen."""
    wanted = view.filter.lower()
    routes = [one for one in look.routes if wanted in f"{one.method} {one.route}".lower()]
    routes.sort(key=lambda one: (one.route, one.method))
    if view.sort != "route":
        routes.sort(key=lambda one: getattr(one, view.sort) or 0.0, reverse=view.falling)
    elif not view.falling:
        routes.reverse()
    return routes


def _table(layout: Sequence[Column], items: Sequence[Any], columns: int, rows: int, view: View) -> list[Text]:
    """A head and as many items as there is room for: exactly `rows` lines."""
    wide = columns - sum(column.width + 2 for column in layout if column.width)
    lines = [Text()]
    for column in layout:
        chosen = layout is _ROUTES and SORTS.get(_KEYS.get(column.head, "")) == view.sort
        mark = ("▾" if view.falling else "▴") if chosen else ""
        style = "bold reverse" if chosen else "bold"
        lines[0].append_text(_cell(column.head + mark, column.width or -max(8, wide), style))
    for item in items[: max(0, rows - 1)]:
        line = Text()
        for column in layout:
            width = column.width or -max(8, wide)
            text = shown(column.cell(item))
            if column.ends_matter:
                text = _without_middle(text, abs(width))
            line.append_text(_cell(text, width, column.style(item)))
        lines.append(line)
    if not items and rows > 1:
        lines.append(
            Text("none yet" if not view.filter or layout is not _ROUTES else "none that match", "dim")
        )
    return (lines + [Text()] * rows)[: max(0, rows)]


def _cell(text: str, width: int, style: str) -> Text:
    """`text` in `width` columns, to the right; to the left if the width is negative."""
    text = shown(text)
    if cell_len(text) > abs(width):
        text = set_cell_size(text, abs(width) - 1) + "…"
    space = " " * (abs(width) - cell_len(text))
    return Text.assemble((text + space if width < 0 else space + text, style), "  " if width > 0 else "")


def _without_middle(text: str, width: int) -> str:
    """`text` in at most `width` columns: a third of that from its beginning, the rest from its end."""
    if cell_len(text) <= width:
        return text
    head = set_cell_size(text, width // 3).rstrip()
    # A character may take two columns, or none.
    tail = text[-(width - width // 3 - 1) :]
    while cell_len(head) + 1 + cell_len(tail) > width:
        tail = tail[1:]
    return f"{head}…{tail}"


def seconds(value: float | None) -> str:
    """A time in six characters."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:.0f} s"
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1000:.1f} ms" if value < 0.1 else f"{value * 1000:.0f} ms"


def percent(value: float | None) -> str:
    """A share in per cent."""
    return "-" if value is None else f"{value * 100:.1f}%"


def rate(value: float) -> str:
    """A rate in few characters."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def number(value: float) -> str:
    """A count in six characters."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.1f}{unit}"
    return f"{value:.0f}"


_KEYS: Final = {"p95": "p", "mean": "m", "req/s": "r", "errors": "e", "count": "c", "route": "n"}

_ROUTES: Final = (
    Column("count", 7, lambda one: number(one.count)),
    Column("req/s", 7, lambda one: rate(one.rate)),
    Column(
        "errors", 7, lambda one: percent(one.error_ratio), lambda one: "red" if one.error_ratio else "dim"
    ),
    Column("mean", 8, lambda one: seconds(one.mean)),
    Column("p95", 8, lambda one: seconds(one.p95), lambda one: _slowness(one.p95)),
    Column("route", 0, lambda one: f"{one.method} {one.route}", ends_matter=True),
)
_QUERIES: Final = (
    Column("calls", 7, lambda one: number(one.calls)),
    Column("total", 8, lambda one: seconds(one.total)),
    Column("mean", 8, lambda one: seconds(one.mean), lambda one: _slowness(one.mean, 0.1)),
    Column("p95", 8, lambda one: seconds(one.p95), lambda one: _slowness(one.p95, 0.1)),
    Column("query", 0, lambda one: one.summary or "(no text)"),
)


def _slowness(value: float | None, objective: float = 0.2) -> str:
    if value is None:
        return "dim"
    return "" if value <= objective else "yellow" if value <= 4 * objective else "red"


def _caches(look: Look) -> list[Text]:
    states = {"closed": ("Redis", ""), "half_open": ("Redis probed", "yellow"), "open": ("Redis away", "red")}
    lines = []
    for one in look.caches[:3]:
        state, style = states.get(one.redis, ("memory", ""))
        line = Text.assemble(
            ("cache ", "bold"),
            f"{shown(one.name)[:20]:<20} ",
            bar(one.hit_ratio * 100 if one.hit_ratio is not None else None, 20),
            f" {percent(one.hit_ratio)} of {number(one.lookups)}  ",
            (state, style),
        )
        lines.append(line)
    return lines


def _foot(view: View) -> Text:
    if view.typing:
        return Text.assemble(("filter: ", "bold"), view.filter, ("▌  Enter keeps it, Esc drops it", "dim"))
    keys = [("p m r e c n", "sort"), ("i", "turn round"), ("/", "filter"), ("space", "pause"), ("q", "quit")]
    line = Text()
    for key, what in keys:
        line.append(f" {key} ", style="reverse")
        line.append(f" {what}  ")
    if view.filter:
        line.append(f"only: {shown(view.filter)}", style="yellow")
    return line


def press(view: View, key: str) -> bool:
    """What a key does to the view; False: the person wants to leave."""
    if view.typing:
        _type(view, key)
    elif key in ("q", "\x03", "\x04"):
        return False
    elif key in SORTS:
        view.falling = SORTS[key] != view.sort or not view.falling
        view.sort = SORTS[key]
    elif key == "i":
        view.falling = not view.falling
    elif key == " ":
        view.paused = not view.paused
    elif key == "/":
        view.typing, view.filter = True, ""
    elif key == "\x1b":
        view.filter = ""
    return True


def _type(view: View, key: str) -> None:
    if key in ("\r", "\n"):
        view.typing = False
    elif key in ("\x1b", "\x03"):
        view.typing, view.filter = False, ""
    elif key in ("\x7f", "\b"):
        view.filter = view.filter[:-1]
    elif key.isprintable() and len(view.filter) < 60:
        view.filter += key


def _printable(text: str) -> str:
    """What a server says goes to somebody's terminal: without characters that steer it."""
    return "".join(character if character.isprintable() else " " for character in text)
