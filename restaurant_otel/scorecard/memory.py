"""What the score remembers, in files of the workers' folder: one worker looks, any may be asked, the next goes on.

A ring of files, one for each of the latest looks, and one with the hour and the day. A file is put in place as a whole.
What is missing, torn or of another version is as if it had never been. Alone, with no folder, a keeper has its own
memory and nothing of this.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from restaurant_otel.metrics.group import Group
from restaurant_otel.scorecard.cells import Totals

SLOTS: Final = 12
"""Looks that are kept: five minutes of them, and one before."""

_NAME: Final = "score-1"
"""Versions that remember other things keep out of each other's way."""
_MOST_BYTES: Final = 16 << 20
_KEYED: Final = ("requests", "gets", "statements", "queries", "lookups", "n_plus_one")


@dataclass(slots=True)
class Memory:
    """The latest looks, requests and failures as they stood over an hour, the score over a day; oldest first."""

    past: list[Totals] = field(default_factory=list)
    hour: list[tuple[float, float, float]] = field(default_factory=list)
    trend: list[tuple[float, float]] = field(default_factory=list)


def save(
    group: Group,
    slot: int,
    totals: Totals,
    hour: Sequence[tuple[float, float, float]],
    trend: Sequence[tuple[float, float]],
) -> None:
    """Keep one look in the ring's place `slot`, and the rest. Raises OSError where the folder is gone or full."""
    _write(group, f"{_NAME}-{slot % SLOTS}.json", _plain(totals))
    _write(group, f"{_NAME}.json", {"hour": list(hour), "trend": list(trend)})


def load(group: Group) -> Memory:
    """All that is kept. Never raises: what cannot be read is not there."""
    looks = (_totals(_read(group, f"{_NAME}-{slot}.json")) for slot in range(SLOTS))
    past = sorted((each for each in looks if each is not None), key=lambda each: each.at)
    rest = _read(group, f"{_NAME}.json") or {}
    try:
        hour = [(float(at), float(count), float(failed)) for at, count, failed in rest.get("hour", ())]
        trend = [(float(at), float(total)) for at, total in rest.get("trend", ())]
    except (TypeError, ValueError, AttributeError):
        hour, trend = [], []
    return Memory(past, hour, trend)


def _plain(totals: Totals) -> dict[str, Any]:
    plain = {each.name: getattr(totals, each.name) for each in dataclasses.fields(totals)}
    for name in _KEYED:
        plain[name] = list(plain[name].items())
    plain["page_routes"] = sorted(totals.page_routes)
    return plain


def _totals(plain: Any) -> Totals | None:
    try:
        keyed = {name: {tuple(key): values for key, values in plain[name]} for name in _KEYED}
        return Totals(
            **{**plain, **keyed, "page_routes": set(plain["page_routes"]), "at": float(plain["at"])}
        )
    except (KeyError, TypeError, ValueError):
        return None


def _write(group: Group, name: str, plain: dict[str, Any]) -> None:
    from restaurant_otel.metrics import folder  # not above: Windows cannot import it, and has no groups

    data = json.dumps(plain, separators=(",", ":")).encode()
    with folder.of_group(group) as place:
        folder.replace(place, name, data)


def _read(group: Group, name: str) -> Any:
    from restaurant_otel.metrics import folder

    with contextlib.suppress(OSError, ValueError), folder.of_group(group) as place:
        return json.loads(folder.contents(place, name, _MOST_BYTES))
    return None
