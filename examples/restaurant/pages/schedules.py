"""Who works when."""

from __future__ import annotations

from sqlalchemy import select
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from examples.restaurant.models import Schedule, User
from examples.restaurant.pages import PAGE_SIZE, day, number, query, row_or_404, session


async def list_schedules(request: Request) -> JSONResponse:
    """The shifts of a ``date``, of a ``user``, or of both, with names, in one query."""
    date, user_id = query(request, "date", day), query(request, "user", number)
    statement = select(Schedule, User.full_name).join(Schedule.user).order_by(Schedule.date, Schedule.user_id)
    if date is not None:
        statement = statement.where(Schedule.date == date)
    if user_id is not None:
        statement = statement.where(Schedule.user_id == user_id)
    async with session(request) as database:
        found = await database.execute(statement.limit(PAGE_SIZE))
        return JSONResponse([{**as_json(schedule), "name": name} for schedule, name in found])


async def move_shift(request: Request) -> JSONResponse:
    """Give a shift to another user of the same branch."""
    user_id = query(request, "to", number)
    if user_id is None:
        raise HTTPException(400, "to: which user?")
    async with session(request) as database:
        schedule = await row_or_404(database, Schedule, request.path_params["schedule_id"])
        old = await row_or_404(database, User, schedule.user_id)
        new = await row_or_404(database, User, user_id)
        if new.branch_id != old.branch_id:
            raise HTTPException(409, "that user works at another branch")
        schedule.user_id = new.id
        await database.commit()
        return JSONResponse(as_json(schedule))


def as_json(schedule: Schedule) -> dict[str, object]:
    """A shift as clients see it."""
    return {
        "id": schedule.id,
        "user_id": schedule.user_id,
        "date": schedule.date.isoformat(),
        "starts": schedule.starts,
        "ends": schedule.ends,
    }


routes = [
    Route("/schedules", list_schedules),
    Route("/schedules/{schedule_id:int}", move_shift, methods=["PUT"]),
]
