"""Plays the clients: a steady, seeded mix of everything the app offers, and of what nobody asked for.

``python -m examples.restaurant.traffic URL [--rate N] [--duration S]``, or `Traffic` from Python. Not a
load test: it asks at a fixed rate, and asks no faster when the app could do more. It knows what each
request should be answered with and keeps account of every surprise.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from examples.restaurant.models import ROLES, STATUSES
from examples.restaurant.seed import (
    BRANCHES,
    DAYS,
    FIRST_DAY,
    FIRST_NAMES,
    MENU,
    ORDERS_A_BRANCH,
    USERS_A_BRANCH,
)

AT_ONCE = 40
"""Visits under way at the same time; what would go over is put off, so a stuck app is not piled upon."""
PATIENCE_SECONDS = 10.0
UPDATE_SECONDS = 0.5
"""How long a cook looks at the screen: with several workers, an update may go to another one's screens."""


class Surprise(Exception):  # noqa: N818 - a finding about the app, not an error of this program
    """The app's answer was not what it should be."""


class Visitor:
    """One client's visit: its own dice, so that the mix is the same however visits overlap."""

    def __init__(self, http: httpx.AsyncClient, chance: random.Random) -> None:
        self.http = http
        self.chance = chance

    async def ask(self, method: str, path: str, *expected: int, **request: Any) -> httpx.Response:
        """Send one request; a status other than the `expected` is a surprise."""
        return _expect(await self.http.request(method, path, **request), *expected)

    def branch(self) -> int:
        """The number of some branch."""
        return self.chance.randint(1, BRANCHES)

    def user(self) -> int:
        """The number of some user."""
        return self.chance.randint(1, BRANCHES * USERS_A_BRANCH)

    def dish(self) -> int:
        """The number of some dish."""
        return self.chance.randint(1, sum(map(len, MENU.values())))

    def order(self) -> int:
        """The number of some order."""
        return self.chance.randint(1, BRANCHES * ORDERS_A_BRANCH)

    def day(self) -> str:
        """Some day that shifts are planned for."""
        return FIRST_DAY.replace(day=FIRST_DAY.day + self.chance.randrange(DAYS)).isoformat()

    async def new_order(self, branch: int) -> int:
        """Order something; returns the order's number."""
        dishes = [self.dish() for _ in range(self.chance.randint(1, 6))]
        guest = self.chance.choice(FIRST_NAMES)
        order = {"branch_id": branch, "guest_name": guest, "dishes": dishes}
        return int((await self.ask("POST", "/orders", 201, json=order)).json()["id"])


Visit = Callable[[Visitor], Awaitable[object]]


def _expect(response: httpx.Response, *expected: int) -> httpx.Response:
    if response.status_code not in expected:
        request = response.request
        raise Surprise(f"{request.method} {request.url.path} answered {response.status_code}")
    return response


async def look_around(visitor: Visitor) -> None:
    """The front page, then a branch."""
    await visitor.ask("GET", "/", 200)
    await visitor.ask("GET", "/branches", 200)
    await visitor.ask("GET", f"/branches/{visitor.branch()}", 200)


async def read_menu(visitor: Visitor) -> None:
    """A section of the menu."""
    await visitor.ask("GET", f"/menu?section={visitor.chance.choice(list(MENU))}", 200)


async def eat(visitor: Visitor) -> None:
    """Order, look at the order, pay: every fifth time the card terminal fails."""
    order = await visitor.new_order(visitor.branch())
    await visitor.ask("GET", f"/orders/{order}", 200)
    expected = 200 if order % 5 else 500
    # uvicorn hangs up after an error that nobody caught: nothing else may be sent on this connection.
    await visitor.ask("POST", f"/orders/{order}/payment", expected, headers={"connection": "close"})


async def check_orders(visitor: Visitor) -> None:
    """The orders of a branch in some state, and one of them all."""
    await visitor.ask(
        "GET", f"/orders?branch={visitor.branch()}&status={visitor.chance.choice(STATUSES)}", 200
    )
    await visitor.ask("GET", f"/orders/{visitor.order()}", 200)


async def manage_people(visitor: Visitor) -> None:
    """Look through users, then at one."""
    role = visitor.chance.choice(ROLES)
    await visitor.ask("GET", f"/users?role={role}&branch={visitor.branch()}", 200)
    await visitor.ask("GET", f"/users/{visitor.user()}", 200)


