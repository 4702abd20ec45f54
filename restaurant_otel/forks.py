"""Being told of forks, for objects that hold threads, locks or sockets and may come and go.

`os.register_at_fork` keeps what it is given for good; here an object that is dropped is forgotten.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from weakref import WeakMethod


def follow(
    *,
    before: Callable[[], None] | None = None,
    in_parent: Callable[[], None] | None = None,
    in_child: Callable[[], None] | None = None,
) -> None:
    """Call these bound methods around every fork of this process, as long as their object lives.

    None of them may raise or wait for long. Does nothing where the system cannot fork.
    """
    if hasattr(os, "register_at_fork"):
        hooks = {"before": before, "after_in_parent": in_parent, "after_in_child": in_child}
        os.register_at_fork(**{name: _weak(method) for name, method in hooks.items() if method is not None})


def _weak(method: Callable[[], None]) -> Callable[[], None]:
    reference = WeakMethod(method)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive()

    return call
