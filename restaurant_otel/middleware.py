"""`ASGIMiddleware` and `WSGIMiddleware`: what happens to each request of an app that has been given one line.

They decide only what a request is (excluded, a scrape of /metrics, a WebSocket, one that an outer instance
already watches) and hand it to an exchange of its own (`serving`). Nothing about a request is kept here.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from anyio.to_thread import run_sync

from restaurant_otel import forks, resources, sql, telemetry
from restaurant_otel.conventions import wsgi_path
from restaurant_otel.current import enter, leave
from restaurant_otel.endpoint import MetricsEndpoint
from restaurant_otel.errors import survived
from restaurant_otel.metrics.registry import configure
from restaurant_otel.routes import AsgiRoutes, WsgiRoutes, path_in_app
from restaurant_otel.scorecard import keeper
from restaurant_otel.serving.asgi import AsgiExchange, Message, Receive, Scope, Send
from restaurant_otel.serving.observer import Observer
from restaurant_otel.serving.websocket import WebSocketExchange
from restaurant_otel.serving.wsgi import Environ, StartResponse, WsgiExchange
from restaurant_otel.settings import Settings

if TYPE_CHECKING:
    from restaurant_otel.administration.mount import Mount

ASGIApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
WSGIApp: TypeAlias = Callable[[Any, Any], Iterable[bytes]]

_SEEN: Final = "restaurant_otel.seen"
# Starlette's and FastAPI's own instrumentation leave a request alone that carries their key, by which they
# notice that they are nested. One server span and one count a request is the contract.
_FRAMEWORKS_OWN: Final = {
    "starlette.middleware.opentelemetry": ("starlette.opentelemetry", True),
    "fastapi.telemetry": ("fastapi.telemetry", None),
}


class _Middleware:
    """What both kinds have in common."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = Settings.resolve(**settings)
        self._disabled = telemetry.disabled()
        self._excluded = self._settings.excluded_urls
        self._observer = Observer(self._settings)
        configure(limit=self._settings.series_limit)  # one for the process: the last app's word counts
        self._cells = self._observer.cells
        # Until all is set up, again after a fork, and for good where some requests are to be left alone.
        self._unusual = True
        forks.follow(in_parent=self._look_again, in_child=self._look_again)
        self._metrics_path = self._settings.metrics_path
        self._endpoint: MetricsEndpoint | None = None
        self._admin = _admin(self._settings) if not self._disabled else None
        self._admin_root = self._admin.root if self._admin is not None else None
        if self._settings.sql and not self._disabled:
            sql.install(
                tracer=telemetry.tracer,
                stock_spans=self._settings.sql_stock_spans,
                options=sql.Options(
                    slow_seconds=self._settings.sql_slow_seconds,
                    repeats=self._settings.sql_repeats,
                    plans=self._settings.sql_plans,
                    comments=self._settings.sql_comments,
                ),
            )

    def _look_again(self) -> None:
        self._unusual = True

    def _get_ready(self) -> None:
        """Set up what must wait until the app runs: providers, the endpoint, its port."""
        observer = self._observer
        observer.get_ready()
        if self._endpoint is None:
            endpoint = MetricsEndpoint(self._settings, observer.telemetry.shared_resource, _before_scrape)
            if self._settings.metrics_port is not None:
                endpoint.listen()
            self._endpoint = endpoint
            if self._settings.score:
                keeper.keep(self._settings.objectives)
        resources.start(self._settings)
        if self._admin is not None:
            self._admin.start()

    def _wind_up(self) -> None:
        """Send off what is left, once the app has stopped; long work that goes on for it ends."""
        if self._admin is not None:
            self._admin.stop_jobs()
        telemetry.flush()

    def let_go(self) -> None:
        """End what goes on beside the requests of this app alone: the admin API's threads, the port of /metrics."""
        if self._admin is not None:
            self._admin.close()
        if self._endpoint is not None:
            self._endpoint.close()


def _admin(settings: Settings) -> Mount | None:
    """The admin API, if it is switched on: what it needs is imported only then."""
    if settings.admin is None:
        return None
    from restaurant_otel.administration.mount import Mount

    return Mount(settings)


def _before_scrape() -> None:
    telemetry.before_scrape()
    sql.before_scrape()
    resources.before_scrape()
    keeper.before_scrape()


