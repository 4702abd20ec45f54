"""``GET /metrics``: who may ask, and the answer, over ASGI, over WSGI, or on a port of its own.

The middleware asks `MetricsEndpoint` about each request for the metrics path. What the endpoint does not
allow it does not answer either, so that a stranger gets the app's own 404 and learns nothing. How points
become text is not decided here, see `metrics.exposition`.
"""

from __future__ import annotations

import atexit
import hmac
import ipaddress
import socket
import threading
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final, Protocol, TypeAlias
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from anyio import CapacityLimiter
from anyio.lowlevel import checkpoint
from anyio.to_thread import run_sync

from restaurant_otel import errors, forks
from restaurant_otel.metrics.exposition import negotiate, render
from restaurant_otel.metrics.registry import registry

_POINTS: Final = 100
"""Points that the registry puts together at a time: with several workers about half a millisecond."""

Scope: TypeAlias = Mapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class EndpointSettings(Protocol):
    """What of the settings this module reads."""

    @property
    def metrics_path(self) -> str | None:
        """The path that is answered; None for nowhere."""

    @property
    def metrics_token(self) -> str | None:
        """Where set, a bearer token is required, and suffices from anywhere."""

    @property
    def metrics_networks(self) -> tuple[str, ...]:
        """Networks in CIDR notation whose direct requests are answered."""

    @property
    def metrics_port(self) -> int | None:
        """A port of its own, besides the app's; 0 takes a free one."""

    @property
    def metrics_host(self) -> str:
        """The address that the port listens on."""

    @property
    def metrics_created(self) -> bool:
        """Whether OpenMetrics shows ``_created``."""


