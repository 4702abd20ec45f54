"""Long work tells how far it is: a bar on a terminal, lines elsewhere, to programs nothing; not among the results."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from restaurant_otel import grafana
from restaurant_otel.cli import main
from restaurant_otel.commands.common import progress
from tests.admin.shop import fill
from tests.admin.tokens import KeyServer
from tests.cache.redises import RedisServer

PROGRAM = str(Path(sys.executable).with_name("restaurant-otel"))


def test_on_a_terminal_it_is_a_bar_that_goes_when_the_work_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    try:
        with os.fdopen(theirs, "w", encoding="utf-8") as terminal:
            monkeypatch.setattr(sys, "stderr", terminal)
            with progress("counting") as report:
                report(0.5, "sheep\x1b[2J")
            monkeypatch.undo()
            seen = b""
            while b"\x1b[?25h" not in seen:  # the cursor, shown again
                assert select.select([ours], [], [], 20)[0], seen
                seen += os.read(ours, 65_536)
    finally:
        os.close(ours)
    shown = seen.decode()
    assert "counting: sheep" in shown
    assert "━" in shown
    assert "\x1b[2J" not in shown
    assert shown.rpartition("\x1b[?25h")[2].strip("\r\n").endswith("\x1b[2K")  # and the line, cleared
    assert capsys.readouterr().out == ""


def test_elsewhere_it_is_lines_and_for_programs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("counting") as report:
        report(0.25, "sheep")
    assert capsys.readouterr() == ("", "counting …\ncounting: 25%, sheep\n")
    with progress("counting", silent=True) as report:
        report(0.25, "sheep")
    assert capsys.readouterr() == ("", "")


def test_dashboards_are_pushed_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    def grafanas(handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        there = handler.path.startswith("/api/dashboards/uid/")
        body = json.dumps([] if "folders?" in handler.path else {"uid": "x", "url": "/d/x"}).encode()
        handler.send_response(404 if there else 200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    server = KeyServer()
    server.behave = grafanas
    try:
        for json_wanted in ([], ["--json"]):
            assert main(["dashboards", "push", server.url.removesuffix("/keys"), *json_wanted]) == 0
            said = capsys.readouterr()
            if json_wanted:
                assert said.err == ""
                assert json.loads(said.out)
            else:
                uids = [each["uid"] for each in grafana.dashboards()]
                assert said.err.splitlines()[1:] == [
                    f"pushing dashboards: {number / len(uids):.0%}, {uid}" for number, uid in enumerate(uids)
                ]
    finally:
        server.stop()


def test_advice_and_freed_memory_are_told_of_as_well(tmp_path: Path, redis_server: RedisServer) -> None:
    url = f"sqlite:///{tmp_path}/shop.sqlite3"
    fill(url)
    (tmp_path / "asked.sql").write_text("SELECT id FROM users WHERE email = 'u1@shop.example';\n")
    advise = ["advise", "--database-url", url, "--from", str(tmp_path / "asked.sql")]
    clear = ["cache", "clear", "--url", redis_server.url]

    def told(*arguments: str) -> str:
        done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=110)
        assert done.returncode == 0, done.stderr
        return done.stderr

    assert told(*advise, "--json") == ""
    looking, *steps, making, made = told(*advise, "--apply").splitlines()
    assert (looking, making, made) == (
        "looking for indexes …",
        "making indexes …",
        "making indexes: 0%, users(email)",
    )
    assert steps
    assert all(step.startswith("looking for indexes: ") for step in steps)
    assert told(*clear) == told(*clear, "--reclaim", "--json") == ""
    assert told(*clear, "--reclaim") == "freeing memory …\n"
