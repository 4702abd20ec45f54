"""Observability for Python web apps in one line: ``app = instrument(app)``."""

from restaurant_otel._version import __version__
from restaurant_otel.instrument import instrument, uninstrument
from restaurant_otel.measure import measure
from restaurant_otel.middleware import ASGIMiddleware, WSGIMiddleware
from restaurant_otel.settings import Settings, SettingsError

__all__ = [
    "ASGIMiddleware",
    "Settings",
    "SettingsError",
    "WSGIMiddleware",
    "__version__",
    "instrument",
    "measure",
    "uninstrument",
]
