"""Where in the app's code a query comes from, without the frames of libraries.

Walking the stack takes some ten microseconds, so it is done when a route asks a statement for the first time and
when a repetition is found, not for each query.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from types import FrameType
from typing import Any, Final

import restaurant_otel

MOST_FRAMES: Final = 200

_OURS: Final = str(Path(restaurant_otel.__file__).parent)
_LIBRARIES: Final = tuple(
    {_OURS, "<", *(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))}
)
_FOLDERS: Final = ("/site-packages/", "/dist-packages/", "/sqlalchemy/")


def here() -> str | None:
    """``module:function:line`` of the nearest frame that is no library's; None where there is none."""
    frame: FrameType | None = sys._getframe(1)
    greenlet: Any = _current_greenlet()
    for _ in range(MOST_FRAMES):
        if frame is None:
            # Async drivers are called in a greenlet: who awaits it is on the stack of its parent.
            greenlet = getattr(greenlet, "parent", None)
            frame = getattr(greenlet, "gr_frame", None)
            if frame is None:
                return None
        code = frame.f_code
        file = code.co_filename
        if not file.startswith(_LIBRARIES) and not any(folder in file for folder in _FOLDERS):
            return f"{frame.f_globals.get('__name__', '?')}:{code.co_qualname}:{frame.f_lineno}"
        frame = frame.f_back
    return None


def _current_greenlet() -> Any:
    greenlet = sys.modules.get("greenlet")
    return greenlet.getcurrent() if greenlet is not None else None
