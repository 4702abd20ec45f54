"""One worker samples the host for all, and the next takes over when it is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from restaurant_otel.metrics import folder
from restaurant_otel.metrics.group import Group
from restaurant_otel.usage.election import Election


def test_the_next_takes_over_from_one_that_was_killed(tmp_path: Path) -> None:
    group = Group("named-shop", str(tmp_path))
    with folder.base(str(tmp_path), create=True) as parent, folder.inner(parent, group.name, create=True):
        pass
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, b"y" if Election().won(group) else b"n")
        signal.pause()
        os._exit(0)
    election = Election()
    try:
        assert os.read(read, 1) == b"y"
        assert not election.won(group)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read)
        os.close(write)
    assert election.won(group)
    assert election.won(group)
    assert not Election().won(group)
    election.resign()
    assert Election().won(group)
