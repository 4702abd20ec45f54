"""`restaurant-otel token`: what it makes is admitted, and what it cannot make it says in a line."""

from __future__ import annotations

import json

import pytest

from restaurant_otel.auth import Access, Right
from restaurant_otel.cli import main
from restaurant_otel.settings import Settings
from tests.admin.tokens import SECRET


def test_a_token_by_the_apps_own_variables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RESTAURANT_OTEL_ADMIN_KEY", SECRET)
    assert main(["token", "--sub", "ada", "--scope", "performance:execute", "--ttl", "15m"]) == 0
    made = capsys.readouterr().out.strip()
    caller = Access(Settings.resolve()).admit([f"Bearer {made}".encode()], None, Right.EXECUTE)
    assert (caller.subject, caller.rights) == ("ada", {Right.EXECUTE})
    assert main(["token", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seconds"] == 3600


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no key"),
        (["--key", "short"], "at least 32 bytes"),
        (["--key", SECRET, "--algorithm", "RS256"], "cannot sign"),
        (["--key", SECRET, "--ttl", "soon"], "such as 90s"),
        (["--key", SECRET, "--ttl", "0"], "such as 90s"),
    ],
)
def test_what_cannot_be_made(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RESTAURANT_OTEL_ADMIN_KEY", raising=False)
    assert main(["token", *arguments]) == 2
    assert says in capsys.readouterr().err
