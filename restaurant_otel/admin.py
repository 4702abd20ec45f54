"""The admin API: health, score, figures, caches and jobs of an app, for operators, over HTTP.

`admin_app(settings)` is a Starlette application. The middleware serves it under the path of the setting ``admin``
(off unless set); ``restaurant-otel admin`` serves it alone. It answers for all workers of the app. Who may do what is
`auth`'s; what there is to do is `OPERATIONS`; the parts are in `administration`. docs/admin.md is for operators.

Nothing of this is imported until an app switches it on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from restaurant_otel.auth import Access, Right
from restaurant_otel.settings import Settings, SettingsError

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.cors import CORSMiddleware
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from restaurant_otel.administration import (
        advice,
        alerts,
        caches,
        changes,
        health,
        openapi,
        pages,
        reports,
    )
    from restaurant_otel.administration.figures import Summary
    from restaurant_otel.administration.jobs import Job
    from restaurant_otel.administration.operations import Call, Operation, Page, Problem
    from restaurant_otel.administration.service import Service
    from restaurant_otel.administration.serving import Endpoint, problem_response
except ImportError as error:
    raise SettingsError(
        f"restaurant-otel: the admin API needs {error.name}: pip install 'restaurant-otel[admin]'"
    ) from None

_LONGEST_CORS: Final = 600


@dataclass(slots=True)
class JobList:
    """Jobs of all workers, the latest first."""

    total: int
    items: list[Job]


def _read_jobs(call: Call) -> JobList:
    jobs = call.service.jobs.list()
    wanted: Page = call.query
    return JobList(len(jobs), jobs[wanted.offset : wanted.offset + wanted.limit])


def _read_job(call: Call) -> Job:
    job = call.service.jobs.get(call.path["id"])
    if job is None:
        raise Problem(HTTPStatus.NOT_FOUND, "There is no such job.")
    return job


_READ, _EXECUTE, _CONFIGURE = Right.READ, Right.EXECUTE, Right.CONFIGURE

OPERATIONS: Final = (
    Operation(
        "health",
        "GET",
        "/health",
        None,
        "Whether the app can do its work",
        health.read_brief,
        health.Brief,
        problems=(HTTPStatus.SERVICE_UNAVAILABLE,),
    ),
    Operation(
        "health.parts",
        "GET",
        "/health/parts",
        _READ,
        "The same, part by part",
        health.read_health,
        health.Health,
    ),
    Operation(
        "score", "GET", "/score", _READ, "The score, and what to do", reports.read_score, reports.ScoreReport
    ),
    Operation(
        "metrics.summary", "GET", "/metrics/summary", _READ, "At a glance", reports.read_summary, Summary
    ),
    Operation(
        "endpoints",
        "GET",
        "/endpoints",
        _READ,
        "Routes",
        reports.read_endpoints,
        reports.EndpointList,
        query=reports.EndpointsWanted,
    ),
    Operation(
        "queries",
        "GET",
        "/queries",
        _READ,
        "Statements",
        reports.read_queries,
        reports.QueryList,
        query=reports.QueriesWanted,
    ),
    Operation(
        "queries.one",
        "GET",
        "/queries/{fingerprint}",
        _READ,
        "A statement, and its plan",
        reports.read_query,
        reports.QueryDetail,
    ),
    Operation(
        "n_plus_one",
        "GET",
        "/n-plus-one",
        _READ,
        "Relations loaded one row at a time",
        reports.read_n_plus_one,
        reports.Repetitions,
        query=Page,
    ),
    Operation("cache", "GET", "/cache", _READ, "Caches", caches.read_caches, caches.CacheList),
    Operation(
        "cache.clear",
        "DELETE",
        "/cache",
        _EXECUTE,
        "Clear a cache, or some of it",
        caches.clear,
        caches.Cleared,
        query=caches.Clear,
        told=("name", "pattern", "tag", "dry_run"),
    ),
    Operation(
        "cache.clear.post",
        "POST",
        "/cache/clear",
        _EXECUTE,
        "The same, for clients that cannot delete (Grafana's actions)",
        caches.clear,
        caches.Cleared,
        query=caches.Clear,
        body=caches.Clear,
        told=("name", "pattern", "tag", "dry_run"),
    ),
    Operation(
        "resources",
        "GET",
        "/resources",
        _READ,
        "What the host and this worker use",
        reports.read_resources,
        reports.ResourceReport,
        query=reports.ResourcesWanted,
    ),
    Operation(
        "leak_snapshot",
        "POST",
        "/leak-snapshot",
        _EXECUTE,
        "Which lines of code hold more memory than at the first look, in one worker",
        reports.take_leak_snapshot,
        reports.LeakReport,
    ),
    Operation(
        "alerts",
        "GET",
        "/alerts",
        _READ,
        "What is burning",
        alerts.read_alerts,
        alerts.Alerts,
        problems=(HTTPStatus.BAD_GATEWAY,),
    ),
    *advice.OPERATIONS,
    Operation("jobs", "GET", "/jobs", _READ, "Jobs", _read_jobs, JobList, query=Page),
    Operation("jobs.one", "GET", "/jobs/{id}", _READ, "A job, and its progress", _read_job, Job),
    Operation(
        "settings",
        "GET",
        "/settings",
        _READ,
        "Settings that may change while the app runs",
        changes.read_settings,
        changes.Changeable,
    ),
    Operation(
        "settings.change",
        "PATCH",
        "/settings",
        _CONFIGURE,
        "Change some of them, in all workers",
        changes.change_settings,
        changes.Changeable,
        body=changes.Change,
        problems=(HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED),
        conditional=True,
        told=tuple(changes.Change.model_fields),
    ),
)
"""All that can be asked for."""


def admin_app(settings: Settings, access: Access | None = None) -> AdminApp:
    """The API as an ASGI application whose root is the root path it is called with. Starts nothing.

    `access` (default: made from `settings`) is for tests.

    Raises:
        SettingsError: no key is set, or what is needed is not installed.
    """
    return AdminApp(Service(settings, access))


class AdminApp:
    """The ASGI application. `service` is what its operations share."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.app = _starlette(service)
        self._kept: list[Any] = []

    def start(self) -> None:
        """Follow what other workers change; to be called where requests are served, and not at import."""
        self.service.changes.follow()

    def keep(self, cache: Any) -> None:
        """Hold a cache for as long as this app, so that it is one of this process's."""
        self._kept.append(cache)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        await self.app(scope, receive, send)


