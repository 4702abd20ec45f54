"""Laws that hold for any tree of routes, whatever is asked: against Starlette's own matching as the judge."""

from __future__ import annotations

import asyncio
import timeit
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Match, Mount, Route, Router

from restaurant_otel.routes import AsgiRoutes
from tests.support.asgi import asgi_request, http_scope


async def page(request):
    return PlainTextResponse("")


async def other(request):
    return PlainTextResponse("")


words = st.sampled_from(["a", "b", "a-b", "menü", "a.b"])
hostile = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@st.composite
def declared_paths(draw, depth):
    """A path of up to three segments; parameters carry the depth, as Starlette wants them distinct."""
    segments = draw(st.lists(st.one_of(words, st.sampled_from(["{%s}", "{%s:int}"])), min_size=1, max_size=3))
    return "".join("/" + (s % f"p{depth}_{i}" if "%" in s else s) for i, s in enumerate(segments))


@st.composite
def trees(draw, depth=0, shared=None):
    """Routes, mounts of routers, and mounts of routers that are mounted elsewhere too."""
    shared = [] if shared is None else shared
    routes = []
    for _ in range(draw(st.integers(1, 4))):
        path = draw(declared_paths(depth))
        kind = draw(st.sampled_from(["route", "route", "mount", "again"])) if depth < 3 else "route"
        if kind == "again" and shared:
            routes.append(Mount(draw(words.map("/again-{}".format)), draw(st.sampled_from(shared))))
        elif kind == "mount":
            router = Router(routes=draw(trees(depth + 1, shared)))
            shared.append(router)
            routes.append(Mount(draw(st.sampled_from([path, ""])), router))
        else:
            methods = draw(st.sampled_from([["GET"], ["POST"], None]))
            routes.append(Route(path, draw(st.sampled_from([page, other])), methods=methods))
    return routes


def templates(routes, prefix=""):
    """The declared templates of all leaves."""
    for route in routes:
        if isinstance(route, Mount):
            yield from templates(route.routes, prefix + route.path)
        else:
            yield prefix + route.path


def judged(routes, scope, prefix=""):
    """The template by Starlette's own matching: the first in full, without turning back."""
    for route in routes:
        match, child = route.matches(scope)
        if match is Match.FULL and isinstance(route, Mount):
            return judged(route.routes, {**scope, **child}, prefix + route.path)
        if match is Match.FULL:
            return prefix + route.path
    return None


def asked_paths(declared):
    """Paths that fit a declared template, nearly fit one, or are anything at all."""

    def filled(template):
        parts = [part for part in template.split("/") if part]
        values = [
            st.integers(0, 99).map(str)
            if ":int" in part
            else st.one_of(words, hostile)
            if "{" in part
            else st.just(part)
            for part in parts
        ]
        return st.tuples(*values).map(lambda found: "/" + "/".join(found))

    fitting = st.sampled_from(declared).flatmap(filled)
    return st.one_of(
        fitting, fitting, fitting.map(lambda path: path + "/"), hostile.map(lambda text: "/" + text)
    )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_template_is_the_concatenation_of_what_was_declared(data):
    tree = data.draw(trees())
    declared = list(templates(tree))
    app = Starlette(routes=tree)
    routes = AsgiRoutes(app)
    told = set()
    for path in data.draw(st.lists(asked_paths(declared), min_size=1, max_size=8)):
        method = data.draw(st.sampled_from(["GET", "GET", "POST", "BREW"]))
        expected = judged(tree, http_scope(method, path))
        scope = asyncio.run(asgi_request(app, method, path)).scope
        told.add(routes.template(scope))
        assert routes.template(scope) == expected

        # A version that does not name the route, and a scope that was copied on the way, change nothing.
        routeless = {key: value for key, value in scope.items() if key != "route"}
        assert routes.template(routeless) == expected
        assert routes.template(http_scope(method, path)) == expected
    assert told <= {*declared, None}


def many_routes(count):
    def endpoint():
        async def one_more(request):
            return PlainTextResponse("")

        return one_more

    return Starlette(routes=[Route(f"/r{number}/{{x}}", endpoint()) for number in range(count)])


@pytest.mark.parametrize("without", ["nothing", "route"])
def test_the_cost_does_not_grow_with_the_number_of_routes(without):
    """A look-up takes as long among 3,000 routes as among 3; going through them would take 1,000 times it."""
    best = []
    for count in (3, 3_000):
        app = many_routes(count)
        routes = AsgiRoutes(app)
        scope = asyncio.run(asgi_request(app, "GET", f"/r{count - 1}/1")).scope
        scope.pop(without, None)
        assert routes.template(scope) == f"/r{count - 1}/{{x}}"
        best.append(min(timeit.repeat(lambda r=routes, s=scope: r.template(s), number=500, repeat=5)))
    assert best[1] < best[0] * 10


def test_the_memory_does_not_grow_with_what_is_asked():
    app = many_routes(10)
    routes = AsgiRoutes(app)
    scope = asyncio.run(asgi_request(app, "GET", "/r1/1")).scope

    def ask_much():
        for number in range(2_000):
            routes.template({**scope, "path": f"/r1/{number}"})
            routes.template(http_scope("GET", f"/r1/{number}"))
            routes.template(http_scope("GET", f"/nowhere/{number}"))
            routes.template({**scope, "path": f"/x/{number}", "route": object(), "endpoint": object()})

    ask_much()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        ask_much()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 50_000
