"""What can be set about queries, ready for use. `Settings` has the words; `install` is given this."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """`slow_seconds`: the objective for one query. `repeats`: how often a request may ask the same; 0: never mind.

    `plans`: ask the database for the plans of slow queries. `comments`: what to write into a comment at the end of
    statements: ``route``, ``application``.
    """

    slow_seconds: float = 0.1
    repeats: int = 10
    plans: bool = True
    comments: frozenset[str] = frozenset()
