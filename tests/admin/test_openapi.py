"""The OpenAPI document is true: Schemathesis sends what it allows and what it does not, and compares the answers."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import parse_qs, urlsplit

import hypothesis
import schemathesis
from hypothesis import HealthCheck
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from restaurant_otel.admin import admin_app
from restaurant_otel.auth import Access, Caller, Right
from restaurant_otel.cache import Cache
from restaurant_otel.settings import Settings
from tests.admin.tokens import SECRET, token

_SETTINGS = Settings.resolve({}, admin_key=SECRET)


class Unlimited(Access):
    """As the real one, without a limit on requests: Schemathesis sends thousands."""

    def admit(self, authorization: Any, address: str | None, right: Right) -> Caller:
        self._requests._levels.clear()
        self._failures._levels.clear()
        return super().admit(authorization, address, right)


CACHE = Cache("memory://", namespace="menu")
APP = admin_app(_SETTINGS, Unlimited(_SETTINGS))
HEADERS = {"Authorization": f"Bearer {token()}"}
schema = schemathesis.openapi.from_asgi("/openapi.json", APP, headers=HEADERS)


@schema.parametrize()
@hypothesis.settings(
    max_examples=25 if not os.environ.get("SOAK") else 2000,
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)
def test_every_answer_is_as_the_document_says(case: Any) -> None:
    # Which parameters go together is more than a schema can say (a pattern or a tag; a name of a cache that is there).
    excluded = [positive_data_acceptance]
    response = case.call(headers=HEADERS)
    unknown = (case.query or {}).keys() - {parameter.name for parameter in case.operation.query}
    if unknown and not unknown & parse_qs(urlsplit(response.request.url).query, True).keys():
        excluded.append(negative_data_rejection)  # what was wrong, an empty list, say, has not been sent
    case.validate_response(response, excluded_checks=excluded)


def test_all_operations_are_in_the_document() -> None:
    from restaurant_otel.admin import OPERATIONS

    described = {
        operation["operationId"]: operation
        for methods in schema.raw_schema["paths"].values()
        for operation in methods.values()
    }
    assert set(described) == {operation.id for operation in OPERATIONS} | {"openapi"}
    for operation in OPERATIONS:
        assert bool(described[operation.id]["security"]) == (operation.right is not None)
