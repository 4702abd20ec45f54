"""Who did what with the admin API, when, and how it ended: one line of JSON each, and a counter.

Lines go to the logger ``restaurant_otel.audit``: INFO for what was done, WARNING for what was not. They hold no token.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from restaurant_otel import catalog
from restaurant_otel.metrics.registry import registry

logger = logging.getLogger("restaurant_otel.audit")
if logger.level == logging.NOTSET:  # not that of its parent, which may be turned down
    logger.setLevel(logging.INFO)

_LONGEST: Final = 200


def write(
    operation: str,
    outcome: str,
    *,
    reason: str | None = None,
    who: str | None = None,
    address: str | None = None,
    status: int = 200,
    what: Mapping[str, Any] | None = None,
    quietly: bool = False,
) -> None:
    """Note the end of one request.

    `operation`, `outcome` (done, refused, limited, invalid, failed) and `reason` are constants of the code; `quietly`
    counts without a line, for refusals of which one has been written already.
    """
    registry().counter(catalog.ADMIN_REQUESTS).bind(operation, outcome, reason).add(1)
    if quietly:
        return
    line: dict[str, Any] = {
        "when": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds"),
        "who": who,
        "address": address,
        "what": operation,
        "outcome": outcome,
        "status": status,
    }
    if reason is not None:
        line["reason"] = reason
    if what:
        line["with"] = {name: _short(value) for name, value in what.items() if value is not None}
    # ASCII: whatever a client has put into a name, the line stays one line.
    text = json.dumps(line, ensure_ascii=True, default=str)
    logger.log(logging.INFO if outcome == "done" else logging.WARNING, "%s", text, extra={"audit": line})


def _short(value: Any) -> Any:
    return value[:_LONGEST] if isinstance(value, str) else value
