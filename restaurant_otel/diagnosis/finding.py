"""What a check says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Level = Literal["fault", "warning", "fine"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`name` is a constant for programs; `what` is the matter, in a line, and `do` says what to do about it."""

    name: str
    level: Level
    what: str
    do: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at: the app's environment, and its URL and token where they are known."""

    environ: Mapping[str, str]
    url: str | None = None
    token: str | None = None
    patience: float = 3.0
    """Seconds that the network has."""
