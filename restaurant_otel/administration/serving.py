"""One request to the admin API: admitted, checked, done in a thread, answered, and written into the audit log.

Nothing of the app's: its exceptions, its middleware and its thread pool have no part in it. An error of ours is a
problem document that says nothing but that there was one; what it was is in the log.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from pydantic import TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from restaurant_otel.administration import audit, pages, tags
from restaurant_otel.administration.operations import Call, Given, Operation, Problem
from restaurant_otel.administration.service import Service
from restaurant_otel.auth import Caller, RefusedError, Right
from restaurant_otel.errors import survived

LARGEST_BODY: Final = 65_536
LONGEST_QUERY: Final = 8_192
_THREADS: Final = 4

_OUTCOMES: Final = {401: "refused", 403: "refused", 429: "limited", 503: "refused"}


class Endpoint:
    """Serves one operation. One instance for all requests."""

    def __init__(self, operation: Operation, service: Service) -> None:
        self.operation = operation
        self._service = service
        self._result = TypeAdapter(operation.result) if operation.result is not None else None

    async def __call__(self, request: Request) -> Response:
        """Serve; never raises."""
        operation = self.operation
        address = request.client.host if request.client is not None else None
        caller: Caller | None = None
        told: dict[str, Any] = {}
        try:
            if operation.right is not None:
                caller = await self._admit(request, address, operation.right)
            call = await self._call(request, caller)
            told = _told(operation, call)
            response = await run_sync(self._answer, call, request, limiter=self._limiter())
        except RefusedError as refused:
            return self._refuse(refused, address)
        except Problem as problem:
            self._write("invalid", problem.status, caller, address, told, problem.status.name.lower())
            return problem_response(problem)
        except ClientDisconnect:
            self._write("failed", HTTPStatus.BAD_REQUEST, caller, address, told, "disconnected")
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        except Exception as error:  # noqa: BLE001 - the client is told nothing of it
            survived("admin", error)
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            self._write("failed", status, caller, address, told, "error")
            return problem_response(Problem(status, "It could not be done; the log of the app says why."))
        if operation.right is not None:
            self._write("done", HTTPStatus(response.status_code), caller, address, told, None)
        return response

    async def _admit(self, request: Request, address: str | None, right: Right) -> Caller:
        access = self._service.access
        authorization = [value for name, value in request.headers.raw if name.lower() == b"authorization"]
        if access.ready(authorization):
            return access.admit(authorization, address, right)
        return await run_sync(access.admit, authorization, address, right, limiter=self._limiter())

    def _limiter(self) -> CapacityLimiter:
        # Of its own: the usual one is the app's, and an administrator comes when all its threads are busy. It is a
        # loop's, and a service may be used by several.
        limiter = self._service.limiter.get(None)
        if limiter is None:
            limiter = CapacityLimiter(_THREADS)
            self._service.limiter.set(limiter)
        return limiter

    async def _call(self, request: Request, caller: Caller | None) -> Call:
        query = _query(self.operation.query, request)
        body = None
        if self.operation.body is not None:
            body = _checked(self.operation.body, await _body(request), "body")
        if_match = request.headers.get("if-match") if self.operation.conditional else None
        return Call(self._service, caller, query, body, request.path_params, if_match)

    def _answer(self, call: Call, request: Request) -> Response:
        """The response, made in a worker thread."""
        operation = self.operation
        found = operation.handler(call)
        headers = {"Cache-Control": "no-store", "Vary": "Accept, Authorization, Origin"}
        if isinstance(found, Answer):
            headers.update(found.headers)
            status, found = found.status, found.content
        else:
            status = operation.status
        assert self._result is not None  # noqa: S101 - every operation has a result
        if _prefers_html(request.headers.get("accept", "")):
            plain = self._result.dump_python(found, mode="json")
            body, kind = pages.table(operation.summary, plain).encode(), "text/html; charset=utf-8"
            headers.update(pages.HEADERS)
        else:
            body, kind = self._result.dump_json(found), "application/json"
            headers["X-Content-Type-Options"] = "nosniff"
        if status == HTTPStatus.OK and (operation.method == "GET" or operation.conditional):
            headers["ETag"] = tag = tags.of(body)
            seen = request.headers.get("if-none-match", "")
            if operation.method == "GET" and tags.match(seen, tag, weakly=True):
                return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(body, status, headers, kind)

    def _refuse(self, refused: RefusedError, address: str | None) -> Response:
        audit.write(
            self.operation.id,
            _OUTCOMES[refused.status],
            reason=refused.reason,
            who=refused.subject,
            address=address,
            status=refused.status,
            quietly=refused.status == HTTPStatus.TOO_MANY_REQUESTS and not self._service.tell(address),
        )
        headers = {}
        if refused.status == HTTPStatus.UNAUTHORIZED:
            error = "" if refused.reason == "missing" else ', error="invalid_token"'
            headers["WWW_Authenticate"] = f'Bearer realm="restaurant-otel"{error}'
        elif refused.status == HTTPStatus.FORBIDDEN:
            headers["WWW_Authenticate"] = f'Bearer error="insufficient_scope", scope="{self.operation.right}"'
        if refused.retry_after:
            headers["Retry_After"] = str(int(refused.retry_after) + 1)
        return problem_response(Problem(HTTPStatus(refused.status), _EXPLAINED[refused.status], **headers))

    def _write(
        self,
        outcome: str,
        status: HTTPStatus,
        caller: Caller | None,
        address: str | None,
        told: Mapping[str, Any],
        reason: str | None,
    ) -> None:
        audit.write(
            self.operation.id,
            outcome,
            reason=reason,
            who=caller.subject if caller is not None else None,
            address=address,
            status=status,
            what=told,
        )


class Answer:
    """What a handler returns where the status, or a header, is not the operation's usual one."""

    def __init__(self, content: Any, status: HTTPStatus, headers: Mapping[str, str] | None = None) -> None:
        self.content = content
        self.status = status
        self.headers = headers or {}


