"""The route template of a request, read from what the app's framework found out itself.

The middleware asks here what to write into ``http.route``: ``/users/{id}`` in the words in which the
route was declared, with the prefixes of the mounts, included routers, blueprints and URL confs it lies
in. The answer is always one that stands in the app's code, never text of the client; a request that
matched nothing (404, 405, a slash redirect, an app that tells nothing) has none. Not for matching
requests before the app has seen them.

`AsgiRoutes` and `WsgiRoutes` are made once an app and asked once a request or more, from any thread; one
file a framework does the work: `starlette` (and FastAPI), `flask`, `django`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from restaurant_otel.errors import survived
from restaurant_otel.routes import django, flask
from restaurant_otel.routes.apps import is_router, layers, noted
from restaurant_otel.routes.starlette import Place, RouteTree, frontend_file, path_in_app

__all__ = ["AsgiRoutes", "WsgiRoutes", "path_in_app", "prepare", "restore"]

_UNSOUGHT: Final = object()
_MOST_RULES: Final = 20_000
_MOST_TREES: Final = 64  # an app has one router at its root; one that makes routers as it runs stays bounded


def prepare(app: Any) -> None:
    """Connect to the Flask apps and Django handlers inside `app`, where they need it to tell their route.

    Idempotent, undone by `restore`. `AsgiRoutes` and `WsgiRoutes` call it for the app they are given;
    call it again for a Django handler or Flask app that is out of sight (held by a closure, say).
    """
    _each(app, django.connect, flask.connect)


def restore(app: Any) -> None:
    """Undo `prepare`."""
    _each(app, django.disconnect, flask.disconnect)


class AsgiRoutes:
    """The templates of one ASGI app's requests: Starlette, FastAPI, Django, or none."""

    __slots__ = ("_app", "_root", "_trees")

    def __init__(self, app: Any) -> None:
        self._app = app
        self._root: Any = _UNSOUGHT
        self._trees: dict[int, RouteTree] = {}
        prepare(app)

    def template(self, scope: Mapping[str, Any]) -> str | None:
        """The template of the request whose `scope` has been through the app; None when none matched.

        May be asked earlier, in the middle of the request: the answer is then what is known so far.
        Any thread; never raises.
        """
        # Every request comes by here: 0.3 us. One look-up by the identity of the route the framework found (a
        # tree holds its routes, so that ids are not reused), and a check that the root's routes still are
        # those the tree was grown from. Without a route, as in Starlette before 1.7, the search takes 2 us.
        try:
            tree = self._trees.get(id(scope.get("router")))
            if tree is not None:
                place = tree.sole.get(id(scope.get("route")))
                if place is not None:
                    routes = tree.router.routes
                    if len(routes) == tree.size and routes[place.position] is place.top:
                        methods = place.methods
                        return place.template if methods is None or scope["method"] in methods else None
            return self._search(scope)
        except Exception as error:  # noqa: BLE001 - our errors end here
            survived("routes", error)
            return None

    def _search(self, scope: Mapping[str, Any]) -> str | None:
        """The long way: the route alone does not tell the place, or the routes have changed."""
        if scope["type"] not in ("http", "websocket"):
            return None
        router = scope.get("router")
        if router is None:
            return self._unrouted(scope)
        tree = self._tree(router)
        if tree is None:
            return None
        path = path_in_app(scope)
        if frontend_file(scope) is not None:
            return tree.frontend(scope, path)
        if scope.get("endpoint") is None and scope.get("route") is None:
            return None  # the router has looked, and found nothing
        place = tree.locate(scope, path)
        if place is None or place.children is not None:
            return self._by_path(tree, scope, path)
        return _beneath(place, scope) if place.opaque else place.told(scope)

    def _by_path(self, tree: RouteTree, scope: Mapping[str, Any], path: str) -> str | None:
        """For scopes that were copied on the way, so that what the router found is out of sight."""
        place, rest = tree.match(scope, path)
        if place is None:
            return None
        if place.leaf:
            return place.told(scope)
        # A Starlette app may be hidden in the opaque one; it has said so.
        inner = self._tree(getattr(scope.get("app"), "router", None))
        found = inner.locate(scope, rest) if inner is not None else None
        if found is not None and found.leaf:
            return place.template + found.template
        return _beneath(place, scope)

    def _unrouted(self, scope: Mapping[str, Any]) -> str | None:
        """No Starlette router in sight: Django, a bare app, or a middleware that answered or copied."""
        resolved = noted(scope)
        if resolved is not None:
            return resolved.template
        if self._root is _UNSOUGHT:
            self._root = next((layer for _, layer in layers(self._app) if is_router(layer)), None)
        tree = self._tree(self._root)
        root_path = getattr(self._root, "root_path", "")
        return None if tree is None else self._by_path(tree, scope, path_in_app(scope, root_path))

    def _tree(self, router: Any) -> RouteTree | None:
        tree = self._trees.get(id(router))
        if tree is None and is_router(router):
            if len(self._trees) >= _MOST_TREES:
                self._trees.clear()
            tree = self._trees[id(router)] = RouteTree(router)
        return tree


