"""The machine: where workers keep their numbers, whether they can, and whether they find each other; and Redis."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from restaurant_otel.diagnosis.finding import Finding, Patient

_LEAST_BYTES: Final = 16 * 1024 * 1024


def root(environ: Mapping[str, str]) -> str:
    """Where an app with this environment keeps its workers' files; as `metrics.group.default_root`."""
    wished = environ.get("RESTAURANT_OTEL_WORKERS_DIR")
    if wished:
        return os.path.abspath(wished)
    for place in (environ.get("XDG_RUNTIME_DIR"), "/dev/shm"):  # noqa: S108 - looked at, not written to
        if place and os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK):
            return place
    return tempfile.gettempdir()


def check_folder(patient: Patient) -> Iterator[Finding]:
    """The workers' folder must be there, be theirs alone, and have room."""
    if not hasattr(os, "geteuid"):
        return
    place = root(patient.environ)
    if not os.path.isdir(place):
        yield Finding(
            "folder", "fault", f"{place}, for the workers' numbers, is not there.", f"mkdir -p {place}"
        )
        return
    if not os.access(place, os.W_OK | os.X_OK):
        yield Finding(
            "permissions",
            "fault",
            f"{place}, for the workers' numbers, cannot be written to by user {os.geteuid()}.",
            "Let the app's user write to it, or set RESTAURANT_OTEL_WORKERS_DIR to a folder of the app's own.",
        )
        return
    ours = Path(place, f"restaurant-otel-{os.geteuid()}")
    if ours.is_symlink() or (ours.exists() and not _is_private(ours)):
        yield Finding(
            "permissions",
            "fault",
            f"{ours} is not the app's alone: workers do not use it, and each speaks for itself.",
            f"chmod 700 {ours}, or remove it if it is somebody else's.",
        )
    free = shutil.disk_usage(place).free
    if free < _LEAST_BYTES:
        yield Finding(
            "space",
            "fault",
            f"{place} has {free} bytes left: workers cannot keep their numbers there.",
            "Make room, or set RESTAURANT_OTEL_WORKERS_DIR to a folder with some (in Docker: --shm-size).",
        )


def _is_private(path: Path) -> bool:
    status = path.stat()
    return status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077 and path.is_dir()


def check_redis(patient: Patient) -> Iterator[Finding]:
    """The cache's Redis, where the environment says where it is."""
    url = patient.environ.get("RESTAURANT_OTEL_CACHE_URL")
    if not url:
        return
    from restaurant_otel.cache import Cache

    try:
        with Cache(url, timeout=patient.patience) as cache:
            cache.exists("doctor")
            away = cache.stats().breaker != "closed"
    except ValueError as error:
        yield Finding("redis", "fault", f"RESTAURANT_OTEL_CACHE_URL: {error}", "Correct the variable.")
        return
    if away:
        yield Finding(
            "redis",
            "fault",
            "Redis does not answer where RESTAURANT_OTEL_CACHE_URL says it is.",
            "Start it, or correct the variable.",
        )
