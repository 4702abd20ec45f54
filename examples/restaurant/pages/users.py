"""The people who work here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from examples.restaurant.cache import cache
from examples.restaurant.models import ROLES, Branch, User
from examples.restaurant.pages import PAGE_SIZE, body, number, query, row_or_404, session


def as_json(user: User) -> dict[str, Any]:
    """A user as clients see one."""
    return {
        "id": user.id,
        "email": user.email,
        "full_name": user.full_name,
        "role": user.role,
        "branch_id": user.branch_id,
        "created_at": user.created_at.isoformat(),
    }


async def list_users(request: Request) -> JSONResponse:
    """Users by ``role`` and ``branch``, newest first, a page at a time."""
    statement = select(User).order_by(User.created_at.desc(), User.id)
    if role := request.query_params.get("role"):
        statement = statement.where(User.role == role)
    if (branch_id := query(request, "branch", number)) is not None:
        statement = statement.where(User.branch_id == branch_id)
    page = query(request, "page", number) or 0
    async with session(request) as database:
        found = await database.scalars(statement.limit(PAGE_SIZE).offset(page * PAGE_SIZE))
        return JSONResponse([as_json(user) for user in found])


@cache.cached("user:{user_id}", ttl=600, ignore=("request",))
async def one_user(request: Request, user_id: int) -> dict[str, Any]:
    """A user, who once hired does not change; 404 where there is none, which is not kept."""
    async with session(request) as database:
        return as_json(await row_or_404(database, User, user_id))


async def show_user(request: Request) -> JSONResponse:
    """One user."""
    return JSONResponse(await one_user(request, request.path_params["user_id"]))


async def find_user(request: Request) -> JSONResponse:
    """The user with this e-mail address."""
    async with session(request) as database:
        user = await database.scalar(select(User).where(User.email == request.path_params["email"]))
    if user is None:
        raise HTTPException(404, "no such user")
    return JSONResponse(as_json(user))


async def add_user(request: Request) -> JSONResponse:
    """A new user; 409 where the e-mail address is taken."""
    values = await body(request, email=str, full_name=str, role=str, branch_id=int)
    if values["role"] not in ROLES:
        raise HTTPException(400, f"role: one of {', '.join(ROLES)}")
    async with session(request) as database:
        await row_or_404(database, Branch, values["branch_id"])
        user = User(**values, created_at=datetime.now(UTC).replace(tzinfo=None))
        database.add(user)
        try:
            await database.commit()
        except IntegrityError:
            raise HTTPException(409, "this e-mail address is taken") from None
    await cache.delete_tag(f"staff:{user.branch_id}")
    return JSONResponse(as_json(user), 201)


routes = [
    Route("/users", list_users),
    Route("/users", add_user, methods=["POST"]),
    Route("/users/{user_id:int}", show_user),
    Route("/users/by-email/{email}", find_user),
]
