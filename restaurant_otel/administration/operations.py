"""What the admin API can be asked for: the shape of an operation, and of what goes in and comes out.

An `Operation` is data. The routes, the checks of parameters and the OpenAPI document are made from it, so that they
cannot disagree. Handlers are plain functions that may take their time: they run in worker threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from restaurant_otel.auth import Caller, Right

if TYPE_CHECKING:
    from restaurant_otel.administration.service import Service


class Given(BaseModel):
    """Base of what a client gives: nothing but what is declared, no guessing of types."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Nothing(Given):
    """No parameters."""


class Page(Given):
    """Which part of a list is wanted."""

    limit: Annotated[int, Field(ge=1, le=200, description="How many, at most.")] = 50
    offset: Annotated[
        int, Field(ge=0, le=1_000_000, description="How many to leave out at the beginning.")
    ] = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One request, admitted and checked. `caller` is None for operations that are open to all."""

    service: Service
    caller: Caller | None
    query: Any
    body: Any
    path: Mapping[str, str]
    if_match: str | None = None
    """The header, for operations that are `conditional`."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `right` None: open to all. `result` is the type of what `handler` returns."""

    id: str
    method: str
    path: str
    right: Right | None
    summary: str
    handler: Callable[[Call], Any]
    result: Any
    query: type[Given] = Nothing
    body: type[Given] | None = None
    status: HTTPStatus = HTTPStatus.OK
    problems: tuple[HTTPStatus, ...] = ()
    told: tuple[str, ...] = ()
    """Parameters whose values are written into the audit log."""
    conditional: bool = False
    """Whether the client may say by ``If-Match`` which state it has seen, and the answer has a tag."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of the response: name and description."""


class Problem(Exception):  # noqa: N818 - RFC 9457's own word
    """An answer that is not what was asked for: `detail` is for the client, and holds nothing that it may not know."""

    def __init__(self, status: HTTPStatus, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
