"""The OpenAPI 3.1 document, made from the operations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from restaurant_otel._version import __version__
from restaurant_otel.administration.operations import Given, Operation

JOB_ID: Final = r"^[0-9a-f]{13}-[0-9a-f]{16}$"

_PATH_PARAMETERS: Final = {
    "id": {"type": "string", "pattern": JOB_ID, "description": "A job's id."},
    "fingerprint": {"type": "string", "pattern": r"^[0-9A-Za-z_\-]{1,64}$", "description": "A statement's."},
}

_IF_MATCH: Final = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "Only if it is still what was seen: the `ETag` of that answer, as JSON.",
    "schema": {"type": "string"},
}

_PROBLEM: Final = {
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["where", "message"],
                "properties": {"where": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}

_REF: Final = "#/components/schemas/{model}"


def document(operations: Sequence[Operation], base: str) -> dict[str, Any]:
    """The document for an API whose root is `base`."""
    schemas, results = _schemas(operations)
    schemas["Problem"] = _PROBLEM
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(
            operation, results, schemas
        )
    return {
        "openapi": "3.1.0",
        "info": {"title": "restaurant-otel admin API", "version": __version__},
        "servers": [{"url": base or "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _schemas(operations: Iterable[Operation]) -> tuple[dict[str, Any], dict[str, Any]]:
    """All definitions, and the schema of each operation's result, by its id."""
    inputs = [
        (operation.id, "serialization", TypeAdapter(operation.result))
        for operation in operations
        if operation.result is not None
    ]
    results, whole = TypeAdapter.json_schemas(inputs, ref_template=_REF)  # type: ignore[arg-type]
    bodies = [(operation.body, "validation") for operation in operations if operation.body is not None]
    _, given = models_json_schema(bodies, ref_template=_REF)  # type: ignore[arg-type]
    definitions = {**whole.get("$defs", {}), **given.get("$defs", {})}
    return definitions, {str(name): schema for (name, _), schema in results.items()}


def _operation(operation: Operation, results: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {str(int(operation.status)): _good(operation, results)}
    problems = {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, *operation.problems}
    if operation.right is not None:
        problems |= {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS}
        problems |= {HTTPStatus.SERVICE_UNAVAILABLE}
    if operation.body is not None:
        problems |= {HTTPStatus.UNSUPPORTED_MEDIA_TYPE, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
    for status in sorted(problems):
        content = {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}}
        responses.setdefault(str(int(status)), {"description": status.phrase, "content": content})
    if operation.method == "GET":
        responses["304"] = {"description": "Not Modified"}
    found: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": [
            *_path_parameters(operation),
            *_query_parameters(operation.query),
            *([_IF_MATCH] if operation.conditional else []),
        ],
        "responses": responses,
        "security": [] if operation.right is None else [{"token": []}],
    }
    if operation.right is not None:
        found["description"] = f"Needs the right `{operation.right.value}`."
    if operation.body is not None:
        name = operation.body.__name__
        required = any(field.is_required() for field in operation.body.model_fields.values())
        schemas.setdefault(name, operation.body.model_json_schema(ref_template=_REF))
        content = {"application/json": {"schema": {"$ref": _REF.format(model=name)}}}
        found["requestBody"] = {"required": required, "content": content}
    return found


def _good(operation: Operation, results: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": operation.status.phrase}
    if operation.result is not None:
        schema = results[operation.id]
        html = {"schema": {"type": "string"}}
        answer["content"] = {"application/json": {"schema": schema}, "text/html": html}
    if operation.headers:
        answer["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in operation.headers.items()
        }
    return answer


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    found = []
    for name in re.findall(r"{(\w+)}", operation.path):
        schema = dict(_PATH_PARAMETERS[name])
        description = schema.pop("description")
        found.append(
            {"name": name, "in": "path", "required": True, "description": description, "schema": schema}
        )
    return found


def _query_parameters(model: type[Given]) -> list[dict[str, Any]]:
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    found = []
    for name, of_field in schema.get("properties", {}).items():
        inline = (
            {**definitions[of_field["$ref"].rpartition("/")[2]]} if "$ref" in of_field else dict(of_field)
        )
        description = inline.pop("description", "")
        # A parameter that is left out is left out; there is no way to write null in a query.
        if "anyOf" in inline:
            kinds = [kind for kind in inline.pop("anyOf") if kind.get("type") != "null"]
            inline = {**inline, **kinds[0]}
            inline.pop("default", None)
        found.append(
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "description": description,
                "schema": inline,
            }
        )
    return found
