"""Placeholder until the real module lands (minutes)."""


class ASGIMiddleware:
    """Nothing."""


class WSGIMiddleware:
    """Nothing."""
