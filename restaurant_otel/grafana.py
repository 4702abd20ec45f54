"""The bundled Grafana dashboards, copied to a folder or put into a Grafana by its HTTP API.

Used by ``restaurant-otel dashboards``. The API is the one that every Grafana since 10 has: folders by
``/api/folders``, dashboards by ``/api/dashboards/db``.
Source: https://grafana.com/docs/grafana/latest/developers/http_api/dashboard/
"""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from restaurant_otel import bundled
from restaurant_otel._version import __version__
from restaurant_otel.rules import runbooks

_MOST_BYTES: Final = 10_000_000
_MARK: Final = "restaurant-otel"
_PAGE: Final = 1000


class GrafanaError(Exception):
    """Grafana could not be asked, or refused; the message says which and why, and holds no secret."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of one dashboard. `result`: created, updated, unchanged, or left (changed there by somebody)."""

    uid: str
    result: str
    url: str


class Schema(StrEnum):
    """How a dashboard is written: as every Grafana reads it, or with tabs, for 13 and later."""

    CLASSIC = "classic"
    V2 = "v2"


_ONLY_IN: Final = {Schema.CLASSIC: "dashboards", Schema.V2: "v2"}
"""The folder of each schema."""


def export(folder: Path, runbooks_url: str = "", schema: Schema = Schema.CLASSIC) -> list[Path]:
    """Copy dashboards of one schema, and provisioning, to `folder`; the files written. Raises OSError.

    `runbooks_url`: where a site keeps the runbooks as pages; else links lead to the dashboard that shows them.
    """
    source = bundled.dashboards() / "grafana"
    others = {name for each, name in _ONLY_IN.items() if each is not schema}
    written = []
    for file in sorted(source.rglob("*")):
        if file.is_file() and file.relative_to(source).parts[0] not in others:
            target = folder / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_with_runbooks(file.read_text("utf-8"), runbooks_url), "utf-8")
            written.append(target)
    return written


def dashboards(runbooks_url: str = "") -> Iterator[dict[str, Any]]:
    """The dashboards as Grafana's API takes them. `runbooks_url`: see `export`."""
    for file in sorted((bundled.dashboards() / "grafana" / "dashboards").glob("*.json")):
        found: dict[str, Any] = json.loads(_with_runbooks(file.read_text("utf-8"), runbooks_url))
        yield found


def _with_runbooks(text: str, runbooks_url: str) -> str:
    if not runbooks_url:
        return text
    inside = json.dumps(runbooks_url.rstrip("/"))[1:-1]  # within a JSON string
    return runbooks.moved(text, [page.stem for page in bundled.runbooks().glob("*.md")], inside)


class Grafana:
    """A Grafana, by its address and a token. Each call blocks until it is answered, `timeout` seconds at most.

    ValueError for an address that is no http(s) URL, or that carries a password.
    """

    def __init__(self, url: str, token: str = "", timeout: float = 10.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                f"{parts.scheme or url!r}: give Grafana's address, such as https://grafana.example.org"
            )
        if parts.password or parts.username:
            raise ValueError("give no user or password in the address: they end up in logs; use --token")
        if any(not character.isprintable() or character.isspace() for character in token):
            raise ValueError("the token has characters that no token has")
        self._url = url.rstrip("/")
        self._token = token
        self._timeout = timeout
        self._open = urllib.request.build_opener(_NoRedirects)

    def push(
        self,
        folder: str,
        *,
        overwrite: bool = False,
        runbooks_url: str = "",
        report: Callable[[float, str], None] | None = None,
    ) -> list[Pushed]:
        """Bring the dashboards in the folder of this title up to date; GrafanaError where that fails.

        What we push bears a mark of its content in the version's message. A dashboard whose newest version bears no
        such mark has been changed by somebody, and is only replaced with `overwrite`. `report` hears before each one
        what share is done, and which it is.
        """
        place = self._folder(folder)
        everything, pushed = list(dashboards(runbooks_url)), []
        for number, each in enumerate(everything):
            if report is not None:
                report(number / len(everything), each["uid"])
            pushed.append(self._push(each, place, overwrite))
        return pushed

    def _push(self, dashboard: dict[str, Any], folder: str, overwrite: bool) -> Pushed:
        uid = dashboard["uid"]
        message = f"{_MARK} {__version__} {_digest(dashboard)}"
        there = self._ask("GET", f"/api/dashboards/uid/{uid}", missing_is=None)
        if there is not None:
            where = f"{self._url}{there['meta'].get('url', f'/d/{uid}')}"
            last = self._last_message(uid)
            if last == message and there["meta"].get("folderUid", "") == folder:
                return Pushed(uid, "unchanged", where)
            if not last.startswith(f"{_MARK} ") and not overwrite:
                return Pushed(uid, "left", where)
        known = {"id": None} if there is None else {key: there["dashboard"][key] for key in ("id", "version")}
        body = {
            "dashboard": {**dashboard, **known},
            "folderUid": folder,
            "message": message,
            "overwrite": overwrite,
        }
        answer = self._ask("POST", "/api/dashboards/db", body)
        return Pushed(
            uid, "created" if there is None else "updated", f"{self._url}{answer.get('url', f'/d/{uid}')}"
        )

    def _last_message(self, uid: str) -> str:
        found = self._ask("GET", f"/api/dashboards/uid/{uid}/versions?limit=1", missing_is=[])
        versions = found.get("versions", []) if isinstance(found, dict) else found  # a list until Grafana 10
        return str(versions[0].get("message", "")) if versions else ""

    def _folder(self, title: str) -> str:
        """The uid of the folder of this title, which is made where there is none."""
        for each in self._ask("GET", f"/api/folders?limit={_PAGE}"):
            if each.get("title") == title:
                return str(each["uid"])
        return str(self._ask("POST", "/api/folders", {"title": title})["uid"])

    def _ask(self, method: str, path: str, body: object = None, *, missing_is: Any = ...) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(self._url + quote(path, "/?=&"), data, headers, method=method)  # noqa: S310 - http(s), see __init__
        try:
            with self._open.open(request, timeout=self._timeout) as answer:
                return json.loads(answer.read(_MOST_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404 and missing_is is not ...:
                    return missing_is
                raise GrafanaError(f"{method} {path}: {error.code}, {_reason(error)}") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise GrafanaError(f"{self._url} does not answer as a Grafana does: {reason}") from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token is for the address that was given, and for no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _reason(error: urllib.error.HTTPError) -> str:
    if error.code in (401, 403):
        return "the token is missing, wrong, or may not do this (it needs the role Editor)"
    if 300 <= error.code < 400:
        return "it sends elsewhere: give the address that it sends to"
    if error.code == 412:
        return "somebody has changed the dashboard meanwhile; --overwrite replaces it"
    try:
        said = str(json.loads(error.read(_MOST_BYTES))["message"])
    except (ValueError, KeyError, TypeError, OSError):
        return str(error.reason)
    return "".join(character for character in said[:300] if character.isprintable())


def _digest(dashboard: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dashboard, sort_keys=True).encode()).hexdigest()[:16]
