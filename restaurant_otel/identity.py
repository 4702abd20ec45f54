"""Who is sending: the OpenTelemetry resource of this process.

What the operator says (``OTEL_RESOURCE_ATTRIBUTES``, ``OTEL_SERVICE_NAME``) wins over what is detected
here. Command lines are left out on purpose: they carry passwords more often than help.
"""

from __future__ import annotations

import os
import platform
import re
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from opentelemetry.sdk.resources import Resource

from restaurant_otel._version import __version__

_OF_ONE_WORKER: Final = ("process.", "service.instance.id")


def resource() -> Resource:
    """The resource of this process, detected afresh. Reads a few files, starts nothing."""
    detected: dict[str, Any] = {
        "telemetry.distro.name": "restaurant-otel",
        "telemetry.distro.version": __version__,
        "host.name": socket.gethostname(),
        "host.arch": _architecture(),
        "os.type": sys.platform if sys.platform != "win32" else "windows",
        "process.pid": os.getpid(),
        "process.executable.name": Path(sys.executable).name,
        "process.runtime.name": sys.implementation.name,
        "process.runtime.version": platform.python_version(),
    }
    container = container_id(_text("/proc/self/cgroup"), _text("/proc/self/mountinfo"))
    if container is not None:
        detected["container.id"] = container
    return Resource(detected).merge(Resource.create())


def shared_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What all workers of an app have in common: any of them may answer a scrape with it."""
    return {name: value for name, value in attributes.items() if not name.startswith(_OF_ONE_WORKER)}


def container_id(cgroup: str, mountinfo: str) -> str | None:
    """The container's id from ``/proc/self/cgroup`` (v1) or ``/proc/self/mountinfo`` (v2); None outside of one."""
    match = re.search(r"(?m)[/:.-]([0-9a-f]{64})(?:\.scope)?$", cgroup)
    if match is None:
        match = re.search(r"/containers/([0-9a-f]{64})/(?:hostname|resolv\.conf|hosts)", mountinfo)
    return match[1] if match else None


def _architecture() -> str:
    machine = platform.machine().lower()
    return {"x86_64": "amd64", "aarch64": "arm64", "i386": "x86", "i686": "x86"}.get(machine, machine)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