class ASGIMiddleware(_Middleware):
    """Traces and counts every HTTP request and WebSocket of an ASGI app, and answers /metrics.

    Keyword arguments are the settings (see docs/settings.md), those of OpenTelemetry contrib's
    ``OpenTelemetryMiddleware`` among them. One instance may serve any number of requests, event loops and
    threads at once.

    Raises:
        SettingsError: a setting is unknown or malformed.
    """

    def __init__(self, app: ASGIApp, **settings: Any) -> None:
        super().__init__(settings)
        self.app = app
        self._routes = AsgiRoutes(app)
        self._marks: dict[str, Any] = {_SEEN: True}

    def _get_ready(self) -> None:
        others = dict(key for module, key in _FRAMEWORKS_OWN.items() if module in sys.modules)
        self._marks = {_SEEN: True, **others}
        super()._get_ready()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, WebSocket or lifespan."""
        exchange: AsgiExchange | WebSocketExchange | None
        if (
            self._unusual
            or scope["type"] != "http"
            or _SEEN in scope
            or (self._metrics_path is not None and self._metrics_path in (scope.get("path") or ""))
            or (self._admin_root is not None and self._admin_root in (scope.get("path") or ""))
        ):
            exchange = await self._look_closer(scope, receive, send)
            if exchange is None:
                return
        else:  # the usual request, told from all others by as few looks as can be
            try:
                exchange = AsgiExchange(self._observer, self._routes, scope, receive, send)
                scope.update(self._marks)
            except Exception as error:  # noqa: BLE001 - never into the app
                survived("request", error)
                await self.app(scope, receive, send)
                return
        token = enter(exchange.context())
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except BaseException as error:
            exchange.close(error)
            raise
        else:
            if not exchange.finished:
                exchange.close(None)
        finally:
            leave(token)

    async def _look_closer(
        self, scope: Scope, receive: Receive, send: Send
    ) -> AsgiExchange | WebSocketExchange | None:
        """The exchange for what may be no usual request; None for one that has been served here, unwatched."""
        kind = scope["type"]
        if self._disabled or (kind != "http" and kind != "websocket") or _SEEN in scope:
            if kind == "lifespan" and not self._disabled:
                send = self._at_start_and_end(send)
            await self.app(scope, receive, send)
            return None
        if self._admin is not None and kind == "http" and self._admin.serves(path_in_app(scope)):
            await self._administer(scope, receive, send)
            return None
        try:
            if self._excluded is None or not self._excluded.search(scope["path"]):
                if not self._cells.attached or self._endpoint is None:
                    self._get_ready()
                self._unusual = self._excluded is not None
                is_scrape = kind == "http" and path_in_app(scope) == self._metrics_path
                if is_scrape and self._answers(scope):
                    await self._endpoint.respond_asgi(scope, receive, send)  # type: ignore[union-attr]
                    return None
                make = AsgiExchange if kind == "http" else WebSocketExchange
                exchange = make(self._observer, self._routes, scope, receive, send)
                scope.update(self._marks)
                return exchange
        except Exception as error:  # noqa: BLE001 - never into the app
            survived("request", error)
        await self.app(scope, receive, send)
        return None

    async def _administer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if not self._cells.attached or self._endpoint is None:
                self._get_ready()
        except Exception as error:  # noqa: BLE001 - never into the app
            survived("request", error)
        await self._admin.asgi(scope, receive, send)  # type: ignore[union-attr]

    def _answers(self, scope: Scope) -> bool:
        return self._endpoint is not None and self._endpoint.allows_asgi(scope)

    def _at_start_and_end(self, send: Send) -> Send:
        """`send` that sets telemetry up once the app has started, and sends off what is left once it has stopped.

        Setting up takes a moment that no request should wait for. And several servers end by the signal that
        told them to, which skips Python's own exit handlers: this is the last occasion.
        """

        async def send_and_care(message: Message) -> None:
            kind = message.get("type")
            try:
                if kind == "lifespan.startup.complete":
                    self._get_ready()
                elif kind in {"lifespan.shutdown.complete", "lifespan.shutdown.failed"}:
                    await run_sync(self._wind_up)
            except Exception as error:  # noqa: BLE001 - never into the app
                survived("lifespan", error)
            await send(message)

        return send_and_care


class WSGIMiddleware(_Middleware):
    """Traces and counts every request of a WSGI app, and answers /metrics.

    Keyword arguments are the settings (see docs/settings.md), those of OpenTelemetry contrib's WSGI
    ``OpenTelemetryMiddleware`` among them. One instance may serve any number of threads at once.

    Raises:
        SettingsError: a setting is unknown or malformed.
    """

    def __init__(self, app: WSGIApp, **settings: Any) -> None:
        super().__init__(settings)
        self.app = app
        self._routes = WsgiRoutes(app)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        try:
            if (
                self._unusual
                or _SEEN in environ
                or environ.get("PATH_INFO") == self._metrics_path
                or (
                    self._admin_root is not None and environ.get("PATH_INFO", "").startswith(self._admin_root)
                )
            ):
                exchange = self._look_closer(environ, start_response)
                if not isinstance(exchange, WsgiExchange):
                    return exchange if exchange is not None else self.app(environ, start_response)
            else:  # the usual request, told from all others by as few looks as can be
                exchange = WsgiExchange(self._observer, self._routes, environ, start_response)
                environ[_SEEN] = True
        except Exception as error:  # noqa: BLE001 - never into the app
            survived("request", error)
            return self.app(environ, start_response)
        token = enter(exchange.context())
        try:
            body = self.app(environ, exchange.start_response)
        except BaseException as error:
            exchange.close(error, complete=False)
            raise
        finally:
            leave(token)
        return exchange.wrap(body)

    def _look_closer(
        self, environ: Environ, start_response: StartResponse
    ) -> WsgiExchange | Iterable[bytes] | None:
        """An exchange for the request, or the answer to a scrape, or None for a request to be left alone."""
        if self._disabled or _SEEN in environ:
            return None
        path = environ.get("PATH_INFO") or "/"
        if self._admin is not None and self._admin.serves(path):
            if not self._cells.attached or self._endpoint is None:
                self._get_ready()
            return self._admin.wsgi(environ, start_response)
        if self._excluded is not None and self._excluded.search(wsgi_path(environ)):
            return None
        if not self._cells.attached or self._endpoint is None:
            self._get_ready()
        self._unusual = self._excluded is not None
        endpoint = self._endpoint
        if path == self._metrics_path and endpoint is not None and endpoint.allows_wsgi(environ):
            return endpoint.respond_wsgi(environ, start_response)
        exchange = WsgiExchange(self._observer, self._routes, environ, start_response)
        environ[_SEEN] = True
        return exchange
