"""Keys, one at a time, without Enter; and the terminal as it was before, however the program ends."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def keys() -> Iterator[Callable[[float], str]]:
    """`read(seconds)`: the next key, or nothing if none comes in that time. Where there is no terminal: never one."""
    try:
        import termios
        import tty
    except ImportError:  # Windows
        yield _none
        return
    try:
        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
    except (OSError, ValueError, termios.error):
        yield _none
        return

    waiting: list[str] = []

    def read(seconds: float) -> str:
        if waiting:
            return waiting.pop(0)
        ready, _, _ = select.select([descriptor], [], [], max(0.0, seconds))
        if not ready:
            return ""
        data = os.read(descriptor, 32).decode("utf-8", "replace")
        # An arrow key comes as several characters that begin with Escape: none of ours.
        waiting.extend(data if not data.startswith("\x1b[") else "")
        return waiting.pop(0) if waiting else ""

    try:
        tty.setcbreak(descriptor)
        yield read
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _none(seconds: float) -> str:
    import time

    time.sleep(max(0.0, seconds))
    return ""