_EXPLAINED: Final = {
    401: "A valid bearer token is needed.",
    403: "The token does not allow this.",
    429: "Too many requests; try again later.",
    503: "Tokens cannot be checked at the moment.",
}


def problem_response(problem: Problem, errors: Sequence[Mapping[str, str]] = ()) -> Response:
    """A problem document (RFC 9457)."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": problem.status.phrase,
        "status": int(problem.status),
        "detail": problem.detail,
    }
    errors = errors or getattr(problem, "errors", ())
    if errors:
        document["errors"] = errors
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **problem.headers}
    return Response(json.dumps(document), problem.status, headers, "application/problem+json")


class InvalidProblem(Problem):
    """Parameters that are not as they must be: says where, and what is allowed; never repeats what was given."""

    def __init__(self, errors: Sequence[Mapping[str, str]]) -> None:
        super().__init__(HTTPStatus.BAD_REQUEST, "Some parameters are not as they must be.")
        self.errors = errors


def _told(operation: Operation, call: Call) -> dict[str, Any]:
    told: dict[str, Any] = dict(call.path)
    for name in operation.told:
        value = getattr(call.body, name, None)
        told[name] = getattr(call.query, name, None) if value is None else value
    return told


# --- what goes in ------------------------------------------------------------------------------------


def _query(model: type[Given], request: Request) -> Given:
    if len(request.url.query) > LONGEST_QUERY:
        raise Problem(HTTPStatus.BAD_REQUEST, "The query is too long.")
    given: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise InvalidProblem([{"where": "query", "message": "A parameter is given twice."}])
        given[name] = value
    return _checked(model, given, "query")


def _checked(model: type[Given], given: Any, where: str) -> Given:
    try:
        # A query's values are all text, from which numbers and yes or no are read; JSON has types of its own.
        return model.model_validate(given, strict=where != "query")
    except ValidationError as error:
        known = model.model_fields
        raise InvalidProblem(
            [
                {"where": _where(where, mistake["loc"], known), "message": _message(mistake)}
                for mistake in error.errors(include_url=False, include_input=False, include_context=False)[
                    :20
                ]
            ]
        ) from None


def _where(part: str, place: tuple[int | str, ...], known: Mapping[str, Any]) -> str:
    name = place[0] if place else None
    return f"{part}: {name}" if name in known else part


def _message(mistake: Any) -> str:
    # A validator of ours may say what was given; pydantic's own messages do not.
    return "unknown parameter" if mistake["type"] == "extra_forbidden" else str(mistake["msg"])[:200]


async def _body(request: Request) -> Any:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > LARGEST_BODY:
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"At most {LARGEST_BODY} bytes are read.")
    if not data:
        return {}
    if kind != "application/json":
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body must be application/json.")
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError):
        raise Problem(HTTPStatus.BAD_REQUEST, "The body is not JSON.") from None


def _prefers_html(accept: str) -> bool:
    """Whether HTML is named before JSON: browsers do, programs do not."""
    accept = accept.lower()
    html, plain = accept.find("text/html"), accept.find("application/json")
    return html >= 0 and (plain < 0 or html < plain)