async def hire(visitor: Visitor) -> None:
    """A new user; trying the same again is refused."""
    email = f"{visitor.chance.getrandbits(64):x}@trattoria.example"
    user = {"email": email, "full_name": "New Hire", "role": "waiter", "branch_id": visitor.branch()}
    await visitor.ask("POST", "/users", 201, json=user)
    await visitor.ask("GET", f"/users/by-email/{email}", 200)
    await visitor.ask("POST", "/users", 409, json=user)


async def plan_shifts(visitor: Visitor) -> None:
    """The shifts of a user, and of a day."""
    await visitor.ask("GET", f"/schedules?user={visitor.user()}", 200)
    await visitor.ask("GET", f"/schedules?date={visitor.day()}", 200)


async def swap_shift(visitor: Visitor) -> None:
    """Give somebody's first shift to a colleague."""
    user = visitor.user()
    colleague = user + 1 if user % USERS_A_BRANCH else user - 1
    shifts = (await visitor.ask("GET", f"/schedules?user={user}", 200)).json()
    if shifts:
        await visitor.ask("PUT", f"/schedules/{shifts[0]['id']}?to={colleague}", 200)


async def change_price(visitor: Visitor) -> None:
    """A new price for a dish, and one that is refused."""
    price = visitor.chance.randrange(250, 2400, 50)
    await visitor.ask("PATCH", f"/menu/{visitor.dish()}", 200, json={"price_cents": price})
    await visitor.ask("PATCH", f"/menu/{visitor.dish()}", 400, json={"price_cents": "free"})


async def print_roster(visitor: Visitor) -> None:
    """The page with the N+1."""
    await visitor.ask("GET", f"/reports/roster/{visitor.branch()}?date={visitor.day()}", 200)


async def search(visitor: Visitor) -> None:
    """The page without an index."""
    await visitor.ask("GET", f"/reports/search?q={visitor.chance.choice(FIRST_NAMES)[:2]}", 200)


async def read_reports(visitor: Visitor) -> None:
    """The slow pages."""
    await visitor.ask("GET", visitor.chance.choice(["/reports/bestsellers", "/reports/suppliers"]), 200)


async def export(visitor: Visitor) -> None:
    """The whole stream of orders."""
    await visitor.ask("GET", "/orders/export", 200)


async def lose_interest(visitor: Visitor) -> None:
    """Open a stream that does not end by itself, and leave after its first bytes."""
    path = f"/kitchen/{visitor.branch()}/events"
    async with visitor.http.stream("GET", path) as response:
        _expect(response, 200)
        if not await anext(response.aiter_bytes(), b""):
            raise Surprise(f"GET {path} ended without an event")


async def cook(visitor: Visitor) -> None:
    """A kitchen's screen: sees an order come in, marks it ready, leaves."""
    branch = visitor.branch()
    url = visitor.http.base_url.copy_with(scheme="ws", path=f"/kitchen/{branch}")
    async with connect(str(url), open_timeout=PATIENCE_SECONDS) as screen:
        await screen.recv()
        order = await visitor.new_order(branch)
        await _look(screen)
        await screen.send(str(order))
        await _look(screen)


async def _look(screen: ClientConnection) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(screen.recv(), UPDATE_SECONDS)


async def err(visitor: Visitor) -> None:
    """Wrong addresses, methods and parameters, as people and programs send them."""
    mistakes = [
        ("GET", f"/pages/{visitor.chance.getrandbits(32)}", 404),
        ("GET", "/favicon.ico", 404),
        ("GET", f"/orders/{10**9 + visitor.order()}", 404),
        ("GET", f"/users/{10**30}", 404),
        ("GET", "/users?page=last", 400),
        ("GET", "/reports/roster/1?date=tomorrow", 400),
        ("DELETE", "/menu", 405),
        ("PUT", f"/orders/{visitor.order()}", 405),
    ]
    method, path, status = visitor.chance.choice(mistakes)
    await visitor.ask(method, path, status)


