"""Write every generated file under ``dashboards/``, or tell which are stale.

    python -m dashboards.src           write them anew
    python -m dashboards.src --check   exit 1, naming each file, if one is stale

`make dashboards` and `make dashboards-check` call this.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from dashboards.src import grafana, scenarios
from restaurant_otel.rules import export

ROOT: Final = Path(__file__).resolve().parents[1]

PARTS: Final[tuple[Callable[[], dict[str, str]], ...]] = (
    export.files,
    scenarios.files,
    grafana.files,
)
"""Each gives its files: path under ``dashboards/`` -> contents."""


def stale() -> Iterator[tuple[Path, str]]:
    """The files that are not as they should be, with what should be in them."""
    for part in PARTS:
        for name, text in part().items():
            file = ROOT / name
            if not file.is_file() or file.read_text(encoding="utf-8") != text:
                yield file, text


def main(arguments: list[str] | None = None) -> int:
    """Write, or with ``--check`` compare; the exit status."""
    parser = argparse.ArgumentParser(description="Write the generated files under dashboards/.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a file is stale")
    check = parser.parse_args(arguments).check
    found = list(stale())
    for file, text in found:
        name = file.relative_to(ROOT.parent)
        if check:
            sys.stderr.write(f"{name} is stale: run `make dashboards`\n")
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{name} written\n")
    return int(check and bool(found))


if __name__ == "__main__":
    sys.exit(main())
