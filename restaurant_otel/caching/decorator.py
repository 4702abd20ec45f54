"""`@cache.cached(...)`: a function or coroutine function whose results are kept.

Makes the name from the arguments (`keys.Template`), reads the type from the return annotation, and puts memory hits
before everything else. What is cached, and what happens on a miss, is `loading`'s.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from restaurant_otel.caching.codecs import typed
from restaurant_otel.caching.core import Core
from restaurant_otel.caching.driver import run
from restaurant_otel.caching.entry import UNDECODED
from restaurant_otel.caching.keys import Template
from restaurant_otel.caching.loading import Loader, Policy
from restaurant_otel.caching.writing import Writer

P = ParamSpec("P")
Parts = tuple[Core, Writer, Loader]
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Cached(Protocol[P, R_co]):
    """A cached function. The three attributes take the arguments of the function itself."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """The function's result, from the cache if it is there."""

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key of a call's result."""

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function now, and store what it returns."""

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Delete a call's result; whether there was one."""


class AsyncCached(Protocol[P, R_co]):
    """A cached coroutine function. The three attributes take the arguments of the function itself."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """The function's result, from the cache if it is there."""

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key of a call's result."""

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Call the function now, and store what it returns."""

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, bool]:
        """Delete a call's result; whether there was one."""


class _Plan(Generic[P, R]):
    """What both kinds of wrapper have worked out when the function is decorated."""

    def __init__(
        self,
        core: Core,
        writer: Writer,
        loader: Loader,
        function: Callable[P, Any],
        template: str | None,
        ignore: Sequence[str],
        policy: Policy,
        group: str | None,
    ) -> None:
        self.core = core
        self.writer = writer
        self.loader = loader
        self.function = function
        self.names = Template(template, function, ignore)
        self.group = core.telemetry.group(group or self.names.group)
        declared = _returned(function)
        self.declared = declared if declared is not None and typed(declared) is not None else None
        self.policy = replace(policy, declared=self.declared)
        self._tags = [Template(tag, function, self._unused(tag)) for tag in policy.tags if "{" in tag]
        self._plain_tags = tuple(tag for tag in policy.tags if "{" not in tag)

    def _unused(self, tag: str) -> list[str]:
        # A tag need not name every parameter: the parameters it does not name are ignored.
        return [name for name in inspect.signature(self.function).parameters if f"{{{name}" not in tag]

    def policy_for(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Policy:
        if not self._tags:
            return self.policy
        return replace(self.policy, tags=(*self._plain_tags, *(tag.name(args, kwargs) for tag in self._tags)))

    def get_or_set(self, name: str, args: Any, kwargs: Any) -> Coroutine[Any, Any, Any]:
        factory = functools.partial(self.function, *args, **kwargs)
        return self.loader.get_or_set(name, factory, self.policy_for(args, kwargs), self.group)

    def refresh(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        factory = functools.partial(self.function, *args, **kwargs)
        return self.loader.refresh(
            self.names.name(args, kwargs), factory, self.policy_for(args, kwargs), self.group
        )

    async def invalidate(self, *args: Any, **kwargs: Any) -> bool:
        return bool(await self.writer.delete_many((self.names.name(args, kwargs),), self.group))

    def key(self, *args: Any, **kwargs: Any) -> str:
        return self.names.name(args, kwargs)


def _returned(function: Callable[..., Any]) -> Any:
    try:
        return typing.get_type_hints(function).get("return")
    except Exception:  # noqa: BLE001 - annotations may name what is not there at run time; then results are plain
        return None


def cached(function: Callable[P, R], parts: Parts, *plan: Any) -> Cached[P, R]:
    """`function` cached, for threads. TypeError if it is a coroutine function."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function.__qualname__} is a coroutine function: cache it with AsyncCache")
    made: _Plan[P, R] = _Plan(*parts, function, *plan)
    core, memory_get, name_of, declared = made.core, made.core.memory.get, made.names.name, made.declared
    hits = made.group.memory_hits

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        name = name_of(args, kwargs)
        if core.reads_memory:
            now = monotonic()
            entry = memory_get(name, now)
            if entry is not None and now < entry.calm_until and entry.shown_as is declared:
                value = entry.value
                if value is not UNDECODED:
                    hits.count += 1
                    hits.tell(1)
                    return value  # type: ignore[no-any-return]
        return run(made.get_or_set(name, args, kwargs))  # type: ignore[no-any-return]

    wrapper.key = made.key  # type: ignore[attr-defined]
    wrapper.refresh = lambda *args, **kwargs: run(made.refresh(*args, **kwargs))  # type: ignore[attr-defined]
    wrapper.invalidate = lambda *args, **kwargs: run(made.invalidate(*args, **kwargs))  # type: ignore[attr-defined]
    return wrapper  # type: ignore[return-value]


def cached_async(
    function: Callable[P, Coroutine[Any, Any, R]], parts: Parts, *plan: Any
) -> AsyncCached[P, R]:
    """`function` cached, for tasks. TypeError if it is no coroutine function."""
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"{function.__qualname__} is no coroutine function: cache it with Cache")
    made: _Plan[P, R] = _Plan(*parts, function, *plan)
    core, memory_get, name_of, declared = made.core, made.core.memory.get, made.names.name, made.declared
    hits = made.group.memory_hits

    @functools.wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        name = name_of(args, kwargs)
        if core.reads_memory:
            now = monotonic()
            entry = memory_get(name, now)
            if entry is not None and now < entry.calm_until and entry.shown_as is declared:
                value = entry.value
                if value is not UNDECODED:
                    hits.count += 1
                    hits.tell(1)
                    return value  # type: ignore[no-any-return]
        return await made.get_or_set(name, args, kwargs)  # type: ignore[no-any-return]

    wrapper.key = made.key  # type: ignore[attr-defined]
    wrapper.refresh = made.refresh  # type: ignore[attr-defined]
    wrapper.invalidate = made.invalidate  # type: ignore[attr-defined]
    return wrapper  # type: ignore[return-value]
