"""`instrument(app)`: the one line, for any kind of app; and the entry point for ``opentelemetry-instrument``.

An app is always instrumented from the outside, so that the response of the framework's own error handling
is seen as well, and the time that its middleware takes.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final, TypeVar, cast

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from restaurant_otel import routes
from restaurant_otel.errors import survived
from restaurant_otel.middleware import ASGIMiddleware, WSGIMiddleware
from restaurant_otel.settings import Settings

App = TypeVar("App")

_MARK: Final = "_restaurant_otel"


def instrument(app: App, **settings: Any) -> App:
    """Trace and count every request of `app`, every query of its engines, and answer /metrics.

    A Starlette, FastAPI, Flask or Django app object is instrumented in place and returned; any other ASGI
    or WSGI callable is returned wrapped, so write ``app = instrument(app)``. A second call changes nothing.
    `settings` are listed in docs/settings.md.

    Call it when the app is made, from the thread that makes it; nothing is started before the first request.

    Raises:
        SettingsError: a setting is unknown or malformed.
        TypeError: `app` is neither an ASGI nor a WSGI application.
    """
    if getattr(app, _MARK, None) is not None or isinstance(app, (ASGIMiddleware, WSGIMiddleware)):
        Settings.resolve(**settings)  # a mistake in the settings is told all the same
        return app
    if _is_a("flask", "Flask", app):
        _instrument_flask(app, settings)
    elif _is_a("django.core.handlers.wsgi", "WSGIHandler", app):
        _instrument_object(app, WSGIMiddleware, settings)
    elif _is_a("starlette.applications", "Starlette", app) or _is_a(
        "django.core.handlers.asgi", "ASGIHandler", app
    ):
        _instrument_object(app, ASGIMiddleware, settings)
    else:
        return cast("App", _wrap(app, settings))
    return app


def uninstrument(app: App) -> App:
    """Undo `instrument` on a Starlette, FastAPI, Flask or Django app; the app inside, for a wrapped callable.

    Requests under way end as they began. What observes the process (queries, resources, the score) goes on: it may
    have other apps. An app that was not instrumented is returned as it is.
    """
    if isinstance(app, (ASGIMiddleware, WSGIMiddleware)):
        app.let_go()
        routes.restore(app.app)
        return app.app  # type: ignore[return-value]
    undo: Callable[[], None] | None = getattr(app, _MARK, None)
    if undo is not None:
        undo()
        delattr(app, _MARK)
    return app


# --- frameworks --------------------------------------------------------------------------------------


def _instrument_flask(app: Any, settings: dict[str, Any]) -> None:
    app.wsgi_app = middleware = WSGIMiddleware(app.wsgi_app, **settings)

    def undo() -> None:
        middleware.let_go()
        if isinstance(app.wsgi_app, WSGIMiddleware):
            app.wsgi_app = app.wsgi_app.app
        routes.restore(app)

    setattr(app, _MARK, undo)


def _instrument_object(app: Any, kind: type[Any], settings: dict[str, Any]) -> None:
    """Give `app` a subclass of its own class whose ``__call__`` goes through the middleware.

    That is the one place outside of everything the framework does itself, its error handling and its own
    telemetry included; middleware that a framework offers to add runs inside of those.
    """
    plain = type(app)
    middleware = kind(partial(plain.__call__, app), **settings)

    async def asgi(self: Any, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 - a method
        await middleware(scope, receive, send)

    def wsgi(self: Any, environ: Any, start_response: Any) -> Any:  # noqa: ARG001 - a method
        return middleware(environ, start_response)

    # Servers look at what they are given: only a coroutine function is ASGI 3 to them.
    call = asgi if kind is ASGIMiddleware else wsgi
    app.__class__ = type(plain.__name__, (plain,), {"__call__": call, "__module__": plain.__module__})

    def undo() -> None:
        app.__class__ = plain
        middleware.let_go()
        routes.restore(app)

    setattr(app, _MARK, undo)


def _wrap(app: Any, settings: dict[str, Any]) -> Any:
    kind = _kind(app)
    if kind == "asgi":
        return ASGIMiddleware(app, **settings)
    if kind == "asgi2":
        return ASGIMiddleware(_asgi3(app), **settings)
    if kind == "wsgi":
        return WSGIMiddleware(app, **settings)
    raise TypeError(
        f"restaurant-otel: {app!r} is neither an ASGI application (a coroutine function of scope, receive, send) "
        "nor a WSGI application (a callable of environ, start_response). If it is one, wrap it with "
        "restaurant_otel.ASGIMiddleware or restaurant_otel.WSGIMiddleware."
    )


def _kind(app: Any) -> str | None:
    if not callable(app):
        return None
    inner = app
    while isinstance(inner, partial):
        inner = inner.func
    call = inner if inspect.isroutine(inner) or inspect.isclass(inner) else type(inner).__call__
    if inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(call):
        return "asgi"
    try:
        required = [
            parameter
            for parameter in inspect.signature(app).parameters.values()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
            and parameter.default is parameter.empty
        ]
    except (TypeError, ValueError):
        return None
    return {1: "asgi2", 2: "wsgi", 3: "asgi"}.get(len(required))


def _asgi3(app: Any) -> Any:
    """A double-callable of ASGI 2 as the single callable of ASGI 3."""

    async def single(scope: Any, receive: Any, send: Any) -> None:
        await app(scope)(receive, send)

    return single


def _is_a(module: str, name: str, app: object) -> bool:
    """Whether `app` is an instance of a framework's class, without importing the framework."""
    found = getattr(sys.modules.get(module), name, None)
    return isinstance(found, type) and isinstance(app, found)


# --- no line at all -----------------------------------------------------------------------------------


class RestaurantInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """``opentelemetry-instrument``'s way in: every app that is made from now on is instrumented."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: what is installed is instrumented, what is not is left alone."""
        return ()

    def _instrument(self, **settings: Any) -> None:
        self._undo = [
            undo
            for module, name in (
                ("starlette.applications", "Starlette"),
                ("fastapi.applications", "FastAPI"),  # its constructor does not call Starlette's
                ("flask.app", "Flask"),
                ("django.core.handlers.wsgi", "WSGIHandler"),
                ("django.core.handlers.asgi", "ASGIHandler"),
            )
            if (undo := _instrument_when_made(module, name, settings)) is not None
        ]

    def _uninstrument(self, **_: Any) -> None:
        for undo in self._undo:
            undo()


def _instrument_when_made(module: str, name: str, settings: dict[str, Any]) -> Callable[[], None] | None:
    try:
        kind = getattr(importlib.import_module(module), name)
    except ImportError:
        return None
    plain = kind.__init__

    @functools.wraps(plain)
    def init(self: Any, *arguments: Any, **keywords: Any) -> None:
        plain(self, *arguments, **keywords)
        try:
            instrument(self, **settings)
        except Exception as error:  # noqa: BLE001 - nobody wrote our line: nobody expects our errors
            survived("auto-instrumentation", error)

    kind.__init__ = init

    def undo() -> None:
        kind.__init__ = plain

    return undo
