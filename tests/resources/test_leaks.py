"""Leaks are suspected and nothing else is, by the observer's rule and by that of the alerts, on the same shapes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from restaurant_otel.metrics import Registry
from restaurant_otel.usage.leaks import LeakWatch, Verdict
from restaurant_otel.usage.sampler import Sampler
from tests.resources.shapes import FAST_LEAKS, HOUR, LEAKS, LIMIT, MIB, NO_LEAKS, Shape
from tests.resources.test_cgroups import V2_MOUNT, tree, v2_group
from tests.support.promtool import promtool
from tests.support.readings import from_families

RULES = Path(__file__).parents[2] / "dashboards" / "prometheus"


def verdicts(shape: Shape, hours: float) -> list[Verdict]:
    """What is said of `shape` every half minute."""
    watch = LeakWatch(0.0)
    times = [30.0 * step for step in range(int(hours * 120))]
    return [watch.add(now, shape(now), LIMIT, LIMIT - shape(now)) for now in times]


@pytest.mark.parametrize("name", LEAKS)
def test_a_slow_leak_is_suspected_and_measured(name: str) -> None:
    suspected = [verdict for verdict in verdicts(LEAKS[name], hours=9) if verdict.suspected]
    assert suspected
    last = suspected[-1]
    assert last.slope == pytest.approx(4 * MIB / 60, rel=0.1)
    left = LIMIT - LEAKS[name](9 * HOUR)
    assert last.time_to_limit == pytest.approx(left / (4 * MIB / 60), rel=0.1)


@pytest.mark.parametrize("name", FAST_LEAKS)
def test_a_fast_leak_is_suspected_before_it_is_half_way(name: str) -> None:
    suspected = [verdict for verdict in verdicts(FAST_LEAKS[name], hours=0.5) if verdict.suspected]
    assert suspected
    assert suspected[-1].slope == pytest.approx(MIB, rel=0.1)


@pytest.mark.parametrize("name", NO_LEAKS)
def test_what_is_no_leak_is_not_suspected(name: str) -> None:
    hours = 48 if name == "day and night" else 15
    assert not any(verdict.suspected for verdict in verdicts(NO_LEAKS[name], hours))


def test_a_worker_that_leaks_is_told_in_its_metrics(tmp_path: Path) -> None:
    """All the way from the kernel's files, in a container of 1 GiB, by a clock of the test's: 1 MiB/s, then flat."""
    kernel = tree(
        tmp_path,
        {
            "/proc/self/cgroup": "0::/",
            "/proc/self/mountinfo": V2_MOUNT,
            "/proc/meminfo": f"MemTotal: {64 << 20} kB\nMemAvailable: {60 << 20} kB\n",
            **v2_group("/sys/fs/cgroup", current=0, limit=1024 * MIB),
        },
    )
    stat, current = tmp_path / "proc/self/stat", tmp_path / "sys/fs/cgroup/memory.current"
    registry, at = Registry(), [0.0]

    def sample(now: float, memory: int) -> None:
        at[0] = now
        pages = memory // 4096
        stat.write_text("7 (shop) S " + " ".join(["1"] * 19 + ["9000000000", str(pages)] + ["0"] * 20))
        current.write_text(str(memory + 16 * MIB))  # 16 of page cache
        sampler.sample()

    stat.write_text("")
    sampler = Sampler(registry, 15, root=kernel.root, clock=lambda: at[0], wall=lambda: at[0])
    try:
        for now in range(0, 990, 15):
            sample(now, 30 * MIB + now * MIB)
        told = from_families(registry.collect())
        assert told.total("restaurant_memory_leak_suspected") == 1
        assert told.total("restaurant_memory_leak_slope_bytes_per_second") == pytest.approx(MIB, rel=0.1)
        left = told.total("restaurant_memory_leak_time_to_limit_seconds")
        assert left == pytest.approx(1024 - 30 - 975, abs=75), "as of its last judgement and look at the room"
        full = sampler.history.process[-1].memory
        for now in range(990, 2400, 15):
            sample(now, int(full or 0))
        told = from_families(registry.collect())
        assert told.total("restaurant_memory_leak_suspected") == 0, "it has levelled off"
    finally:
        sampler.stop()


# --- the same in PromQL -------------------------------------------------------------------------------

EVERY_MINUTES, HOURS = 5, 15


def rules_of_the_alert() -> dict[str, object]:
    """The alert, and the recordings that it goes by, out of all that are shipped."""
    wanted = {
        "MemoryLeak",
        "instance_worker:process_memory_bytes:min30m",
        "instance:process_memory_limit_bytes:min",
    }
    rules = [
        rule
        for name in ("recording.yml", "alerts.yml")
        for group in yaml.safe_load((RULES / name).read_text())["groups"]
        for rule in group["rules"]
        if rule.get("record", rule.get("alert")) in wanted
        and rule.get("labels", {}).get("severity") != "critical"
    ]
    assert len(rules) == len(wanted)
    return {"groups": [{"name": "leaks", "rules": rules}]}


def test_the_alert_says_the_same_of_every_shape(tmp_path: Path) -> None:
    """Fast leaks are the observer's alone: a rule on half hours cannot see them."""
    shapes: Mapping[str, Shape] = {**LEAKS, **NO_LEAKS}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules_of_the_alert()))
    steps = range(HOURS * 60 // EVERY_MINUTES + 1)
    labels = 'job="shop", instance="one"'
    series = [
        {
            "series": f'process_memory_usage_bytes{{{labels}, worker="{name}"}}',
            "values": " ".join(f"{shape(step * EVERY_MINUTES * 60):.0f}" for step in steps),
        }
        for name, shape in shapes.items()
    ]
    most = {
        "series": f"restaurant_process_memory_limit_bytes{{{labels}}}",
        "values": f"{LIMIT:.0f}x{len(steps)}",
    }
    never = [
        {
            "expr": f'count_over_time(ALERTS{{alertstate="firing", worker="{name}"}}[{HOURS}h])',
            "eval_time": f"{HOURS}h",
            "exp_samples": [],
        }
        for name in NO_LEAKS
    ]
    fires = [
        {
            "expr": f'ALERTS{{alertstate="firing", worker="{name}"}} == 1',
            "eval_time": "9h",
            "exp_samples": [
                {
                    "labels": 'ALERTS{alertname="MemoryLeak", alertstate="firing", area="resources", '
                    f'{labels}, severity="warning", worker="{name}"}}',
                    "value": 1,
                }
            ],
        }
        for name in LEAKS
    ]
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": f"{EVERY_MINUTES}m",
        "tests": [
            {
                "interval": f"{EVERY_MINUTES}m",
                "input_series": [most, *series],
                "promql_expr_test": [*fires, *never],
            }
        ],
    }
    (tmp_path / "leaks.yml").write_text(yaml.safe_dump(test))
    promtool("test", "rules", tmp_path / "leaks.yml")
