"""Placeholder until the real module lands (minutes)."""


class Settings:
    """Nothing."""


class SettingsError(ValueError):
    """Nothing."""
