"""A fleet's score from a real Prometheus with a day of data: the score, the evidence, the outlook, the command."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from restaurant_otel.cli import main
from restaurant_otel.rules.options import Options
from restaurant_otel.scorecard.fleet import FleetError, fleet_snapshots
from restaurant_otel.scorecard.fleet import Prometheus as Fleet
from restaurant_otel.scorecard.formula import Band, score
from restaurant_otel.scorecard.outlook import outlooks
from restaurant_otel.scoring import recommend
from tests.support import prometheus as prometheuses
from tests.support.processes import free_port
from tests.support.promtool import promtool

HOURS = 26
SHOP = {"job": "shop", "instance": "shop-1:80"}


def series(name: str, **labels: str) -> str:
    inside = ",".join(f'{key}="{value}"' for key, value in {**SHOP, **labels}.items())
    return f"{name}{{{inside}}}"


def per_minute() -> dict[str, dict[str, float]]:
    """Counters by family: what each series gains a minute. A service that does most things not quite well."""
    http, query = "http_server_request_duration_seconds", "restaurant_db_query_duration_seconds"
    get = {"http_request_method": "GET"}
    found: dict[str, dict[str, float]] = {}

    def histogram(name: str, count: float, seconds: float, **labels: str) -> None:
        family = found.setdefault(name, {})
        family[series(f"{name}_count", **labels)] = count
        family[series(f"{name}_sum", **labels)] = count * seconds
        for bound in (0.2, 1.0, 2.0, 5.0, 10.0):
            family[series(f"{name}_bucket", **labels, le=str(bound))] = count if seconds <= bound else 0.0
        family[series(f"{name}_bucket", **labels, le="+Inf")] = count

    histogram(http, 60, 0.1, **get, http_route="/menu", http_response_status_code="200")
    histogram(http, 6, 1.5, **get, http_route="/report", http_response_status_code="200")
    failed = {"http_response_status_code": "500", "error_type": "KeyError"}
    histogram(http, 0.06, 0.1, **get, http_route="/menu", **failed)
    histogram("db_client_operation_duration_seconds", 100, 0.3, db_operation_name="SELECT")
    histogram(query, 100, 0.3, db_query_summary="SELECT menu")
    groups = {"restaurant_cache_name": "menu", "restaurant_cache_group": "dish"}
    found["restaurant_cache_hits"] = {series("restaurant_cache_hits_total", **groups): 60}
    found["restaurant_cache_misses"] = {series("restaurant_cache_misses_total", **groups): 40}
    pair = {"http_route": "/menu", "restaurant_db_relationship": "Menu.dishes"}
    found["restaurant_db_n_plus_one"] = {series("restaurant_db_n_plus_one_total", **pair): 12}
    return found


def exposition(end: int) -> Iterator[str]:
    """A day of it, a sample a minute, up to `end`."""
    minutes = HOURS * 60
    for family, every in per_minute().items():
        yield f"# TYPE {family} {'histogram' if family.endswith('_seconds') else 'counter'}"
        for name, gain in every.items():
            for minute in range(minutes + 1):
                yield f"{name} {1000 + gain * minute:.6f} {end - 60 * (minutes - minute)}"
    gauges = {
        "restaurant_cpu_utilization_ratio": lambda left: 0.5,
        # Memory grows for six hours: at 0.9 now, full in two.
        "restaurant_memory_utilization_ratio": lambda left: 0.9 - 0.05 / 60 * min(left, 360),
        "restaurant_telemetry_workers": lambda left: 2.0,
    }
    for name, value in gauges.items():
        yield f"# TYPE {name} gauge"
        for minute in range(minutes + 1):
            yield f"{series(name)} {value(minutes - minute):.6f} {end - 60 * (minutes - minute)}"
    yield "# EOF\n"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """A Prometheus with a day of data, and when that ended."""
    folder = tmp_path_factory.mktemp("fleet")
    end = int(time.time()) // 60 * 60
    (folder / "metrics.txt").write_text("\n".join(exposition(end)))
    promtool("tsdb", "create-blocks-from", "openmetrics", folder / "metrics.txt", folder / "data")
    running = prometheuses.start([f"127.0.0.1:{free_port()}"], folder)
    yield running.url, end
    running.stop()


def test_the_score_of_a_fleet_is_that_of_its_figures(fleet: tuple[str, int]) -> None:
    url, end = fleet
    (snapshot,) = fleet_snapshots(Fleet(url), Options(), end)
    card = score(snapshot)
    found = {each.name: each.value for each in card.components if each.value is not None}
    mean = (60.06 * 0.1 + 6 * 1.5) / 66.06
    assert found == pytest.approx(
        {
            "availability": 1 - 0.06 / 66.06,
            "errors": 0.06 / 66.06,
            "api": mean,
            "database": 0.3,
            "cache": 0.6,
            "cpu": 0.5,
            "memory": 0.9,
        },
        rel=1e-3,
    )
    assert card["page"].value is None
    assert card.coverage == pytest.approx(0.92)
    points = [100, 100, 100 * (0.8 - mean) / 0.6, 100 / 3, 1000 / 35, 200 / 3, 20]
    expected = sum(p * w for p, w in zip(points, (20, 20, 20, 12, 8, 6, 6), strict=True)) / 92
    assert card.total == pytest.approx(expected, abs=0.1)


def test_the_evidence_names_routes_statements_groups_and_hosts(fleet: tuple[str, int]) -> None:
    url, end = fleet
    (snapshot,) = fleet_snapshots(Fleet(url), Options(), end)
    named = {kind: [fact.subject for fact in facts] for kind, facts in snapshot.facts.items() if facts}
    assert named == {
        "slow_routes": ["/report"],
        "failing_routes": ["/menu"],
        "statements": ["SELECT menu"],
        "n_plus_one": ["/menu Menu.dishes"],
        "cache_groups": ["menu dish"],
        "busy_hosts": ["shop-1:80"],
        "full_hosts": ["shop-1:80"],
    }
    advised = [each.advice.name for each in recommend(score(snapshot), snapshot)]
    assert set(advised[:2]) == {"n-plus-one", "slow-statements"}  # the database has most to give


def test_the_outlook_says_what_runs_out_and_what_comes(fleet: tuple[str, int]) -> None:
    url, end = fleet
    found = {each.what: each for each in outlooks(Fleet(url), Options(), end)}
    assert found["memory"].seconds == pytest.approx(2 * 3600, rel=0.05)
    assert found["load"].peak == pytest.approx(66.06 / 60, rel=0.05)


def test_the_command_shows_it_and_ends_by_the_band(
    fleet: tuple[str, int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    url, end = fleet
    asked = ["score", "--prometheus", url, "--at", str(end)]
    assert main([*asked, "--outlook"]) == 3  # fair
    shown = capsys.readouterr().out
    assert "shop: 76.7 of 100, fair, from 92%" in shown
    assert "SELECT menu: 300 ms" in shown
    assert "memory (shop-1:80): runs out in" in shown

    assert main([*asked, "--json"]) == 3
    (told,) = json.loads(capsys.readouterr().out)
    assert told["band"] == "fair"
    assert {each["name"]: each["missing"] for each in told["components"]}["page"] == "no data"
    assert told["recommendations"][0]["evidence"][0]["subject"]

    (tmp_path / "own.toml").write_text("[components.api]\nobjective = 0.05\nlimit = 0.1\nweight = 200\n")
    assert main([*asked, "--objectives", str(tmp_path / "own.toml")]) == 4  # poor
    assert main(["score", "--prometheus", url, "--at", str(end + 7300)]) == 5  # nothing is known of then
    assert main([*asked, "--service", "bakery"]) == 5
    assert score(fleet_snapshots(Fleet(url), Options(), end + 3000, facts=False)[0]).band is Band.UNKNOWN


def test_what_cannot_be_asked_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "--prometheus", f"http://127.0.0.1:{free_port()}"]) == 1
    assert "cannot be asked" in capsys.readouterr().err
    with pytest.raises(FleetError, match="is no URL"):
        Fleet("localhost:9090")
    assert main(["score", "--objectives", "/none.toml"]) == 2


def test_a_query_that_prometheus_refuses_is_told_with_its_reason(fleet: tuple[str, int]) -> None:
    with pytest.raises(FleetError, match=r"answered 400 to up\(: .*parse error"):
        Fleet(fleet[0]).query("up(")