async def attack(visitor: Visitor) -> None:
    """Bytes that no decent client sends; the app or its server may refuse them, but not stumble."""
    junk = f"{visitor.chance.getrandbits(64):x}".encode()
    attacks = [
        b"GET /../../../../etc/passwd HTTP/1.1\r\nHost: x",
        b"GET /wp-admin/" + junk + b".php HTTP/1.1\r\nHost: " + junk + b".example",
        b"GET /%ff%fe%00?%ff=%zz HTTP/1.1\r\nHost: x",
        b"GET /caf\xe9 HTTP/1.1\r\nHost: x",
        b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\nX-Forwarded-For: \x80" + junk,
        b"GET /" + 6000 * b"a" + b" HTTP/1.1\r\nHost: x",
        b"GET /menu HTTP/1.1\r\nHost: x\r\ntraceparent: 00-" + junk + b"-zz",
        b"BREW" + junk.upper()[:8] + b" /orders HTTP/1.1\r\nHost: x",
        b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: abc",
        b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n\xff\xfe\xfd\xfc",
    ]
    request = visitor.chance.choice(attacks)
    if b"\r\n\r\n" not in request:
        request += b"\r\nConnection: close\r\n\r\n"
    url = visitor.http.base_url
    async with asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection(url.host, url.port)
        try:
            writer.write(request)
            status = (await reader.readline()).split(b" ")[1:2]
        finally:
            writer.close()
    if not status or not status[0].startswith((b"2", b"4")):
        raise Surprise(f"{request[:40]!r} answered {status}")


MIX: tuple[tuple[int, Visit], ...] = (
    (14, look_around),
    (16, read_menu),
    (12, eat),
    (14, check_orders),
    (10, manage_people),
    (2, hire),
    (8, plan_shifts),
    (2, swap_shift),
    (2, change_price),
    (5, print_roster),
    (6, search),
    (4, read_reports),
    (2, export),
    (2, lose_interest),
    (2, cook),
    (5, err),
    (4, attack),
)
"""How often each visit is made, by weight."""


class Traffic:
    """Visits to the app at `base_url`, `rate` a second, in an order that `seed` fixes.

    `answered` counts the answers to well-formed HTTP requests, `attacks` the requests that the server may
    have refused before the app saw them, `surprises` what was not as it should be, by description; all may
    be read at any time from the event loop that runs it.
    """

    def __init__(self, base_url: str, rate: float = 15.0, seed: int = 1) -> None:
        if urlsplit(base_url).hostname not in ("127.0.0.1", "localhost", "::1"):
            raise ValueError(f"{base_url}: traffic is made over loopback only")
        self.answered = 0
        self.attacks = 0
        self.surprises: Counter[str] = Counter()
        self._base_url = base_url
        self._pause = 1 / rate
        self._chance = random.Random(seed)
        self._room = asyncio.Semaphore(AT_ONCE)

    async def run(self, stop: asyncio.Event) -> None:
        """Make visits until `stop` is set, and let those under way come to their end."""
        weights, visits = zip(*MIX, strict=True)
        async with (
            httpx.AsyncClient(
                base_url=self._base_url,
                timeout=PATIENCE_SECONDS,
                trust_env=False,  # a proxy of the machine has no part in this
                event_hooks={"response": [self._count]},
            ) as http,
            asyncio.TaskGroup() as under_way,
        ):
            while not await _is_set_within(stop, self._pause):
                await self._room.acquire()
                visitor = Visitor(http, random.Random(self._chance.getrandbits(64)))
                under_way.create_task(self._visit(self._chance.choices(visits, weights)[0], visitor))

    async def _visit(self, visit: Visit, visitor: Visitor) -> None:
        self.attacks += visit is attack
        try:
            await visit(visitor)
        except Surprise as surprise:
            self.surprises[str(surprise)] += 1
        except (httpx.HTTPError, WebSocketException, OSError) as error:
            self.surprises[f"{getattr(visit, '__name__', visit)}: {type(error).__name__}: {error}"] += 1
        finally:
            self._room.release()

    async def _count(self, _response: httpx.Response) -> None:
        self.answered += 1


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


async def _main(url: str, rate: float, duration: float | None) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if duration is not None:
        loop.call_later(duration, stop.set)
    traffic = Traffic(url, rate)
    await traffic.run(stop)
    print(f"{traffic.answered} requests answered")
    for surprise, times in traffic.surprises.most_common(20):
        print(f"{times:6} x {surprise}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Send the example app the traffic of a busy evening.")
    parser.add_argument("url", help="where the app is, such as http://127.0.0.1:8000")
    parser.add_argument("--rate", type=float, default=15.0, help="visits a second (default 15)")
    parser.add_argument("--duration", type=float, help="seconds (default: until Ctrl-C)")
    arguments = parser.parse_args()
    asyncio.run(_main(arguments.url, arguments.rate, arguments.duration))
