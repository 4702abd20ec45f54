"""The kitchen's screens: orders as they come in, by WebSocket, or by server-sent events for the guests' hall.

Updates travel within one worker process only; an app in earnest would send them through Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from sqlalchemy import select
from starlette.exceptions import HTTPException, WebSocketException
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.status import WS_1008_POLICY_VIOLATION
from starlette.websockets import WebSocket, WebSocketDisconnect

from examples.restaurant.models import Branch, Order
from examples.restaurant.pages import number, orders, row_or_404, session

WAITING_UPDATES = 100
HEARTBEAT_SECONDS = 1.0

Update = dict[str, Any]
Updates = asyncio.Queue[Update]


class Board:
    """Hands each update of a branch to all screens that show it; a screen that lags loses updates."""

    def __init__(self) -> None:
        self._screens: dict[int, set[Updates]] = {}

    @contextlib.contextmanager
    def watch(self, branch_id: int) -> Iterator[Updates]:
        """A queue of the branch's updates from now on."""
        updates: Updates = asyncio.Queue(WAITING_UPDATES)
        screens = self._screens.setdefault(branch_id, set())
        screens.add(updates)
        try:
            yield updates
        finally:
            screens.discard(updates)

    def post(self, branch_id: int, update: Update) -> None:
        """Tell every screen of the branch."""
        for updates in self._screens.get(branch_id, ()):
            if not updates.full():
                updates.put_nowait(update)


async def screen(websocket: WebSocket) -> None:
    """Shows the open orders, then every update; the cook answers with the number of each that is ready."""
    board: Board = websocket.app.state.board
    async with session(websocket) as database:
        branch_id = (await row_or_404(database, Branch, websocket.path_params["branch_id"])).id
    await websocket.accept()
    with board.watch(branch_id) as updates:
        async with session(websocket) as database:
            found = await database.scalars(
                select(Order).where(Order.branch_id == branch_id, Order.status == "open").order_by(Order.id)
            )
            await websocket.send_json({"open": [order.id for order in found]})
        pushing = asyncio.create_task(_push(websocket, updates))
        try:
            async for message in websocket.iter_text():
                await _mark_ready(websocket, board, message)
        finally:
            pushing.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect):
                await pushing


async def _push(websocket: WebSocket, updates: Updates) -> None:
    while True:
        await websocket.send_json(await updates.get())


async def _mark_ready(websocket: WebSocket, board: Board, message: str) -> None:
    async with session(websocket) as database:
        try:
            order = await row_or_404(database, Order, number(message))
        except (ValueError, HTTPException):
            raise WebSocketException(WS_1008_POLICY_VIOLATION, "no such order") from None
        order.status = "ready"
        await database.commit()
    board.post(order.branch_id, orders.as_json(order))


async def events(request: Request) -> StreamingResponse:
    """The branch's updates as server-sent events, until the client leaves."""
    async with session(request) as database:
        branch = await row_or_404(database, Branch, request.path_params["branch_id"])

    async def stream() -> AsyncIterator[str]:
        with request.app.state.board.watch(branch.id) as updates:
            yield ": watching\n\n"
            while True:
                try:
                    update = await asyncio.wait_for(updates.get(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    yield ": still here\n\n"
                else:
                    yield f"data: {json.dumps(update)}\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream", headers={"cache-control": "no-store"})


routes = [
    WebSocketRoute("/kitchen/{branch_id:int}", screen),
    Route("/kitchen/{branch_id:int}/events", events),
]
