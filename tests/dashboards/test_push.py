"""``restaurant-otel dashboards``: exported as they are shipped, and pushed to a Grafana.

No Grafana can run here: the server below answers the calls that we make as its API's documentation says.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from restaurant_otel.cli import main
from restaurant_otel.rules.runbooks import DASHBOARD
from tests.dashboards.grafana import DASHBOARDS, FILES

TOKEN = "glsa_test"


class FakeGrafana(ThreadingHTTPServer):
    """Folders, dashboards and their versions, in memory."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folders: list[dict[str, str]] = []
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.messages: dict[str, list[str]] = {}
        self.places: dict[str, str] = {}
        self.seen: list[str] = []
        self.redirect = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def change(self, uid: str, message: str = "") -> None:
        """What somebody does in the browser: a new version."""
        self.dashboards[uid]["version"] += 1
        self.messages[uid].insert(0, message)

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        path = path.partition("?")[0]
        if path == "/api/folders":
            if method == "GET":
                return 200, self.folders
            self.folders.append({"uid": f"f{len(self.folders)}", "title": body["title"]})
            return 200, self.folders[-1]
        if match := re.fullmatch(r"/api/dashboards/uid/([\w-]+)(/versions)?", path):
            uid = match[1]
            if uid not in self.dashboards:
                return 404, {"message": "Dashboard not found"}
            if match[2]:
                return 200, {"versions": [{"message": text} for text in self.messages[uid][:1]]}
            meta = {"url": f"/d/{uid}/x", "folderUid": self.places[uid]}
            return 200, {"dashboard": self.dashboards[uid], "meta": meta}
        assert (method, path) == ("POST", "/api/dashboards/db")
        given = body["dashboard"]
        there = self.dashboards.get(given["uid"])
        if there and not body["overwrite"] and there["version"] != given.get("version"):
            return 412, {"status": "version-mismatch", "message": "The dashboard has been changed"}
        assert given["id"] == (there["id"] if there else None)
        version = there["version"] + 1 if there else 1
        self.dashboards[given["uid"]] = {**given, "id": 7, "version": version}
        self.messages.setdefault(given["uid"], []).insert(0, body["message"])
        self.places[given["uid"]] = body["folderUid"]
        return 200, {"status": "success", "uid": given["uid"], "url": f"/d/{given['uid']}/x"}


class _Handler(BaseHTTPRequestHandler):
    server: FakeGrafana

    def _respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.seen.append(f"{self.command} {self.path}")
        if self.server.redirect:
            self.send_response(302)
            self.send_header("location", self.server.redirect)
            self.end_headers()
            return
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            status, answer = 401, {"message": "Unauthorized"}
        else:
            status, answer = self.server.answer(self.command, self.path, json.loads(body) if body else None)
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def grafana() -> Iterator[FakeGrafana]:
    server = FakeGrafana()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def push(grafana: FakeGrafana, *options: str, token: str = TOKEN) -> int:
    return main(["dashboards", "push", grafana.url, "--token", token, *options])


def results(capsys: pytest.CaptureFixture[str]) -> set[str]:
    return {each["result"] for each in json.loads(capsys.readouterr().out)}


def test_exported_as_shipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboards", "export", str(tmp_path), "--json"]) == 0
    written = json.loads(capsys.readouterr().out)["written"]
    for file in FILES:
        assert (tmp_path / "dashboards" / file.name).read_text() == file.read_text()
        assert str(tmp_path / "dashboards" / file.name) in written


def test_exported_with_the_sites_own_runbooks(tmp_path: Path) -> None:
    assert main(["dashboards", "export", str(tmp_path), "--runbooks-url", 'https://wiki/"r"/']) == 0
    for file in FILES:
        text = (tmp_path / "dashboards" / file.name).read_text()
        assert f"/d/{DASHBOARD}?" not in text
        assert 'https://wiki/"r"/' in json.dumps(json.loads(text), ensure_ascii=False).replace('\\"', '"')


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["dashboards", "export", str(tmp_path / "file")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_pushed_into_a_folder_that_is_made_once(
    grafana: FakeGrafana, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(grafana, "--folder", "Kitchen", "--json") == 0
    assert results(capsys) == {"created"}
    assert set(grafana.dashboards) == set(DASHBOARDS)
    assert [each["title"] for each in grafana.folders] == ["Kitchen"]
    assert set(grafana.places.values()) == {"f0"}

    assert push(grafana, "--folder", "Kitchen", "--json") == 0
    assert results(capsys) == {"unchanged"}
    assert len(grafana.folders) == 1
    assert all(each["version"] == 1 for each in grafana.dashboards.values())


def test_a_new_release_replaces_our_own(grafana: FakeGrafana, capsys: pytest.CaptureFixture[str]) -> None:
    assert push(grafana) == 0
    grafana.change("restaurant-api", "restaurant-otel 0.0.1 0123456789abcdef")
    capsys.readouterr()
    assert push(grafana, "--json") == 0
    assert results(capsys) == {"unchanged", "updated"}
    assert grafana.dashboards["restaurant-api"]["version"] == 3


def test_what_somebody_changed_is_left_unless_told_otherwise(
    grafana: FakeGrafana, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(grafana) == 0
    grafana.change("restaurant-api", "bigger fonts")
    capsys.readouterr()
    assert push(grafana, "--json") == 1
    shown = capsys.readouterr()
    assert [each["uid"] for each in json.loads(shown.out) if each["result"] == "left"] == ["restaurant-api"]
    assert "--overwrite" in shown.err
    assert grafana.dashboards["restaurant-api"]["version"] == 2
    assert push(grafana, "--overwrite") == 0
    assert grafana.dashboards["restaurant-api"]["version"] == 3


def test_a_wrong_token_is_told_and_not_shown(
    grafana: FakeGrafana, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(grafana, token="glsa_secret") == 1
    error = capsys.readouterr().err
    assert "token" in error
    assert "glsa_secret" not in error
    assert grafana.dashboards == {}


def test_the_token_is_taken_to_no_other_place(
    grafana: FakeGrafana, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = FakeGrafana()
    grafana.redirect = f"{elsewhere.url}/api/folders"
    assert push(grafana) == 1
    elsewhere.server_close()
    assert elsewhere.seen == []
    assert "sends elsewhere" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["grafana", "ftp://grafana", "http://user:secret@grafana"])
def test_addresses_that_are_none(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboards", "push", url]) == 2
    assert "secret" not in capsys.readouterr().err


def test_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    closed = FakeGrafana()
    closed.server_close()
    assert main(["dashboards", "push", closed.url, "--timeout", "2"]) == 1
    assert "does not answer" in capsys.readouterr().err
