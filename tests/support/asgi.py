"""An ASGI server's side of one request, in process: for tests of middleware, without sockets.

It can do what real clients and servers do wrong: leave scope fields out, disconnect or be cancelled in the
middle of a response, refuse to send. For whole servers see `servers`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]


@dataclass
class Response:
    """What came back: every message as sent, and the parts that tests ask for."""

    messages: list[Message] = field(default_factory=list)
    error: BaseException | None = None
    scope: dict[str, Any] = field(default_factory=dict)

    @property
    def started(self) -> bool:
        """Whether the response began."""
        return any(message["type"] == "http.response.start" for message in self.messages)

    @property
    def status(self) -> int:
        """The status of the response's start (the final one, not a 1xx)."""
        return int(self._start["status"])

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers as sent."""
        return [(bytes(name), bytes(value)) for name, value in self._start.get("headers", ())]

    def header(self, name: str) -> str | None:
        """The first header called `name`, in any case; None when there is none."""
        wanted = name.lower().encode("latin-1")
        return next((v.decode("latin-1") for n, v in self.headers if n.lower() == wanted), None)

    @property
    def chunks(self) -> list[bytes]:
        """The bodies of the body messages, empty ones included."""
        return [m.get("body", b"") for m in self.messages if m["type"] == "http.response.body"]

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.chunks)

    @property
    def complete(self) -> bool:
        """Whether the last body message was sent."""
        return any(m["type"] == "http.response.body" and not m.get("more_body") for m in self.messages)

    @property
    def _start(self) -> Message:
        return next(message for message in self.messages if message["type"] == "http.response.start")


def http_scope(
    method: str = "GET",
    path: str = "/",
    *,
    query: bytes = b"",
    headers: Headers = (),
    without: Sequence[str] = (),
    **fields: Any,
) -> dict[str, Any]:
    """A scope as servers make it; `fields` replace or add keys, `without` names keys to leave out."""
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "surrogatepass"),
        "query_string": query,
        "root_path": "",
        "headers": [(b"host", b"testserver"), *headers],
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 80),
        "extensions": {},
        "state": {},
    }
    scope.update(fields)
    for name in without:
        scope.pop(name, None)
    return scope


async def asgi_request(
    app: ASGIApp,
    method: str = "GET",
    path: str = "/",
    *,
    query: bytes = b"",
    headers: Headers = (),
    body: bytes | Sequence[bytes] = b"",
    without: Sequence[str] = (),
    scope: Mapping[str, Any] | None = None,
    disconnect_after: int | None = None,
    fail_send_after: int | None = None,
    cancel_after: int | None = None,
    catch: bool = False,
) -> Response:
    """One request through `app`, in the running loop.

    `body` may be several chunks. `scope` replaces scope fields, `without` leaves some out. Counting the
    messages that the app has sent: after `disconnect_after` of them `receive` says http.disconnect, after
    `fail_send_after` of them `send` raises OSError as servers do when the client is gone, after
    `cancel_after` of them the app's task is cancelled (0: as soon as it first waits). With `catch` an
    exception of the app is put into `Response.error` instead of being raised.
    """
    request = http_scope(method, path, query=query, headers=headers, without=without, **(scope or {}))
    response = Response(scope=request)
    pending = [body] if isinstance(body, bytes) else list(body)
    gone = asyncio.Event()
    cancel = asyncio.Event()

    async def receive() -> Message:
        if pending and not gone.is_set():
            return {"type": "http.request", "body": pending.pop(0), "more_body": bool(pending)}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent = len(response.messages)
        if fail_send_after is not None and sent >= fail_send_after:
            raise OSError("the client is gone")
        response.messages.append(message)
        if disconnect_after is not None and sent + 1 >= disconnect_after:
            gone.set()
        if cancel_after is not None and sent + 1 >= cancel_after:
            cancel.set()
        await asyncio.sleep(0)

    if disconnect_after == 0:
        gone.set()
    if cancel_after == 0:
        cancel.set()
    task = asyncio.ensure_future(app(request, receive, send))
    canceller = asyncio.ensure_future(_cancel_when(cancel, task))
    try:
        await asyncio.wait([task])
    finally:
        canceller.cancel()
        gone.set()
    try:
        task.result()
    except BaseException as error:
        if not catch:
            raise
        response.error = error
    return response


async def _cancel_when(event: asyncio.Event, task: asyncio.Future[None]) -> None:
    await event.wait()
    await asyncio.sleep(0)  # let the app reach its next wait
    task.cancel()


def asgi_call(app: ASGIApp, method: str = "GET", path: str = "/", **options: Any) -> Response:
    """`asgi_request` in an event loop of its own."""
    return asyncio.run(asgi_request(app, method, path, **options))


async def asgi_websocket(
    app: ASGIApp,
    path: str = "/",
    *,
    receives: Sequence[str | bytes] = (),
    close_code: int = 1000,
    headers: Headers = (),
    catch: bool = False,
    **fields: Any,
) -> Response:
    """One WebSocket session: connect, the messages of `receives`, then the client closes."""
    scope = http_scope("GET", path, headers=headers, type="websocket", scheme="ws", subprotocols=[], **fields)
    del scope["method"]
    response = Response(scope=scope)
    incoming: list[Message] = [{"type": "websocket.connect"}]
    for item in receives:
        kind = "text" if isinstance(item, str) else "bytes"
        incoming.append({"type": "websocket.receive", kind: item})
    incoming.append({"type": "websocket.disconnect", "code": close_code})

    async def receive() -> Message:
        if incoming:
            return incoming.pop(0)
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def send(message: Message) -> None:
        response.messages.append(message)
        await asyncio.sleep(0)

    try:
        await app(scope, receive, send)
    except BaseException as error:
        if not catch:
            raise
        response.error = error
    return response
