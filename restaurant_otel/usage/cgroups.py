"""The control groups of this process, version 1, 2 or both at once: limits, and what is used of them.

A limit may be set on the process's own group or on any around it, and the tightest bites; so each question is asked of
all levels that can be seen from here. The root of the whole host is no level: it limits nothing.

Sources: https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/,
proc(5) for mountinfo, cgroups(7) for ``/proc/self/cgroup``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from restaurant_otel.usage.files import Files, number_after

_MOST_LEVELS: Final = 8
_NO_LIMIT: Final = 1 << 60
"""Version 1 says "no limit" by the largest number of whole pages; nothing that large bites."""


@dataclass(frozen=True, slots=True)
class _Hierarchy:
    """One controller's groups: their folders from the process's own outwards."""

    unified: bool
    levels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes of one group. `limit`: None where it has none of its own. `stat`: the kernel's details, as they are."""

    usage: int
    working_set: int
    limit: int | None
    stat: bytes = b""


class Cgroups:
    """The groups of this process, found once; processes are hardly ever moved."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._found: dict[str, _Hierarchy] = {}
        paths = _paths(files.read_once("/proc/self/cgroup") or b"")
        mounts = _mounts(files.read_once("/proc/self/mountinfo") or b"")
        for controller in ("memory", "cpu", "cpuacct", "pids", "blkio"):
            name = controller if controller in paths and controller in mounts else ""
            if name in paths and name in mounts:
                levels = self._levels(paths[name], *mounts[name], unified=not name)
                if levels:
                    self._found[controller] = _Hierarchy(not name, levels)

    def _levels(self, path: str, root: str, point: str, unified: bool) -> tuple[str, ...]:
        """The folders of a group and of those around it, as far as they can be seen and are not the host's root."""
        inside = path if root == "/" else path.removeprefix(root) if _within(path, root) else "/"
        parts = [part for part in inside.split("/") if part]
        if ".." in parts or not self._files.exists("/".join([point, *parts])):
            parts = []  # told from the view of another namespace
        levels = ["/".join([point, *parts[:depth]]) for depth in range(len(parts), -1, -1)]
        return tuple(level for level in levels[:_MOST_LEVELS] if not self._is_root(level, unified))

    def _is_root(self, level: str, unified: bool) -> bool:
        """Whether it is the root of the whole host, by what only that has or lacks."""
        if unified:
            return not self._files.exists(f"{level}/cgroup.events")
        return self._files.exists(f"{level}/release_agent")

    @property
    def exist(self) -> bool:
        """Whether this process is in any group but the host's root."""
        return bool(self._found)

    def unified(self) -> str | None:
        """The folder of the process's own group of version 2, where controllers are there."""
        return next((found.levels[0] for found in self._found.values() if found.unified), None)

    # --- memory -----------------------------------------------------------------------------------------

    def memory(self) -> list[MemoryUse]:
        """The memory of the process's own group and those around it."""
        found = self._found.get("memory")
        if found is None:
            return []
        return [use for level in found.levels if (use := self._memory_of(level, found.unified)) is not None]

    def _memory_of(self, level: str, unified: bool) -> MemoryUse | None:
        names = ("current", "max", b"inactive_file ") if unified else _MEMORY_V1
        usage = _number(self._files.read(f"{level}/memory.{names[0]}"))
        if usage is None:
            return None
        limit = _number(self._files.read(f"{level}/memory.{names[1]}"))
        stat = self._files.read(f"{level}/memory.stat") or b""
        working_set = max(0, usage - (number_after(stat, names[2]) or 0))
        return MemoryUse(usage, working_set, None if limit is None or limit >= _NO_LIMIT else limit, stat)

    def memory_details(self, stat: bytes) -> dict[str, int]:
        """Of the process's own group: ``rss``, ``minor`` and ``major`` faults, and its events under their names.

        `stat` is what `memory` has found for it.
        """
        found = self._found.get("memory")
        if found is None:
            return {}
        level = found.levels[0]
        prefix = b"" if found.unified else b"total_"
        faults, major = number_after(stat, prefix + b"pgfault "), number_after(stat, prefix + b"pgmajfault ")
        told = {
            "rss": number_after(stat, b"anon " if found.unified else b"total_rss "),
            "minor": None if faults is None or major is None else faults - major,
            "major": major,
        }
        if found.unified:
            events = self._files.read(f"{level}/memory.events") or b""
            told |= {name: number_after(events, name.encode() + b" ") for name in _EVENTS}
        else:
            control = self._files.read(f"{level}/memory.oom_control") or b""
            told["oom_kill"] = number_after(control, b"oom_kill ")
            told["max"] = _number(self._files.read(f"{level}/memory.failcnt"))
        return {name: value for name, value in told.items() if value is not None}

    # --- CPU --------------------------------------------------------------------------------------------

    def cpu_quota(self) -> float | None:
        """How many CPUs may be used, by the tightest quota; None where there is none."""
        found = self._found.get("cpu")
        if found is None:
            return None
        return min(
            (quota for level in found.levels if (quota := self._quota_of(level, found.unified)) is not None),
            default=None,
        )

    def _quota_of(self, level: str, unified: bool) -> float | None:
        if unified:
            told = (self._files.read(f"{level}/cpu.max") or b"").split()
        else:
            told = [
                (self._files.read(f"{level}/cpu.cfs_{name}_us") or b"").strip()
                for name in ("quota", "period")
            ]
        if len(told) != 2 or not told[0].isdigit() or not told[1].isdigit() or not int(told[1]):
            return None
        return int(told[0]) / int(told[1])

    def cpu_time(self) -> dict[str, float]:
        """Seconds that the process's own group has used: ``total``, ``user``, ``system``."""
        found = self._found.get("cpuacct")
        if found is None:
            return {}
        level = found.levels[0]
        if found.unified:
            stat = self._files.read(f"{level}/cpu.stat") or b""
            told = {name: number_after(stat, word) for name, word in _CPU_V2.items()}
            return {name: value / 1e6 for name, value in told.items() if value is not None}
        total = _number(self._files.read(f"{level}/cpuacct.usage"))
        if total is None:
            return {}
        stat = self._files.read(f"{level}/cpuacct.stat") or b""
        modes = {name: number_after(stat, name.encode() + b" ") for name in ("user", "system")}
        ticks = os.sysconf(
            "SC_CLK_TCK"
        )  # not earlier: where there are no control groups there may be no such call
        return {"total": total / 1e9} | {
            name: value / ticks for name, value in modes.items() if value is not None
        }

    def throttling(self) -> tuple[int, int, float] | None:
        """Periods of the quota, those in which the group was throttled, and for how many seconds in all.

        Of the level whose quota is the tightest; None where there is no quota.
        """
        found = self._found.get("cpu")
        if found is None:
            return None
        quotas = {level: self._quota_of(level, found.unified) for level in found.levels}
        limited = [level for level, quota in quotas.items() if quota is not None]
        if not limited:
            return None
        stat = self._files.read(f"{min(limited, key=lambda level: quotas[level] or 0.0)}/cpu.stat") or b""
        periods, throttled = number_after(stat, b"nr_periods "), number_after(stat, b"nr_throttled ")
        word, unit = (b"throttled_usec ", 1e6) if found.unified else (b"throttled_time ", 1e9)
        held = number_after(stat, word)
        if periods is None or throttled is None or held is None:
            return None
        return periods, throttled, held / unit

    # --- tasks and disks --------------------------------------------------------------------------------

    def tasks(self) -> tuple[int | None, int | None]:
        """How many tasks there are in the process's own group, and the smallest limit on them."""
        found = self._found.get("pids")
        if found is None:
            return None, None
        limits = [_number(self._files.read(f"{level}/pids.max")) for level in found.levels]
        current = _number(self._files.read(f"{found.levels[0]}/pids.current"))
        return current, min((limit for limit in limits if limit is not None), default=None)

    def disk(self) -> dict[str, int]:
        """Bytes that the process's own group has read and written; nothing where that is not told."""
        found = self._found.get("blkio")
        if found is None:
            return {}
        if found.unified:
            stat = self._files.read(f"{found.levels[0]}/io.stat")
            words = (b"rbytes=", b"wbytes=")
        else:
            stat = self._files.read(f"{found.levels[0]}/blkio.throttle.io_service_bytes_recursive")
            words = (b"Read ", b"Write ")
        if stat is None:
            return {}
        return {
            direction: sum(int(rest.split(None, 1)[0]) for rest in stat.split(word)[1:])
            for direction, word in zip(("read", "write"), words, strict=True)
        }


