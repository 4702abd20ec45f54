"""Headers as span attributes: which are wanted, under which name, and which are redacted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, Literal

_REMEMBERED: Final = 1_000

_HTML: Final = frozenset({"text/html", "application/xhtml+xml"})

Patterns = tuple[re.Pattern[str], ...]


class HeaderCapture:
    """Picks the headers that the settings ask for. Any thread."""

    def __init__(
        self, direction: Literal["request", "response"], wanted: Patterns, redacted: Patterns
    ) -> None:
        self._direction = direction
        self._wanted = wanted
        self._redacted = redacted
        self._known: dict[str, tuple[str, bool] | None] = {}

    def __bool__(self) -> bool:
        return bool(self._wanted)

    def attributes(self, headers: Iterable[tuple[str | bytes, str | bytes]]) -> dict[str, Any]:
        """The attributes for those of `headers` that are wanted; a name's values in order of appearance."""
        attributes: dict[str, Any] = {}
        for header, value in headers:
            known = self._lookup(_text(header).lower())
            if known is not None:
                name, redacted = known
                if redacted:
                    attributes[name] = ("[REDACTED]",)
                else:
                    attributes[name] = (*attributes.get(name, ()), _text(value))
        return attributes

    def _lookup(self, header: str) -> tuple[str, bool] | None:
        """The attribute's name and whether to redact it; None for a header that nobody asked for."""
        try:
            return self._known[header]
        except KeyError:
            known = None
            if any(pattern.fullmatch(header) for pattern in self._wanted):
                redacted = any(pattern.fullmatch(header) for pattern in self._redacted)
                known = (f"http.{self._direction}.header.{header}", redacted)
            if len(self._known) < _REMEMBERED:  # clients invent names: the memory is bounded
                self._known[header] = known
            return known


def is_html(headers: Iterable[tuple[str | bytes, str | bytes]]) -> bool:
    """Whether response headers announce HTML."""
    for header, value in headers:
        if _text(header).lower() == "content-type":
            return _text(value).partition(";")[0].strip().lower() in _HTML
    return False


def _text(value: str | bytes) -> str:
    # A WSGI header is text already, but may hold what UTF-8 cannot encode.
    return (value if isinstance(value, bytes) else value.encode("latin-1", "replace")).decode("latin-1")
