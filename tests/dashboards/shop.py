"""The example restaurant with a cached page, so that one app shows every metric that dashboards ask for."""

from __future__ import annotations

import asyncio
import os

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from examples.restaurant.app import app
from restaurant_otel.cache import AsyncCache

cache = AsyncCache(
    os.environ.get("SHOP_REDIS_URL", "memory://"), namespace="shop", memory_tier=True, max_entries=20
)


@cache.cached("specials:{branch}:{day}", ttl=60, tags=("specials",))
async def specials(branch: int, day: int) -> list[str]:
    """A value that takes a moment to make."""
    await asyncio.sleep(0.02)
    return [f"dish {branch}.{day}.{number}" for number in range(20)]


@cache.cached("rates:{currency}", ttl=3)
async def rate(currency: str) -> float:
    """One that is soon out of date, and now and then cannot be made."""
    if currency == "XXX":
        raise LookupError(currency)
    return 1.0 + len(currency)


async def show_specials(request: Request) -> Response:
    branch, day = int(request.path_params["branch"]), int(request.query_params["day"])
    return JSONResponse(await specials(branch, day))


async def show_rate(request: Request) -> Response:
    return JSONResponse(await rate(request.path_params["currency"]))


app.router.routes.extend(
    [Route("/specials/{branch:int}", show_specials), Route("/rates/{currency}", show_rate)]
)
