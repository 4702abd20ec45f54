"""Promtool, and others like it: each that is found runs the same tests.

``PROMTOOL`` in the environment names more of them, separated by colons: newer ones beside Debian's.
"""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

from tests.support.processes import required


@functools.cache
def promtools() -> tuple[str, ...]:
    """Those on PATH and named by the variable; skips the test (fails it with REQUIRE_SERVERS=1) without one."""
    named = [path for path in os.environ.get("PROMTOOL", "").split(":") if path]
    return tuple(dict.fromkeys([required("promtool"), *named]))


def promtool(*arguments: str | Path, fails: bool = False) -> str:
    """Run each promtool; the last one's output. Raises AssertionError with it if one ends otherwise than expected."""
    output = ""
    for program in promtools():
        done = subprocess.run(
            [program, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
        )
        output = done.stdout + done.stderr
        assert bool(done.returncode) == fails, f"{program} ended with {done.returncode}:\n{output[-6000:]}"
    return output
