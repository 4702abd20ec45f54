"""One core, two ways of waiting: what threads and event loops do differently.

`core` is written in coroutine functions and waits only through one of the two classes here and through a link. For
threads neither ever suspends, so that `run` carries such a coroutine through in one go and returns its
result: the same lines serve `Cache` and `AsyncCache`.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, MutableMapping
from typing import Any, Final, Protocol, TypeVar

from restaurant_otel.caching.flight import Flight
from restaurant_otel.errors import survived

T = TypeVar("T")
Work = Callable[[], Coroutine[Any, Any, Any]]
Flights = MutableMapping[str, Flight]

_MOST_THREADS: Final = 8


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that does not suspend."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise RuntimeError("a blocking cache was about to wait on an event loop")


class Driver(Protocol):
    """How to wait, and how to do something beside the caller.

    `detaches` says that a caller may be cancelled, so that what others wait for must not run as part of it.
    """

    detaches: bool

    def flights(self) -> Flights:
        """The loads under way that the caller can wait for."""

    def event(self) -> Any:
        """Something with `set()`, for `wait`."""

    async def wait(self, event: Any, seconds: float | None) -> bool:
        """Until `event` is set, or so many seconds; whether it is."""

    async def sleep(self, seconds: float) -> None:
        """Do nothing for a while."""

    async def call(self, factory: Callable[[], Any]) -> Any:
        """What `factory` makes."""

    def spawn(self, work: Work) -> bool:
        """Begin `work` in the caller's context, beside it; False if too much is under way."""

    def forget(self) -> None:
        """In a child process: nothing is under way here."""


class Threads:
    """For `Cache`."""

    detaches = False

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """See `Driver`."""
        self._flights: Flights = {}
        self._room = threading.Semaphore(_MOST_THREADS)

    def flights(self) -> Flights:
        """See `Driver`."""
        return self._flights

    def event(self) -> threading.Event:
        """See `Driver`."""
        return threading.Event()

    async def wait(self, event: threading.Event, seconds: float | None) -> bool:
        """See `Driver`."""
        return event.wait(seconds)

    async def sleep(self, seconds: float) -> None:
        """See `Driver`."""
        time.sleep(seconds)  # noqa: ASYNC251 - never on an event loop

    async def call(self, factory: Callable[[], Any]) -> Any:
        """See `Driver`."""
        return factory()

    def spawn(self, work: Work) -> bool:
        """See `Driver`. On a thread that does not keep the process from ending."""
        room, context = self._room, contextvars.copy_context()

        def body() -> None:
            try:
                context.run(run, work())
            except Exception as error:  # noqa: BLE001 - nobody is waiting for it
                survived("cache", error)
            finally:
                room.release()

        if not room.acquire(blocking=False):
            return False
        try:
            threading.Thread(target=body, name="restaurant-otel cache load", daemon=True).start()
        except RuntimeError:  # no more threads to be had
            room.release()
            return False
        return True


class Loops:
    """For `AsyncCache`, on whatever event loop it is called."""

    detaches = True

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """See `Driver`."""
        self._flights: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Flights] = (
            weakref.WeakKeyDictionary()
        )
        self._tasks: set[asyncio.Task[Any]] = set()

    def flights(self) -> Flights:
        """See `Driver`."""
        loop = asyncio.get_running_loop()
        flights = self._flights.get(loop)
        if flights is None:
            flights = self._flights[loop] = {}
        return flights

    def event(self) -> asyncio.Event:
        """See `Driver`."""
        return asyncio.Event()

    async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
        """See `Driver`."""
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return event.is_set()
        return True

    async def sleep(self, seconds: float) -> None:
        """See `Driver`."""
        await asyncio.sleep(seconds)

    async def call(self, factory: Callable[[], Any]) -> Any:
        """See `Driver`."""
        value = factory()
        return await value if inspect.isawaitable(value) else value

    def spawn(self, work: Work) -> bool:
        """See `Driver`."""
        task = asyncio.get_running_loop().create_task(work(), name="restaurant-otel cache load")
        self._tasks.add(task)  # the loop holds tasks weakly only
        task.add_done_callback(self._done)
        return True

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            error = task.exception()
            if error is not None:
                survived("cache", error)