class WsgiRoutes:
    """The templates of one WSGI app's requests: Flask, Django, either of them mounted, or none."""

    __slots__ = ("_prefixes", "_rules")

    def __init__(self, app: Any) -> None:
        prepare(app)
        self._prefixes: dict[int, tuple[Any, list[str]]] = {}
        self._rules: dict[int, tuple[Any, str]] = {}
        """Flask's rules of apps that lie at one place, by id: the rule itself, held so that ids are not reused."""
        for prefix, layer in _layers(app):
            owner = layer if django.is_handler(layer) else flask.url_map(layer)
            if owner is not None:
                self._prefixes.setdefault(id(owner), (owner, []))[1].append(prefix)

    def template(self, environ: Mapping[str, Any]) -> str | None:
        """The template of the request that `environ` belongs to; None when none matched.

        To be asked when the app calls ``start_response``, while Flask still tells; and at the end of a
        request that raised or never called it. Any thread; never raises.
        """
        try:
            resolved = noted(environ)
            if resolved is None:
                rule = flask.matched(environ)
                known = self._rules.get(id(rule))
                if known is not None:
                    return known[1]
                resolved = flask.resolved(environ)
                if resolved is None:
                    return None
                if self._lies_at_one_place(resolved.owner) and len(self._rules) < _MOST_RULES:
                    self._rules[id(rule)] = rule, self._prefix(resolved.owner, environ) + resolved.template
            return self._prefix(resolved.owner, environ) + resolved.template
        except Exception as error:  # noqa: BLE001 - our errors end here
            survived("routes", error)
            return None

    def _lies_at_one_place(self, owner: Any) -> bool:
        return len(self._prefixes.get(id(owner), (None, [""]))[1]) == 1

    def _prefix(self, owner: Any, environ: Mapping[str, Any]) -> str:
        """Where the app is mounted, by the dispatcher's own table.

        ``SCRIPT_NAME`` only chooses among several places: text in it can come from the client, by
        ``X-Forwarded-Prefix``.
        """
        _, prefixes = self._prefixes.get(id(owner), (None, [""]))
        if len(prefixes) == 1:
            return prefixes[0]
        script_name = environ.get("SCRIPT_NAME", "")
        return max((prefix for prefix in prefixes if script_name.endswith(prefix)), key=len, default="")


def _beneath(place: Place, scope: Mapping[str, Any]) -> str:
    """The template of an opaque app's request: its own where it is Django, else only where it begins."""
    resolved = noted(scope)
    return place.template + (resolved.template if resolved is not None else "/{path}")


def _each(app: Any, *actions: Callable[[Any], None]) -> None:
    for _, layer in _layers(app):
        for action in actions:
            try:
                action(layer)
            except Exception as error:  # noqa: BLE001 - our errors end here
                survived("routes", error)


def _layers(app: Any) -> list[tuple[str, Any]]:
    try:
        return list(layers(app))
    except Exception as error:  # noqa: BLE001 - our errors end here
        survived("routes", error)
        return []
