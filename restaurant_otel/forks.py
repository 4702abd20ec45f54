"""Being told of forks, for objects that hold threads, locks or sockets and may come and go.

`os.register_at_fork` keeps what it is given for good; here an object that is dropped is forgotten.
"""

from __future__ import annotations

import os
import threading
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


class Lock:
    """A lock that a forked child finds free, whoever held it in the parent.

    For what is changed in one step: a child may find a change of several steps half made.
    """

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._renew()
        follow(in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _weak(method: Callable[[], None]) -> Callable[[], None]:
    reference = WeakMethod(method)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive()

    return call
