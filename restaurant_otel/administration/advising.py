"""The index advisor in a process of its own: ``python -m restaurant_otel.administration.advising``.

It reads one JSON document from standard input (the database's URL, and the statements or the indexes) and prints one:
the advice, or what became of the indexes, or ``{"error": ...}``. The URL comes this way because arguments and
environments can be read by others. `advice` starts it; a person takes ``restaurant-otel advise``.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from restaurant_otel.sql import advisor


def main() -> int:
    """Do what standard input says."""
    task = json.load(sys.stdin)
    try:
        outcome = _apply(task) if "indexes" in task else _advise(task)
    except ImportError as error:
        outcome = {"error": f"The index advisor needs {error.name}, which is not installed."}
    except Exception as error:  # noqa: BLE001 - the advisor's own are fit to be shown, all others are not
        known = isinstance(error, advisor.AdviseError)
        outcome = {"error": str(error) if known else f"The index advisor failed ({type(error).__name__})."}
        if not known:
            print(repr(error), file=sys.stderr)  # noqa: T201 - for the app's log
    json.dump(outcome, sys.stdout, default=str)
    return 0


def _advise(task: dict[str, Any]) -> dict[str, Any]:
    statements = [
        advisor.Statement(one["text"], float(one["calls"]), tuple(one["routes"]))
        for one in task["statements"]
    ]
    advice = advisor.advise(task["url"], statements)
    found = asdict(advice)
    for one, shown in zip(advice.recommendations, found["recommendations"], strict=True):
        shown["name"], shown["label"] = one.index.name, one.index.label
    found["gain"], found["size"] = advice.gain, advice.size
    return found


def _apply(task: dict[str, Any]) -> dict[str, Any]:
    indexes = [
        advisor.Index(one["table"], tuple(advisor.Key(**key) for key in one["keys"]), one["suffix"])
        for one in task["indexes"]
    ]
    return {"applied": [asdict(one) for one in advisor.apply(task["url"], indexes)]}


if __name__ == "__main__":
    sys.exit(main())
