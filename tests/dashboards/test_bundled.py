"""Dashboards, rules and runbooks come with the library, in a checkout and in a wheel."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from restaurant_otel import bundled

ROOT = Path(__file__).parents[2]


def test_the_wheel_takes_in_what_is_looked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    taken = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert {"prometheus", "alertmanager", "grafana", "runbooks"} <= {
        Path(place).name for place in taken.values()
    }
    for source, place in taken.items():
        assert (ROOT / source).is_dir()
        assert place.startswith("restaurant_otel/_")  # beside the code, and never mistaken for it


def test_in_a_checkout_the_folders_themselves_are_found() -> None:
    assert bundled.dashboards() == ROOT / "dashboards"
    assert bundled.runbooks() == ROOT / "docs" / "runbooks"


def test_in_an_installed_package_its_copies_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled, "_CHECKOUT", tmp_path)
    monkeypatch.setattr(bundled, "_PACKAGE", tmp_path / "restaurant_otel")
    with pytest.raises(FileNotFoundError, match="install the library anew"):
        bundled.dashboards()
    (tmp_path / "restaurant_otel" / "_dashboards" / "runbooks").mkdir(parents=True)
    assert bundled.dashboards() == tmp_path / "restaurant_otel" / "_dashboards"
    assert bundled.runbooks() == tmp_path / "restaurant_otel" / "_dashboards" / "runbooks"
