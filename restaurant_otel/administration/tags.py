"""Entity tags (RFC 9110, 8.8.3): what an answer is called, so that a client may say which one it has seen."""

from __future__ import annotations

import hashlib


def of(body: bytes) -> str:
    """The tag of an answer with this body."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def match(given: str, tag: str, *, weakly: bool = False) -> bool:
    """Whether a header `given`, ``If-Match`` or (`weakly`) ``If-None-Match``, names `tag`."""
    names = [part.strip() for part in given.split(",")]
    return names == ["*"] or tag in (name.removeprefix("W/") if weakly else name for name in names)