class MetricsEndpoint:
    """The scrape endpoint of one app.

    `resource_attributes` are those that all workers share, since any of them may answer.
    `before_scrape` is called before each answer, from a worker thread where the app is asynchronous. All
    methods may be called from any thread; none raises an error of ours into the app.
    """

    def __init__(
        self,
        settings: EndpointSettings,
        resource_attributes: Mapping[str, Any],
        before_scrape: Callable[[], None] | None = None,
    ) -> None:
        self._settings = settings
        self._resource_attributes = dict(resource_attributes)
        self._before_scrape = before_scrape
        self._networks = tuple(ipaddress.ip_network(text) for text in settings.metrics_networks)
        self._port = _Port(settings.metrics_host, settings.metrics_port, self._answer_on_port)

    # --- ASGI ---

    def allows_asgi(self, scope: Scope) -> bool:
        """Whether the request in `scope`, which is for the metrics path, is answered here."""
        return self._allows(_asgi_question(scope))

    async def respond_asgi(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Answer, giving other tasks a turn every few hundred lines. On asyncio and on trio."""
        question = _asgi_question(scope)
        answer = _Answer(question)
        try:
            if self._before_scrape is not None:
                # A limiter of its own: the usual one is shared with the app, and a scrape must be answered
                # while all the app's worker threads are busy.
                await run_sync(self._prepare, limiter=CapacityLimiter(1))
            for piece in self._pieces(question):
                answer.add(piece)
                await checkpoint()
        except Exception as error:  # noqa: BLE001 - the app is not to see our errors
            answer.fail(error)
        status, headers, body = answer.finish()
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": int(status), "headers": encoded})
        await send({"type": "http.response.body", "body": body})

    # --- WSGI ---

    def allows_wsgi(self, environ: Mapping[str, Any]) -> bool:
        """Whether the request in `environ`, which is for the metrics path, is answered here."""
        return self._allows(_wsgi_question(environ))

    def respond_wsgi(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer."""
        question = _wsgi_question(environ)
        answer = _Answer(question)
        try:
            self._prepare()
            for piece in self._pieces(question):
                answer.add(piece)
        except Exception as error:  # noqa: BLE001 - the app is not to see our errors
            answer.fail(error)
        status, headers, body = answer.finish()
        start_response(f"{status.value} {status.phrase}", headers)
        return [body]

    # --- a port of its own ---

    def listen(self) -> None:
        """Answer on the settings' port as well, if they name one; again in each process forked from here.

        To be called in workers, not at import. A second call does nothing. Without the port, because
        another program has it, the app's own path still answers.
        """
        if self._settings.metrics_port is not None and self._settings.metrics_path is not None:
            self._port.open()

    @property
    def port(self) -> int | None:
        """The port that `listen` got; None where it has not, or is closed."""
        return self._port.number

    def close(self) -> None:
        """Stop listening; happens by itself when the process ends."""
        self._port.close()

    def _answer_on_port(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") == self._settings.metrics_path and self.allows_wsgi(environ):
            return self.respond_wsgi(environ, start_response)
        start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", "10")])
        return [b"Not Found\n"]

    # --- what all of them share ---

    def _allows(self, question: _Question) -> bool:
        if question.method not in ("GET", "HEAD") or self._settings.metrics_path is None:
            return False
        if self._settings.metrics_token is not None:
            return _carries(question.authorization, self._settings.metrics_token)
        return not question.forwarded and self._is_near(question.peer)

    def _is_near(self, peer: str | None) -> bool:
        if not peer:  # a Unix socket
            return True
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)

    def _prepare(self) -> None:
        if self._before_scrape is None:
            return
        try:
            self._before_scrape()
        except Exception as error:  # noqa: BLE001 - the rest can be told all the same
            errors.survived("exposition", error)

    def _pieces(self, question: _Question) -> Iterator[bytes]:
        return render(
            registry().iter_families(_POINTS),
            negotiate(question.accept),
            target_info=self._resource_attributes,
            created=self._settings.metrics_created,
        )


# --- the request -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Question:
    """What of a request matters here, the same for ASGI and WSGI."""

    method: str
    peer: str | None
    authorization: bytes
    forwarded: bool
    accept: str
    accept_encoding: str


_FORWARDING: Final = frozenset(("forwarded", "via", "x-real-ip"))


def _is_forwarding(header: str) -> bool:
    """Whether a header, in lower case, says that the request came through a proxy."""
    return header in _FORWARDING or header.startswith("x-forwarded-")


def _asgi_question(scope: Scope) -> _Question:
    client = scope.get("client")
    headers = [(name.decode("latin-1").lower(), value) for name, value in scope.get("headers", ())]
    return _Question(
        method=scope.get("method", ""),
        peer=client[0] if client else None,
        authorization=next((value for name, value in headers if name == "authorization"), b""),
        forwarded=any(_is_forwarding(name) for name, _ in headers),
        accept=_joined(headers, "accept"),
        accept_encoding=_joined(headers, "accept-encoding"),
    )


def _joined(headers: Iterable[tuple[str, bytes]], wanted: str) -> str:
    return ",".join(value.decode("latin-1") for name, value in headers if name == wanted)


def _wsgi_question(environ: Mapping[str, Any]) -> _Question:
    headers = (key[5:].lower().replace("_", "-") for key in environ if key.startswith("HTTP_"))
    return _Question(
        method=environ.get("REQUEST_METHOD", ""),
        peer=environ.get("REMOTE_ADDR"),
        authorization=environ.get("HTTP_AUTHORIZATION", "").encode("latin-1", "replace"),
        forwarded=any(_is_forwarding(header) for header in headers),
        accept=environ.get("HTTP_ACCEPT", ""),
        accept_encoding=environ.get("HTTP_ACCEPT_ENCODING", ""),
    )


def _carries(authorization: bytes, token: str) -> bool:
    scheme, _, given = authorization.partition(b" ")
    return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), token.encode())


def _accepts_gzip(accept_encoding: str) -> bool:
    for coding in accept_encoding.lower().split(","):
        name, _, parameters = coding.partition(";")
        if name.strip() == "gzip":
            return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


