"""The catalogue: names by OpenTelemetry's and Prometheus's rules, and buckets that hold the objectives."""

from __future__ import annotations

import re
from typing import Any

import pytest
from opentelemetry.exporter.prometheus import _CustomCollector
from opentelemetry.exporter.prometheus._mapping import map_unit, sanitize_full_name

from restaurant_otel import catalog
from restaurant_otel.catalog import Kind, Metric


def test_names_are_unique_here_and_in_prometheus() -> None:
    assert len({metric.name for metric in catalog.METRICS}) == len(catalog.METRICS)
    assert len({metric.prometheus_name for metric in catalog.METRICS}) == len(catalog.METRICS)


@pytest.mark.parametrize("metric", catalog.METRICS, ids=lambda metric: metric.name)
def test_each_metric_is_well_formed(metric: Metric) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z0-9][a-z0-9_]*)+", metric.name)
    assert metric.help.endswith(".")
    assert metric.name.startswith(
        ("http.", "db.", "restaurant.", "system.", "process.", "container.", "cpython.")
    )
    assert list(metric.bounds) == sorted(set(metric.bounds))
    assert bool(metric.bounds) is (metric.kind is Kind.HISTOGRAM)


@pytest.mark.parametrize("unit", ["s", "ms", "By", "1", "{request}", "%", "By/s", "m/s", "KiBy", "Cel", "Hz"])
@pytest.mark.parametrize("kind", list(Kind))
def test_prometheus_names_are_those_of_opentelemetrys_own_exporter(unit: str, kind: Kind) -> None:
    theirs = sanitize_full_name("some.metric")
    words = map_unit(unit)
    if unit == "1":
        words = "ratio" if kind is Kind.GAUGE else ""
    expected = f"{theirs}_{words}" if words else theirs
    assert Metric("some.metric", unit, kind, "Help.").prometheus_name == expected
    assert _CustomCollector  # the exporter whose rules these are


def test_the_objectives_end_a_bucket() -> None:
    assert 0.2 in catalog.HTTP_SERVER_REQUEST_DURATION.bounds
    assert 2.0 in catalog.HTTP_SERVER_REQUEST_DURATION.bounds
    assert 0.1 in catalog.DB_CLIENT_OPERATION_DURATION.bounds


def test_no_label_is_filled_by_a_client() -> None:
    from_clients: Any = {
        "url.path",
        "url.full",
        "url.query",
        "server.address",
        "client.address",
        "user_agent.original",
    }
    for metric in catalog.METRICS:
        assert not from_clients & set(metric.attributes), metric.name
