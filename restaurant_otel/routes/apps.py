"""What the frameworks have in common: finding them inside wrappers, and the note a hook leaves.

Looks only at attributes that are stored, never at computed ones, so that no code of the app runs.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from types import MemberDescriptorType, MethodType
from typing import Any, Final, NamedTuple

_MOST_LAYERS: Final = 2_000  # objects looked at; a dispatcher mounted in itself would go on for ever

_INNER: Final = ("app", "application", "wsgi_app", "router")
"""Where middleware, adapters and apps keep what they pass the request to."""


class Resolved(NamedTuple):
    """A framework's own answer: the template, and whose it is (a Django handler, a Flask URL map)."""

    owner: Any
    template: str


_RESOLVED: Final = "restaurant_otel.resolved"


def note(request: Any, resolved: Resolved) -> None:
    """Leave `resolved` in the ASGI scope or WSGI environ that the framework's `request` was made of."""
    carrier = getattr(request, "scope", None)
    (request.environ if carrier is None else carrier)[_RESOLVED] = resolved


def noted(carrier: Mapping[str, Any]) -> Resolved | None:
    """What a hook has left in the ASGI scope or WSGI environ."""
    return carrier.get(_RESOLVED)


def layers(app: Any) -> Iterator[tuple[str, Any]]:
    """`app` and each app inside it, from the outside in, with the path prefix it is mounted at.

    Follows wrappers, bound methods, partial calls, werkzeug's dispatcher (``mounts``), Channels' protocol router and
    Starlette's mounts (whose prefixes are not told: the route tree knows them better).
    """
    queue: deque[tuple[str, Any]] = deque([("", app)])
    seen: set[tuple[int, str]] = set()
    while queue and len(seen) < _MOST_LAYERS:
        prefix, layer = queue.popleft()
        if (id(layer), prefix) in seen:
            continue
        seen.add((id(layer), prefix))
        yield prefix, layer
        if isinstance(layer, MethodType):
            queue.append((prefix, layer.__self__))
        elif isinstance(layer, partial):
            queue.extend((prefix, part) for part in (layer.func, *layer.args))
        queue.extend(
            (prefix, inner) for inner in (_stored(layer, name) for name in _INNER) if callable(inner)
        )
        mounts = _stored(layer, "mounts")
        if isinstance(mounts, dict):
            queue.extend((prefix + path, inner) for path, inner in mounts.items() if isinstance(path, str))
        protocols = _stored(layer, "application_mapping")
        if isinstance(protocols, dict):
            queue.extend((prefix, inner) for inner in protocols.values())
        routes = _stored(layer, "routes")
        if isinstance(routes, list):
            queue.extend((prefix, route) for route in routes if _stored(route, "endpoint") is None)


def _stored(layer: Any, name: str) -> Any:
    value = inspect.getattr_static(layer, name, None)
    return value.__get__(layer) if isinstance(value, MemberDescriptorType) else value


def is_router(app: Any) -> bool:
    """Whether `app` routes as Starlette does: by a list of objects that match scopes."""
    routes = getattr(app, "routes", None)
    return isinstance(routes, list | tuple) and all(hasattr(route, "matches") for route in routes)
