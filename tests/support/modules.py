"""Modules that are in no package, or are to be there twice."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType


def load(file: str | Path) -> ModuleType:
    """The module in `file`, executed anew and kept from `sys.modules`."""
    spec = importlib.util.spec_from_file_location(f"{Path(file).stem}_loaded", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
