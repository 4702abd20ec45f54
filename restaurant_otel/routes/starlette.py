"""Where each route of a Starlette or FastAPI app lies: its template with the prefixes of all above it.

The framework leaves the innermost route in the scope, but its path alone; what lies above shows only as
``root_path``, which is text of the client where a mount has parameters. So the tree of routes is walked
once, as it was declared, and the places found are looked up by the identity of what the scope names.
Called by the face of this package only. Nothing here imports Starlette or FastAPI: routes are known by
their public attributes.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import is_
from re import Pattern
from typing import Any, Final

from restaurant_otel.errors import survived
from restaurant_otel.routes.apps import is_router, layers

_DEEPEST: Final = 16  # mounts in mounts; an app mounted in itself would go on for ever
_MOST_PLACES: Final = 20_000

_VERBS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@dataclass(slots=True, eq=False)
class Place:
    """A route at one place of the tree; the same route in a router mounted twice has two.

    A branch (a mount or host with routes below) has `children`; an `opaque` place is a mount of an app
    whose routes are not to be seen.
    """

    route: Any
    endpoint: Any
    template: str
    above: tuple[Place, ...]
    top: Any
    """The entry of the root's list of routes that it lies in, and where that entry stands."""
    position: int
    pattern: Pattern[str] | None = None
    host: Pattern[str] | None = None
    kind: str | None = None
    """The scope type it serves; None: any."""
    methods: frozenset[str] | None = None
    children: list[Place] | None = None
    opaque: bool = False

    @property
    def leaf(self) -> bool:
        """Whether nothing lies below."""
        return self.children is None and not self.opaque

    def below(self, path: str) -> str | None:
        """The rest of `path` below this mount; None if it does not begin here."""
        if self.pattern is None:
            return path if self.host is not None else None
        match = self.pattern.match(path)
        return None if match is None else "/" + match["path"]

    def rest(self, path: str) -> str | None:
        """The rest of the app's `path` below this place and all above it."""
        rest: str | None = path
        for mount in (*self.above, self):
            if rest is None:
                return None
            rest = mount.below(rest)
        return rest

    def fits(self, scope: Mapping[str, Any], path: str) -> bool:
        """Whether the leaf's own pattern takes `path`, of which what the mounts above took is gone."""
        return (
            self.kind in (None, scope["type"]) and self.pattern is not None and bool(self.pattern.match(path))
        )

    def holds(self, scope: Mapping[str, Any], path: str) -> bool:
        """Whether the app's `path` leads here, whatever the method."""
        if not self.leaf:
            return self.rest(path) is not None
        rest = self.above[-1].rest(path) if self.above else path
        return rest is not None and (self.pattern is None or self.fits(scope, rest))

    def told(self, scope: Mapping[str, Any]) -> str | None:
        """The leaf's template; None if the method is none of the route's: the framework has answered 405."""
        return self.template if self.methods is None or scope["method"] in self.methods else None


class RouteTree:
    """All places of one root router, grown at first need and again when its routes have changed."""

    __slots__ = ("_by_endpoint", "_by_route", "_grown_from", "_places", "router", "size", "sole")

    def __init__(self, router: Any) -> None:
        self.router = router
        self.size = -1
        self.sole: dict[int, Place] = {}
        """The leaf of each route that lies at one place only, by the route's id."""
        self._grow()

    def stands(self, place: Place) -> bool:
        """Whether the root's routes still are those that `place` was found in. Cheap: no walk."""
        routes = self.router.routes
        return len(routes) == self.size and routes[place.position] is place.top

    def locate(self, scope: Mapping[str, Any], path: str) -> Place | None:
        """The place of the innermost route or endpoint left in `scope`; None if unknown or ambiguous."""
        place = self._candidate(scope, path)
        if (place is None or not self.stands(place)) and self._changed():
            self._grow()
            place = self._candidate(scope, path)
        return place

    def match(self, scope: Mapping[str, Any], path: str) -> tuple[Place | None, str]:
        """The place that `path` leads to, and the rest of the path there, by the tree's own patterns.

        Like the framework it takes the first that matches and does not turn back. Costs time by the
        number of routes: for requests whose scope tells nothing.
        """
        if self._changed():
            self._grow()
        places: list[Place] = self._places
        while True:
            for place in places:
                if place.leaf:
                    if place.fits(scope, path) and place.told(scope) is not None:
                        return place, ""
                elif place.host is None or place.host.match(_host(scope)):
                    rest = place.below(path)
                    if rest is not None:
                        break
            else:
                return None, path
            path = rest
            if place.children is None:
                return place, path
            places = place.children

    def frontend(self, scope: Mapping[str, Any], path: str) -> str | None:
        """The template of a request that FastAPI answered from the files of a front end.

        FastAPI tells which part of the path named the file; what is left of it was declared, word for
        word.
        """
        file = frontend_file(scope)
        if file is None or scope.get("method") not in ("GET", "HEAD"):
            return None
        prefix = ""
        for place in self._by_endpoint.get(id(scope.get("endpoint")), ()):
            rest = place.rest(path)
            if rest is not None:
                prefix, path = place.template, rest
                break
        return prefix + path[: len(path) - len(file)].rstrip("/") + "/{path}" if path.endswith(file) else None

    def _candidate(self, scope: Mapping[str, Any], path: str) -> Place | None:
        # A route names its place, or one of those that its router is mounted at: the first that the path
        # leads to. But a mount may only have been left there by an inner router that names no routes.
        endpoint = scope.get("endpoint")
        for place in self._by_route.get(id(scope.get("route")), ()):
            if (place.leaf or place.endpoint is endpoint) and place.holds(scope, path):
                return place
        # An endpoint always is the innermost, but one function may serve several routes.
        found = [place for place in self._by_endpoint.get(id(endpoint), ()) if place.holds(scope, path)]
        return found[0] if len(found) == 1 else None

    def _changed(self) -> bool:
        return any(not _same(owner.routes, routes) for owner, routes in self._grown_from)

    def _grow(self) -> None:
        growth = _Growth()
        self._places = growth.root(self.router)
        self._grown_from = growth.grown_from
        by_route: dict[int, list[Place]] = {}
        by_endpoint: dict[int, list[Place]] = {}
        for place in growth.places:
            by_route.setdefault(id(place.route), []).append(place)
            if place.endpoint is not None:
                by_endpoint.setdefault(id(place.endpoint), []).append(place)
        self._by_route, self._by_endpoint = by_route, by_endpoint
        self.sole = {key: found[0] for key, found in by_route.items() if len(found) == 1 and found[0].leaf}
        self.size = len(self.router.routes)


