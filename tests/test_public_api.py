"""What users import, where it is documented to be, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import restaurant_otel
from restaurant_otel import middleware


def test_the_public_names_are_these_and_no_others() -> None:
    assert set(restaurant_otel.__all__) == {
        "ASGIMiddleware",
        "Settings",
        "SettingsError",
        "WSGIMiddleware",
        "__version__",
        "instrument",
        "measure",
        "uninstrument",
    }
    assert all(hasattr(restaurant_otel, name) for name in restaurant_otel.__all__)
    assert middleware.ASGIMiddleware is restaurant_otel.ASGIMiddleware
    assert middleware.WSGIMiddleware is restaurant_otel.WSGIMiddleware


def test_importing_starts_nothing_and_sets_nothing() -> None:
    program = """
import sys, threading, os
threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
import restaurant_otel
from opentelemetry import trace, metrics
assert threading.active_count() == threads, threading.enumerate()
assert len(os.listdir("/proc/self/fd")) == descriptors
assert type(trace.get_tracer_provider()).__name__ == "ProxyTracerProvider"
assert type(metrics.get_meter_provider()).__name__ == "_ProxyMeterProvider"
heavy = {"flask", "django", "fastapi", "sqlalchemy", "grpc", "redis"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_instrumenting_starts_nothing_either() -> None:
    program = """
import threading, os
import restaurant_otel
async def app(scope, receive, send): pass
threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
restaurant_otel.instrument(app)
assert threading.active_count() == threads, threading.enumerate()
assert len(os.listdir("/proc/self/fd")) == descriptors
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
