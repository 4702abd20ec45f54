"""How long a request has waited between the proxy and the app, by the time that the proxy has written into a header.

``X-Request-Start`` or ``X-Queue-Start``: seconds, milliseconds or microseconds since the epoch, with or without
``t=``. A client may send it too: it can bend this one histogram, so a proxy should overwrite it. What cannot be a
time is ignored.
"""

from __future__ import annotations

import re
import time
from typing import Final

from restaurant_otel import catalog
from restaurant_otel.metrics.registry import registry

_STAMP: Final = re.compile(r"(?:t=)?(\d{10,17}(?:\.\d{1,9})?)")
_LONGEST: Final = 300.0
_SKEW: Final = 5.0
"""A proxy's clock may be this many seconds ahead of ours; that counts as no wait at all."""


def waited(header: str, now: float) -> float | None:
    """Seconds from the time in `header` until `now`, since the epoch; None where that makes no sense."""
    match = _STAMP.fullmatch(header.rpartition(",")[2].strip())
    if match is None:
        return None
    stamp = float(match[1])
    seconds = now - (stamp / 1e6 if stamp > 1e14 else stamp / 1e3 if stamp > 1e11 else stamp)
    return max(0.0, seconds) if -_SKEW <= seconds <= _LONGEST else None


def record(header: str) -> None:
    """Count the wait that `header` tells, if it tells one."""
    seconds = waited(header, time.time())
    if seconds is not None:
        registry().histogram(catalog.HTTP_SERVER_QUEUE_DURATION).bind().record(seconds)