class _Growth:
    """One walk over the routes of a root router."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.grown_from: list[tuple[Any, tuple[Any, ...]]] = []

    def root(self, router: Any) -> list[Place]:
        found: list[Place] = []
        for position, top in enumerate(self._routes(router)):
            found += self._grow([top], Place(None, None, "", (), top, position))
        return found

    def _routes(self, owner: Any) -> tuple[Any, ...]:
        """The owner's routes, remembered with those of the routers that FastAPI includes by reference."""
        routes = tuple(owner.routes)
        self.grown_from.append((owner, routes))
        for route in routes:
            included = getattr(route, "original_router", None)
            if is_router(included) and len(self.grown_from) < _MOST_PLACES:
                self._routes(included)
        return routes

    def _grow(self, routes: Iterable[Any], parent: Place) -> list[Place]:
        found = []
        for route, effective in _expanded(routes):
            if len(self.places) >= _MOST_PLACES:
                break
            try:
                place = self._place(route, effective, parent)
            except Exception as error:  # noqa: BLE001 - a route of the app's own making; the others count
                survived("routes", error)
                continue
            if place is not None:
                found.append(place)
        return found

    def _place(self, route: Any, effective: Any, parent: Place) -> Place | None:
        path = getattr(effective, "path", "")
        above = parent.above if parent.route is None else (*parent.above, parent)
        place = Place(route, None, parent.template + path, above, parent.top, parent.position)
        place.pattern = getattr(effective, "path_regex", None)
        place.host = getattr(effective, "host_regex", None)
        endpoint = getattr(effective, "endpoint", None)
        app = getattr(effective, "app", None)
        has_rest = place.host is not None or (
            place.pattern is not None and "path" in place.pattern.groupindex
        )
        if endpoint is None and app is not None and has_rest:
            place.endpoint = app
            self._mount(place, effective, app)
        elif path or place.pattern is not None:
            place.endpoint = endpoint
            place.methods = _methods(effective, endpoint)
            if endpoint is not None:
                place.kind = "http" if hasattr(route, "methods") else "websocket"
        else:
            return None  # nothing to tell it by
        self.places.append(place)
        return place

    def _mount(self, place: Place, effective: Any, app: Any) -> None:
        wrapped = (inner for _, inner in layers(app) if is_router(inner))
        owner = effective if effective.routes else next(wrapped, None)
        if owner is None:
            place.opaque = True
        elif len(place.above) < _DEEPEST:
            place.children = self._grow(self._routes(owner), place)
        else:
            place.children = []


def path_in_app(scope: Mapping[str, Any], root_path: str = "") -> str:
    """The request's path as the root router sees it: without what the server mounted the app at.

    Mounts lengthen ``root_path`` on the way; the first of them keeps what it was. `root_path` is the
    app's own idea of it, for scopes in which the app could not say so.
    """
    path: str = scope["path"]
    root: str = scope["app_root_path"] if "app_root_path" in scope else scope.get("root_path") or root_path
    root = root.removesuffix("/")
    return path[len(root) :] if path == root or path.startswith(root + "/") else path


def frontend_file(scope: Mapping[str, Any]) -> str | None:
    """The part of the path that names a file of a front end, if FastAPI answered with one."""
    fastapi = scope.get("fastapi")
    file = fastapi.get("frontend_path") if isinstance(fastapi, dict) else None
    return file if isinstance(file, str) else None


def _expanded(routes: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Each route as it will stand in the scope, and what tells its path and pattern.

    FastAPI from 0.137 includes routers by reference: a route of the included router stays as it was, a
    context beside it tells its full path. (Before, it was copied with its full path.)
    """
    for route in routes:
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is None:
            yield route, route
            continue
        for context in contexts():
            copied = context.starlette_route
            yield (context.original_route, context) if copied is None else (copied, copied)


def _methods(route: Any, endpoint: Any) -> frozenset[str] | None:
    methods = getattr(route, "methods", None)
    if methods:
        return frozenset(methods)
    if inspect.isclass(endpoint) and hasattr(endpoint, "method_not_allowed"):  # Starlette's HTTPEndpoint
        found = {verb for verb in _VERBS if hasattr(endpoint, verb.lower())}
        return frozenset(found | {"HEAD"} if "GET" in found else found)
    return None


def _host(scope: Mapping[str, Any]) -> str:
    for name, value in scope.get("headers", ()):
        if name == b"host":
            host: str = value.decode("latin-1").lower()
            return host if host.endswith("]") else host.rsplit(":", 1)[0]
    return ""


def _same(routes: Any, remembered: tuple[Any, ...]) -> bool:
    return len(routes) == len(remembered) and all(map(is_, routes, remembered))