# --- the answer --------------------------------------------------------------------------------------


class _Answer:
    """The answer to one question, put together piece by piece and sent whole.

    Whole, because an error halfway must become a 500 and not a torn page, which a scraper would take for
    a target that lost half of its series.
    """

    def __init__(self, question: _Question) -> None:
        self._head = question.method == "HEAD"
        self._content_type = negotiate(question.accept).content_type
        # The fastest level: it takes a third of the default's time and the text still shrinks to a tenth.
        gzipped = _accepts_gzip(question.accept_encoding)
        self._compressor = zlib.compressobj(1, wbits=31) if gzipped else None
        self._body: list[bytes] = []
        self._failed = False

    def add(self, piece: bytes) -> None:
        self._body.append(piece if self._compressor is None else self._compressor.compress(piece))

    def fail(self, error: Exception) -> None:
        errors.survived("exposition", error)
        self._failed = True

    def finish(self) -> tuple[HTTPStatus, list[tuple[str, str]], bytes]:
        """Status, headers and body."""
        if self._failed:
            status, content_type = HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8"
            body = b"The metrics could not be rendered; the log of the app says why.\n"
        else:
            status, content_type = HTTPStatus.OK, self._content_type
            if self._compressor is not None:
                self._body.append(self._compressor.flush())
            body = b"".join(self._body)
        headers = [
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
        ]
        if self._compressor is not None and not self._failed:
            headers.append(("Content-Encoding", "gzip"))
        return status, headers, b"" if self._head else body


# --- the port ----------------------------------------------------------------------------------------

_CONNECTIONS: Final = 8
_SECONDS_FOR_A_REQUEST: Final = 5.0


class _Port:
    """A small HTTP server in a daemon thread, open in this process and in those forked from it."""

    def __init__(self, host: str, wanted: int | None, app: Callable[..., Iterable[bytes]]) -> None:
        self._host = host
        self._wanted = wanted or 0
        self._app = app
        self._lock = threading.Lock()
        self._server: _Server | None = None
        forks.follow(in_child=self._in_child)

    @property
    def number(self) -> int | None:
        server = self._server
        return server.server_port if server is not None else None

    def open(self) -> None:
        with self._lock:
            if self._server is not None:
                return
            try:
                self._server = _Server((self._host, self._wanted), self._app)
            except (OSError, OverflowError) as error:
                errors.survived("metrics port", error)
                return
            threading.Thread(target=self._server.serve, name="restaurant-otel-metrics", daemon=True).start()
            atexit.register(self.close)

    def close(self) -> None:
        atexit.unregister(self.close)
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.stop()

    def _in_child(self) -> None:
        """The parent's socket is not ours, and its thread is not here."""
        self._lock = threading.Lock()
        if self._server is not None:
            self._server.socket.close()
            self._server = None
            self.open()


class _Handler(WSGIRequestHandler):
    timeout = _SECONDS_FOR_A_REQUEST

    def log_message(self, *_: Any) -> None:
        """Leave the app's standard error alone."""


class _Server(ThreadingMixIn, WSGIServer):
    """One thread a connection, a bounded number of them; what goes over is closed."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    allow_reuse_port = True  # each worker listens, the kernel hands a scrape to one of them

    def __init__(self, address: tuple[str, int], app: Callable[..., Iterable[bytes]]) -> None:
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        self._stopped = False
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)
        self.set_app(app)

    def server_bind(self) -> None:
        """Bind, without the look-up of the host's full name that `HTTPServer` makes."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def serve(self) -> None:
        """Answer until stopped, asleep in between: `serve_forever` would wake up twice a second."""
        while not self._stopped:
            try:
                self.handle_request()
            except (OSError, ValueError):  # the socket was closed under us
                break

    def stop(self) -> None:
        self._stopped = True
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread; closing alone would not
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread to be had
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, *_: Any) -> None:
        """A client that went away or was too slow; errors of ours have been told by then."""
