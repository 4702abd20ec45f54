"""Branches, and who works at one."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from examples.restaurant.cache import cache
from examples.restaurant.models import Branch, User
from examples.restaurant.pages import row_or_404, session


def as_json(branch: Branch) -> dict[str, Any]:
    """A branch as clients see it."""
    return {"id": branch.id, "name": branch.name, "city": branch.city}


async def list_branches(request: Request) -> JSONResponse:
    """All branches."""
    async with session(request) as database:
        found = await database.scalars(select(Branch).order_by(Branch.id))
        return JSONResponse([as_json(branch) for branch in found])


@cache.cached("branch:{branch_id}", ttl=60, tags=("staff:{branch_id}",), ignore=("request",))
async def branch_and_staff(request: Request, branch_id: int) -> dict[str, Any]:
    """A branch, and how many people work there by role; 404 where there is none, which is not kept."""
    async with session(request) as database:
        branch = await row_or_404(database, Branch, branch_id)
        staff = await database.execute(
            select(User.role, func.count())
            .where(User.branch_id == branch.id)
            .group_by(User.role)
            .order_by(User.role)
        )
        return {**as_json(branch), "staff": dict(staff.tuples().all())}


async def show_branch(request: Request) -> JSONResponse:
    """One branch, and how many people work there by role."""
    return JSONResponse(await branch_and_staff(request, request.path_params["branch_id"]))


routes = [
    Route("/branches", list_branches),
    Route("/branches/{branch_id:int}", show_branch),
]
