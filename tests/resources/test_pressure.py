"""Pressure, and the container's counters, as the kernel's files tell them and a scrape shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from restaurant_otel.metrics import Registry
from restaurant_otel.usage.cgroups import Cgroups
from restaurant_otel.usage.container import Container
from restaurant_otel.usage.pressure import Pressure
from restaurant_otel.usage.readings import HostReading
from restaurant_otel.usage.sheet import Sheet
from tests.resources.test_cgroups import MIB, V2_MOUNT, tree, v2_group
from tests.support.readings import Readings, from_families

PSI = "some avg10={share} avg60=0.10 avg300=0.05 total={total}\n"
FULL = PSI.replace("some", "full")


def scraped(root: Path, files: dict[str, object]) -> Readings:
    """What is shown of a tree."""
    registry, kernel = Registry(), tree(root, files)
    cgroups, sheet, reading = Cgroups(kernel), Sheet(registry), HostReading(time=0.0)
    sheet.begin(1.0)
    Pressure(kernel, cgroups).collect(sheet, reading)
    Container(cgroups).collect(sheet, reading)
    sheet.end()
    kernel.let_go()
    return from_families(registry.collect())


LIMITED: dict[str, object] = {
    "/proc/self/cgroup": "0::/",
    "/proc/self/mountinfo": V2_MOUNT,
    **v2_group("/sys/fs/cgroup", current=116 * MIB, limit=128 * MIB, cpu="50000 100000"),
}


def test_pressure_of_host_and_container(tmp_path: Path) -> None:
    found = scraped(
        tmp_path,
        {
            **LIMITED,
            "/proc/pressure/cpu": PSI.format(share="1.50", total=2_000_000)
            + FULL.format(share="0.00", total=0),
            "/proc/pressure/memory": PSI.format(share="0.00", total=0) + FULL.format(share="0.00", total=0),
            "/sys/fs/cgroup/memory.pressure": PSI.format(share="40.00", total=7_500_000)
            + FULL.format(share="25.00", total=5_000_000),
        },
    )
    seconds, share = (
        "restaurant_pressure_stalled_time_seconds_total",
        "restaurant_pressure_stalled_share_ratio",
    )
    values = {tuple(sorted(dict(key).values())): value for key, value in found.series(seconds).items()}
    assert values == {
        ("cpu", "host", "some"): 2.0,
        ("host", "memory", "some"): 0.0,
        ("full", "host", "memory"): 0.0,
        ("container", "memory", "some"): 7.5,
        ("container", "full", "memory"): 5.0,
    }
    shares = {tuple(sorted(dict(key).values())): value for key, value in found.series(share).items()}
    assert shares["container", "full", "memory"] == pytest.approx(0.25)
    assert shares["cpu", "host", "some"] == pytest.approx(0.015)


def test_what_the_limits_led_to_is_shown(tmp_path: Path) -> None:
    found = scraped(tmp_path, LIMITED)
    periods = "restaurant_container_cpu_periods_total"
    assert found.total(periods, restaurant_container_cpu_throttled="true") == 25
    assert found.total(periods, restaurant_container_cpu_throttled="false") == 75
    assert found.total("restaurant_container_cpu_throttled_time_seconds_total") == 1.5
    events = "restaurant_container_memory_events_total"
    told = {
        event: found.total(events, restaurant_container_memory_event=event)
        for event in ("high", "max", "oom", "oom_kill")
    }
    assert told == {"high": 3, "max": 4, "oom": 2, "oom_kill": 1}
    assert found.total("restaurant_container_tasks") == 12
    assert found.total("restaurant_container_tasks_limit") == 100


def test_a_lifted_limit_leaves_no_last_value(tmp_path: Path) -> None:
    registry, kernel = Registry(), tree(tmp_path, LIMITED)
    container, sheet = Container(Cgroups(kernel)), Sheet(registry)
    for now, limit in ((1.0, "134217728"), (2.0, "max")):
        (tmp_path / "sys/fs/cgroup/memory.max").write_text(f"{limit}\n")
        sheet.begin(now)
        container.collect(sheet, HostReading(time=0.0))
        sheet.end()
        shown = from_families(registry.collect()).series("restaurant_container_memory_limit_bytes")
        assert list(shown.values()) == ([128 * MIB] if now == 1.0 else [])
    kernel.let_go()
