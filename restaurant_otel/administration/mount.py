"""The admin API at a path of an app, ASGI or WSGI: what the middleware holds where the setting ``admin`` is on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from restaurant_otel import forks
from restaurant_otel.admin import admin_app
from restaurant_otel.errors import survived
from restaurant_otel.settings import Settings

_BAD_REQUEST = b'{"type": "about:blank", "title": "Bad Request", "status": 400}'


class Mount:
    """Serves what is under `settings.admin`, which is not None. Any thread, any loop.

    Raises:
        SettingsError: as `admin_app` does.
    """

    def __init__(self, settings: Settings) -> None:
        self.root = (settings.admin or "").rstrip("/")
        self._inside = f"{self.root}/"
        self._app = admin_app(settings)
        self._start_over()
        forks.follow(in_child=self._start_over)

    def _start_over(self) -> None:
        self._wsgi: Any = None
        self._started_in: int | None = None

    def serves(self, path: str) -> bool:
        """Whether `path` is one of the API's."""
        return path.startswith(self._inside) or path == self.root

    def start(self) -> None:
        """Follow what other workers change. For whoever gets ready to serve; again and again does nothing."""
        if self._started_in != os.getpid():
            self._started_in = os.getpid()
            self._app.start()

    async def asgi(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Serve a request."""
        if scope["path"] == self.root:  # links on the page there are relative to it
            await _to_the_page(f"{self.root.rpartition('/')[2]}/", send)
            return
        inner = {**scope, "root_path": scope.get("root_path", "") + self.root}
        if not scope["path"].startswith(inner["root_path"]):  # a server that leaves the root out of the path
            inner["path"] = scope.get("root_path", "") + scope["path"]
        await self._app(inner, receive, send)

    def wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve a request, on an event loop in a thread of its own, made at the first."""
        length = environ.get("CONTENT_LENGTH") or "0"
        try:
            if not (length.isascii() and length.isdigit()):
                raise ValueError("Content-Length")
            if self._wsgi is None:
                self._wsgi = _adapted(self.asgi)
            answer: Iterable[bytes] = self._wsgi(environ, start_response)
        except Exception as error:  # noqa: BLE001 - never into the app, which was not asked
            survived("admin", error)
            headers = [
                ("Content-Type", "application/problem+json"),
                ("Content-Length", str(len(_BAD_REQUEST))),
            ]
            start_response("400 Bad Request", headers)
            return [_BAD_REQUEST]
        return answer


async def _to_the_page(where: str, send: Any) -> None:
    headers = [(b"location", where.encode("ascii", "ignore")), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 308, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _adapted(app: Any) -> Any:
    from a2wsgi import ASGIMiddleware

    return ASGIMiddleware(app)
