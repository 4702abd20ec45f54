"""What is installed: versions that do not go together, and instrumentation that would be there twice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Final

from restaurant_otel.diagnosis.finding import Finding, Patient

Versions = Callable[[str], str | None]


def installed(package: str) -> str | None:
    """A package's version, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _disabled(patient: Patient) -> set[str]:
    names = patient.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "")
    return {name.strip() for name in names.split(",")}


def _is_auto(patient: Patient) -> bool:
    """Whether the app runs under ``opentelemetry-instrument``, which instruments with all that is installed."""
    return "opentelemetry/instrumentation/auto_instrumentation" in patient.environ.get("PYTHONPATH", "")


def check_sqlalchemy(patient: Patient, versions: Versions = installed) -> Iterator[Finding]:
    """Contrib's instrumentor refuses SQLAlchemy 2.1; below that, it makes each query's span a second time."""
    found = versions("sqlalchemy")
    if found is None or "sqlalchemy" in _disabled(patient):
        return
    major, minor = (int(part) for part in re.findall(r"\d+", found)[:2])
    if not versions("opentelemetry-instrumentation-sqlalchemy") or not _is_auto(patient):
        return
    if (major, minor) >= (2, 1):
        yield Finding(
            "sqlalchemy",
            "fault",
            f"SQLAlchemy {found}: contrib's instrumentor, which opentelemetry-instrument starts, refuses it.",
            "Queries are told without it: set OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=sqlalchemy.",
        )
    else:
        yield Finding(
            "sqlalchemy-twice",
            "fault",
            "Each query gets two spans: contrib's SQLAlchemy instrumentor runs beside ours.",
            "Set OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=sqlalchemy.",
        )


_SERVERS: Final = ("asgi", "django", "fastapi", "flask", "starlette", "wsgi")


def check_double(patient: Patient) -> Iterator[Finding]:
    """Contrib's instrumentors of web frameworks make the server's span a second time."""
    if not _is_auto(patient):
        return
    disabled = _disabled(patient)
    there = sorted(
        point.name
        for point in entry_points(group="opentelemetry_instrumentor")
        if point.name in _SERVERS and point.name not in disabled and "restaurant_otel" not in point.value
    )
    if there:
        yield Finding(
            "double",
            "fault",
            f"Each request gets two server spans: contrib's instrumentors ({', '.join(there)}) run beside ours.",
            f"Set OTEL_PYTHON_DISABLED_INSTRUMENTATIONS={','.join(sorted([*there, *disabled - {''}]))}.",
        )
