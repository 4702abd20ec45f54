"""The admin API at a path of an app, ASGI or WSGI: what the middleware holds where the setting ``admin`` is on."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from weakref import finalize

from restaurant_otel import forks
from restaurant_otel.admin import AdminApp, admin_app
from restaurant_otel.errors import survived
from restaurant_otel.routes import path_in_app
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
        self._lock = forks.Lock()
        self._loops: list[asyncio.AbstractEventLoop] = []  # the one of WSGI, once it is there
        self._start_over()
        forks.follow(in_child=self._start_over)
        # An app may be dropped without a word: nothing that goes on for it shall outlive it.
        finalize(self, _end, self._app, self._loops).atexit = False

    def _start_over(self) -> None:
        self._wsgi: Any = None
        self._loops.clear()  # they run in a thread of the parent's
        self._started_in: int | None = None

    def close(self) -> None:
        """End what goes on between requests. What is asked for later is served all the same."""
        self._wsgi, self._started_in = None, None
        _end(self._app, self._loops)

    def stop_jobs(self) -> None:
        """Have long work end that goes on beside the requests, without waiting for it."""
        self._app.service.jobs.close()

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
        if path_in_app(scope) == self.root:  # links on the page there are relative to it
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
            answer: Iterable[bytes] = self._adapted()(environ, start_response)
        except Exception as error:  # noqa: BLE001 - never into the app, which was not asked
            survived("admin", error)
            headers = [
                ("Content-Type", "application/problem+json"),
                ("Content-Length", str(len(_BAD_REQUEST))),
            ]
            start_response("400 Bad Request", headers)
            return [_BAD_REQUEST]
        return answer

    def _adapted(self) -> Any:
        """The API as a WSGI application, on a loop that is made when it is first asked for."""
        with self._lock:
            if self._wsgi is None:
                from a2wsgi import ASGIMiddleware

                loop = asyncio.new_event_loop()
                threading.Thread(target=_run, args=(loop,), name="restaurant-otel-admin", daemon=True).start()
                self._loops.append(loop)
                self._wsgi = ASGIMiddleware(self.asgi, loop=loop)
            return self._wsgi


async def _to_the_page(where: str, send: Any) -> None:
    headers = [(b"location", where.encode("ascii", "ignore")), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 308, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _end(app: AdminApp, loops: list[asyncio.AbstractEventLoop]) -> None:
    app.service.close()
    while loops:
        loop = loops.pop()
        loop.call_soon_threadsafe(loop.stop)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()
