"""A WSGI server's side of one request, in process: for tests of middleware, without sockets.

It keeps PEP 3333's rules, checks them with `wsgiref.validate` when asked, and can do what servers do at
bad moments: close a body that was read in part or not at all. For whole servers see `servers`.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.validate import validator

WSGIApp = Callable[..., Iterable[bytes]]


@dataclass
class Response:
    """What came back. `starts` counts calls of start_response; `result` is the object the app returned."""

    status_line: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    starts: int = 0
    exc_infos: list[Any] = field(default_factory=list)
    result: Any = None
    error: BaseException | None = None
    environ: dict[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The status code."""
        return int(self.status_line[:3])

    @property
    def body(self) -> bytes:
        """The whole body, as far as it was read."""
        return b"".join(self.chunks)

    def header(self, name: str) -> str | None:
        """The first header called `name`, in any case; None when there is none."""
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)


def make_environ(
    method: str = "GET",
    path: str = "/",
    *,
    query: str = "",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    without: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """An environ as servers make it; `extra` replaces or adds keys, `without` names keys to leave out."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "50000",
        "HTTP_HOST": "testserver",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if body:
        environ["CONTENT_LENGTH"] = str(len(body))
    for name, value in headers:
        key = name.upper().replace("-", "_")
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
    environ.update(extra or {})
    for name in without:
        environ.pop(name, None)
    return environ


def wsgi_call(
    app: WSGIApp,
    method: str = "GET",
    path: str = "/",
    *,
    query: str = "",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    without: Sequence[str] = (),
    environ: Mapping[str, Any] | None = None,
    read: int | None = None,
    validate: bool = False,
    catch: bool = False,
) -> Response:
    """One request through `app`.

    `environ` replaces environ fields, `without` leaves some out. `read` is how many chunks are taken before
    the body is closed (None: all; 0: closed without being iterated). `validate` puts `wsgiref.validate`
    around the app: it raises AssertionError where the protocol is broken. With `catch` an exception of the
    app is put into `Response.error` instead of being raised. `close()` is called in every case.
    """
    request = make_environ(
        method, path, query=query, headers=headers, body=body, without=without, extra=environ
    )
    response = Response(environ=request)

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if response.starts and exc_info is None:
            raise AssertionError("start_response called twice without exc_info")
        if exc_info is not None and response.chunks:  # the headers are out: PEP 3333 says raise it again
            raise exc_info[1].with_traceback(exc_info[2])
        response.starts += 1
        response.exc_infos.append(exc_info)
        response.status_line, response.headers = status, list(headers)
        return response.chunks.append

    try:
        result = (validator(app) if validate else app)(request, start_response)
        response.result = result
        try:
            _read(result, response.chunks, read)
        finally:
            if hasattr(result, "close"):
                result.close()
    except BaseException as error:
        if not catch:
            raise
        response.error = error
    return response


def _read(result: Iterable[bytes], chunks: list[bytes], count: int | None) -> None:
    if count == 0:
        return
    for number, chunk in enumerate(result, start=1):
        chunks.append(chunk)
        if number == count:
            return
