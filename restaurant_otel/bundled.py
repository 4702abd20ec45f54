"""Where the dashboards, rules and runbooks are that come with the library: in a checkout, or inside of the wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).resolve().parent
_CHECKOUT: Final = _PACKAGE.parent


def dashboards() -> Path:
    """The folder that holds ``grafana``, ``prometheus`` and ``alertmanager``.

    Raises FileNotFoundError where neither a checkout nor a wheel has it.
    """
    return _found(_CHECKOUT / "dashboards", _PACKAGE / "_dashboards")


def runbooks() -> Path:
    """The folder with a page for each alert, ``<runbook>.md``. Raises FileNotFoundError as `dashboards` does."""
    return _found(_CHECKOUT / "docs" / "runbooks", _PACKAGE / "_dashboards" / "runbooks")


def _found(in_checkout: Path, in_wheel: Path) -> Path:
    is_checkout = (_CHECKOUT / "pyproject.toml").is_file()
    folder = in_checkout if is_checkout else in_wheel
    if not folder.is_dir():
        raise FileNotFoundError(f"restaurant-otel: {folder} is missing; install the library anew")
    return folder
