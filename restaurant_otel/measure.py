"""Placeholder until the real module lands (minutes)."""


def measure(name: str) -> object:
    """Do nothing."""
    return name
