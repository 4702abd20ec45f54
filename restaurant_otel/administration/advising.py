"""The index advisor in a process of its own: ``python -m restaurant_otel.administration.advising``.

It reads one line of JSON from standard input (the database's URL, and the statements or the indexes) and prints lines:
how far it is, and at last the advice, what became of the indexes, or ``{"error": ...}``. The URL comes this way because
arguments and environments can be read by others. `advice` starts it by `child`; a person takes
``restaurant-otel advise``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from restaurant_otel.administration import child
from restaurant_otel.sql import advisor

NICENESS: Final = 10
"""By how much the app's requests come first, where both want the processor."""

Say = Callable[..., None]
"""Says some of ``progress`` (a share of 1), ``step`` and ``outcome``."""


def main() -> int:
    """Do what standard input says."""
    with suppress(OSError):
        os.nice(NICENESS)
    task = json.loads(sys.stdin.buffer.readline())
    try:
        child.follow(task["parent"])
        # What libraries may print is no part of the conversation.
        with os.fdopen(os.dup(1), "w") as out:
            os.dup2(2, 1)

            def say(**what: Any) -> None:
                print(json.dumps(what, default=str), file=out, flush=True)

            say(outcome=_outcome(task, say))
    except KeyboardInterrupt:
        return 130
    return 0


def _outcome(task: dict[str, Any], say: Say) -> dict[str, Any]:
    try:
        return _apply(task, say) if "indexes" in task else _advise(task, say)
    except ImportError as error:
        return {"error": f"The index advisor needs {error.name}, which is not installed."}
    except Exception as error:  # noqa: BLE001 - the advisor's own are fit to be shown, all others are not
        known = isinstance(error, advisor.AdviseError)
        if not known:
            print(repr(error), file=sys.stderr)  # noqa: T201 - for the app's log
        return {"error": str(error) if known else f"The index advisor failed ({type(error).__name__})."}


def _advise(task: dict[str, Any], say: Say) -> dict[str, Any]:
    statements = [
        advisor.Statement(one["text"], float(one["calls"]), tuple(one["routes"]))
        for one in task["statements"]
    ]
    advice = advisor.advise(
        task["url"], statements, progress=lambda share, step: say(progress=share, step=step)
    )
    found = asdict(advice)
    for one, shown in zip(advice.recommendations, found["recommendations"], strict=True):
        shown["name"], shown["label"] = one.index.name, one.index.label
    found["gain"], found["size"] = advice.gain, advice.size
    return found


def _apply(task: dict[str, Any], say: Say) -> dict[str, Any]:
    indexes = [
        advisor.Index(one["table"], tuple(advisor.Key(**key) for key in one["keys"]), one["suffix"])
        for one in task["indexes"]
    ]
    made: list[advisor.Applied] = []

    def next_one() -> None:
        if len(made) < len(indexes):
            say(progress=len(made) / len(indexes), step=f"making {indexes[len(made)].name}")

    def told(one: advisor.Applied) -> None:
        made.append(one)
        next_one()

    next_one()
    return {"applied": [asdict(one) for one in advisor.apply(task["url"], indexes, told)]}


if __name__ == "__main__":
    sys.exit(main())