def _starlette(service: Service) -> Starlette:
    operations = [*OPERATIONS]
    operations.append(
        Operation(
            "openapi",
            "GET",
            "/openapi.json",
            _READ,
            "This API's description",
            lambda _: openapi.document(operations, service.settings.admin or ""),
            dict[str, Any],
        )
    )
    paths: dict[str, list[Operation]] = {}
    for operation in operations:
        paths.setdefault(operation.path, []).append(operation)
    routes = [Route(path, _Resource(found, service), methods=None) for path, found in paths.items()]
    browsable = [one.path for one in operations if one.method == "GET" and "{" not in one.path]
    routes.append(Route("/", _console(browsable), methods=["GET"]))
    origins = list(service.settings.admin_origins)
    cors = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST", "PATCH", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "If-Match", "If-None-Match", "X-Grafana-Action"],
        expose_headers=["ETag", "Retry-After"],
        max_age=_LONGEST_CORS,
    )
    app = Starlette(
        routes=routes,
        middleware=[cors] if origins else [],
        exception_handlers={HTTPException: _http_problem},
    )
    app.router.redirect_slashes = False
    return app


class _Resource:
    """One path: each method has its endpoint."""

    def __init__(self, operations: Sequence[Operation], service: Service) -> None:
        self._endpoints = {one.method: Endpoint(one, service) for one in operations}
        if "GET" in self._endpoints:
            self._endpoints["HEAD"] = self._endpoints["GET"]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        endpoint = self._endpoints.get(scope["method"])
        if endpoint is None:
            allowed = ", ".join(sorted(self._endpoints))
            response = problem_response(
                Problem(HTTPStatus.METHOD_NOT_ALLOWED, "This path has no such method.", Allow=allowed)
            )
        else:
            response = await endpoint(Request(scope, receive))
        await response(scope, receive, send)


def _console(paths: Sequence[str]) -> Callable[[Request], Response]:
    page = pages.console(paths)

    def show(_: Request) -> Response:
        return Response(page, headers={"Cache-Control": "no-store", **pages.HEADERS}, media_type="text/html")

    return show


def _http_problem(_: Request, error: Exception) -> Response:
    status = HTTPStatus(getattr(error, "status_code", 500))
    headers = {
        name.replace("-", "_"): value for name, value in (getattr(error, "headers", None) or {}).items()
    }
    return problem_response(Problem(status, "There is nothing here.", **headers))


__all__ = ["OPERATIONS", "AdminApp", "admin_app"]
