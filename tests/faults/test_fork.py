"""Forks at bad moments: nothing hangs, nothing is counted twice, nothing is lost."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.load import Load, settled
from tests.support.otlp import SERVER, Receiver
from tests.support.processes import Process
from tests.support.servers import ROOT, Server, clean_env
from tests.system.apps.routes import FLASK


def forking(folder: Path, how: str) -> Any:
    """What tests/faults/forking.py has printed, as JSON; AssertionError when it or a child of it complains."""
    errors = folder / "stderr"
    program = Process(
        [sys.executable, "-m", "tests.faults.forking", how],
        env=clean_env(),
        cwd=ROOT,
        log=folder / "stdout",
        errors=errors,
    )
    try:
        assert program.wait(within=45) == 0, errors.read_text()
    finally:
        program.kill()  # its children too, should one hang
    assert errors.read_text() == ""
    return json.loads(program.output())


@pytest.mark.parametrize("how", ["quiet", "thread", "hammered", "nested"])
def test_a_program_that_forks_counts_exactly(tmp_path: Path, how: str) -> None:
    result = forking(tmp_path, how)
    assert result["counted"] == result["expected"]
    assert result["in_flight"] == 0


def test_setting_up_leaves_no_fork_half_handled(tmp_path: Path) -> None:
    """A fork that waits for the set-up has called its handlers before; those after must not be half of a new pair."""
    assert forking(tmp_path, "registered") == []


@pytest.mark.parametrize("server", ["gunicorn", "gunicorn-gthread"])
def test_workers_forked_from_a_used_app_start_from_zero_and_add_to_it(
    serve: Callable[..., Server], server: str
) -> None:
    running = serve(server, "tests.system.apps.used_before_fork:app", workers=3, args=("--preload",))
    with Load(running.url, ["/items/1"], connections=4) as load:
        load.until(200)
    number = settled(running, load.answered, http_route=FLASK.item)
    assert number in (load.answered, load.answered + 3), "each worker's own are counted once"
    assert {settled(running, number, http_route=FLASK.item) for _ in range(6)} == {number}


def test_spans_are_exported_by_workers_forked_from_a_used_app(
    serve: Callable[..., Server], otlp_http: Receiver
) -> None:
    running = serve(
        "gunicorn",
        "tests.system.apps.used_before_fork:app",
        workers=2,
        args=("--preload",),
        env=otlp_http.env(),
    )
    with Load(running.url, ["/items/2"], connections=4) as load:
        load.until(60)
    running.stop()
    spans = [span for span in otlp_http.spans(SERVER) if span.attributes["url.path"] == "/items/2"]
    assert len(spans) == load.answered
    before = [span for span in otlp_http.spans(SERVER) if span.attributes["url.path"] == "/items/1"]
    assert len(before) == 3, "spans from before the fork are sent once, not by every worker"