_MEMORY_V1: Final = ("usage_in_bytes", "limit_in_bytes", b"total_inactive_file ")
_EVENTS: Final = ("high", "max", "oom", "oom_kill")
_CPU_V2: Final = {"total": b"usage_usec ", "user": b"user_usec ", "system": b"system_usec "}


def _number(data: bytes | None) -> int | None:
    """A file that is one number; None also for ``max``."""
    text = (data or b"").strip()
    return int(text) if text.isdigit() else None


def _paths(cgroup: bytes) -> dict[str, str]:
    """The group's path for each controller; version 2 under the empty name."""
    paths = {}
    for line in cgroup.decode("utf-8", "surrogateescape").splitlines():
        fields = line.split(":", 2)
        if len(fields) == 3:
            for controller in fields[1].split(","):
                paths[controller] = fields[2]
    return paths


def _mounts(mountinfo: bytes) -> dict[str, tuple[str, str]]:
    """Which part of each controller's tree is mounted where; version 2 under the empty name."""
    mounts: dict[str, tuple[str, str]] = {}
    for line in mountinfo.decode("utf-8", "surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        fields, more = before.split(" "), after.split(" ")
        if len(fields) >= 6 and len(more) >= 3 and more[0] in ("cgroup", "cgroup2"):
            names = more[2].split(",") if more[0] == "cgroup" else [""]
            for name in names:
                mounts.setdefault(name, (fields[3], fields[4]))
    return mounts


def _within(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")
