"""Placeholder until the real module lands (minutes)."""

from typing import Any


def instrument(app: Any, **settings: Any) -> Any:
    """Return app."""
    return app


def uninstrument(app: Any) -> Any:
    """Return app."""
    return app
