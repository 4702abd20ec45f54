"""Both faces behind one: an `AsyncCache` that can be called like a `Cache`, so that each promise is tested on both.

`Onloop` runs an event loop on a thread of its own and carries every coroutine there. Factories and decorated
functions are given as plain functions and become coroutine functions.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from restaurant_otel.cache import AsyncCache, Cache


class Loop:
    """An event loop on a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def stop(self) -> None:
        async def cancel_all() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.run(cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


def as_coroutine_function(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        # On a thread, as the plain function may wait for something; awaited, so that the loop goes on meanwhile.
        return await asyncio.to_thread(function, *args, **kwargs)

    return wrapper


class Onloop:
    """An AsyncCache, called from threads like a Cache."""

    def __init__(self, url: str, **options: Any) -> None:
        self._loop = Loop()
        self._cache = AsyncCache(url, **options)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._cache, name)
        if not inspect.iscoroutinefunction(found):
            return found
        return lambda *args, **kwargs: self._loop.run(found(*args, **kwargs))

    def get_or_set(self, key: str, factory: Callable[[], Any], *args: Any, **options: Any) -> Any:
        return self._loop.run(self._cache.get_or_set(key, as_coroutine_function(factory), *args, **options))

    def cached(self, *args: Any, **options: Any) -> Callable[[Callable[..., Any]], Any]:
        def decorate(function: Callable[..., Any]) -> Any:
            inner = self._cache.cached(*args, **options)(as_coroutine_function(function))

            def outer(*a: Any, **k: Any) -> Any:
                return self._loop.run(inner(*a, **k))

            outer.key = inner.key  # type: ignore[attr-defined]
            outer.refresh = lambda *a, **k: self._loop.run(inner.refresh(*a, **k))  # type: ignore[attr-defined]
            outer.invalidate = lambda *a, **k: self._loop.run(inner.invalidate(*a, **k))  # type: ignore[attr-defined]
            return outer

        return decorate

    def lock(self, name: str, **options: Any) -> AbstractContextManager[None]:
        lock = self._cache.lock(name, **options)

        @contextmanager
        def held() -> Any:
            self._loop.run(lock.__aenter__())
            try:
                yield
            finally:
                self._loop.run(lock.__aexit__(None, None, None))

        return held()

    def close(self) -> None:
        self._loop.run(self._cache.close())
        self._loop.stop()


FACES: dict[str, Callable[..., Any]] = {"threads": Cache, "loop": Onloop}
