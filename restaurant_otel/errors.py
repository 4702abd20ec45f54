"""Errors of our own: logged once, counted, survived.

Every place where the instrumentation could raise into the host app catches and calls `survived`. It is
not for the host app's own errors, which pass through untouched.
"""

from __future__ import annotations

import logging

from restaurant_otel import catalog, forks

logger = logging.getLogger("restaurant_otel")

_MOST_PLACES = 1000  # so that the memory of what was logged stays bounded, whatever happens
_logged: set[tuple[str, type[BaseException], str]] = set()
_lock = forks.Lock()


def survived(part: str, error: BaseException) -> None:
    """Count `error` under `part` (a short constant such as ``"hook"``); log it the first time only.

    The first time is per part, exception type and place in the code. Never raises. Any thread.
    """
    try:
        # Here, because the metric core reports its own errors to this module.
        from restaurant_otel.metrics.registry import registry

        registry().counter(catalog.TELEMETRY_ERRORS).bind(part).add(1)
        key = (part, type(error), _place(error))
        with _lock:
            if key in _logged or len(_logged) >= _MOST_PLACES:
                return
            _logged.add(key)
        logger.warning(
            "restaurant-otel survived an error in %s; further ones are only counted", part, exc_info=error
        )
    except Exception:  # noqa: BLE001, S110 - the last line of defence has nobody left to tell
        pass


def _place(error: BaseException) -> str:
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}" if traceback else ""
