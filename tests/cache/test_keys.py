"""Keys: the same for equal arguments, different for different ones, never made from what is no identity."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import fnmatch
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restaurant_otel.cache import AsyncCache, Cache
from restaurant_otel.caching.keys import Keyspace, Template, argument, checked, matcher
from tests.cache.redises import RedisServer

ARGUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def two(a: Any, b: Any) -> None:
    """A function of two arguments."""


@given(ARGUMENTS, ARGUMENTS, ARGUMENTS, ARGUMENTS)
def test_different_arguments_make_different_keys(a: Any, b: Any, c: Any, d: Any) -> None:
    names = Template(None, two)
    same = repr((a, b)) == repr((c, d)) or (sort(a), sort(b)) == (sort(c), sort(d))
    assert (names.name((a, b), {}) == names.name((c, d), {})) == same


def sort(value: Any) -> Any:
    """A form that is equal for dictionaries in any order, and not for True and 1."""
    if isinstance(value, dict):
        return ("dict", sorted((repr(key), repr(sort(item))) for key, item in value.items()))
    if isinstance(value, list):
        return ("list", [sort(item) for item in value])
    return (type(value).__name__, value)


@given(st.text(), st.text(), st.text(), st.text())
def test_no_text_argument_can_pose_as_two(a: str, b: str, c: str, d: str) -> None:
    names = Template("x:{a}:{b}", two)
    assert (names.name((a, b), {}) == names.name((c, d), {})) == ((a, b) == (c, d))


@given(ARGUMENTS)
def test_every_key_made_is_a_key(value: Any) -> None:
    name = Template("x:{a}:{b}", two).name((value, 1), {})
    assert checked(name) == name


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class User:
    def __init__(self, number: int) -> None:
        self.id = number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, "5"),
        ("5", "5"),
        ("a:b", "a%3Ab"),
        (True, "~True"),
        (None, "~None"),
        (1.5, "~1.5"),
        (Colour.RED, "red"),
        (Level.HIGH, "3"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (decimal.Decimal("1.50"), "1.50"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (b"\x01", "~01"),
        ((1, "a"), "~[1,'a']"),
        ({"b": 1, "a": 2}, "~('a'=2,'b'=1)"),
        (frozenset((2, 1)), "~<1,2>"),
    ],
)
def test_arguments_as_text(value: Any, text: str) -> None:
    assert argument(value) == text


def test_an_object_is_refused_unless_something_of_it_is_named() -> None:
    with pytest.raises(TypeError, match="name what identifies it"):
        argument(User(1))

    def orders(user: User) -> None: ...

    with pytest.raises(TypeError, match="name what identifies it"):
        Template("orders:{user}", orders).name((User(1),), {})
    assert Template("orders:{user.id}", orders).name((User(7),), {}) == "orders:7"


def test_an_argument_left_out_of_the_key_must_be_named() -> None:
    def menu(branch: int, lang: str, session: Any) -> None: ...

    with pytest.raises(TypeError, match="'lang' is not part of the key"):
        Template("menu:{branch}", menu)
    with pytest.raises(TypeError, match="'session' is not part of the key"):
        Template("menu:{branch}:{lang}", menu)
    assert Template("menu:{branch}:{lang}", menu, ("session",)).name((1, "en", object()), {}) == "menu:1:en"
    with pytest.raises(TypeError, match="no parameter nothing"):
        Template("menu:{branch}:{lang}", menu, ("nothing",))
    with pytest.raises(TypeError, match="none of its parameters"):
        Template("menu:{other}", menu)


@pytest.mark.parametrize("name", ["self", "session", "request", "db"])
def test_without_a_template_instances_sessions_and_requests_are_refused(name: str) -> None:
    scope: dict[str, Any] = {"__name__": __name__}
    exec(f"def function({name}, a): ...", scope)
    with pytest.raises(TypeError, match=name):
        Template(None, scope["function"])
    Template(None, scope["function"], (name,))


def test_a_method_is_cached_by_what_identifies_its_instance() -> None:
    cache = Cache("memory://")

    class Shop:
        def __init__(self, number: int) -> None:
            self.number = number
            self.calls = 0

        @cache.cached("shop:{self.number}:{page}")
        def page(self, page: int) -> str:
            self.calls += 1
            return f"{self.number}/{page}"

    first, second = Shop(1), Shop(2)
    assert [first.page(1), first.page(1), second.page(1)] == ["1/1", "1/1", "2/1"]
    assert (first.calls, second.calls) == (1, 1)


def test_a_function_for_the_other_face_is_refused() -> None:
    async def coroutine() -> None: ...

    def plain() -> None: ...

    with pytest.raises(TypeError, match="AsyncCache"):
        Cache("memory://").cached("k")(coroutine)
    with pytest.raises(TypeError, match="with Cache"):
        AsyncCache("memory://").cached("k")(plain)  # type: ignore[arg-type]


GLOB = st.text(st.sampled_from("ab*?[]^-c:"), max_size=8)


@given(GLOB, st.text(st.sampled_from("abc:-"), max_size=6))
def test_patterns_without_brackets_match_as_the_shell_does(pattern: str, name: str) -> None:
    if "[" in pattern or "]" in pattern:
        return
    assert bool(matcher(pattern)(name)) == fnmatch.fnmatchcase(name, pattern)


def test_no_pattern_takes_longer_than_its_length_times_the_names() -> None:
    matches = matcher("*a" * 60 + "*b")
    assert not matches("a" * 250)  # trying all places of all stars would take longer than there is time
    assert matches("a" * 250 + "b")
    assert matcher("a*a?*a[^b]*")("aaaaaac")


@pytest.mark.parametrize(
    "pattern",
    [
        "a[bc]d",
        "a[^b]d",
        "a[a-c]d",
        r"a\*d",
        "a?d",
        "*d",
        "a*",
        "[",
        "a[]d",
        "a[^]d",
        "[a-]*",
        "[d-a]*",
        "[a-",
        r"[\\a]*",
        "[[]",
        "x\\",
    ],
)
def test_patterns_match_as_redis_does(shared_redis: RedisServer, namespace: str, pattern: str) -> None:
    names = ["abd", "acd", "aad", "a*d", "add", "abc", "d", "a", "-d", "ad", "["]
    with shared_redis.client() as client:
        for name in names:
            client.set(f"{namespace}{name}", 1, ex=60)
        theirs = {key.decode()[len(namespace) :] for key in client.keys(f"{namespace}{pattern}")}
    assert {name for name in names if matcher(pattern)(name)} == theirs


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40))
def test_a_redis_key_gives_the_name_back(name: str) -> None:
    keys = Keyspace("shop", 1)
    assert keys.name(keys.value(name)) == name
    assert keys.name(keys.lease(name)) is None
    assert keys.name(keys.sequence) is None
    assert keys.name("another:1:{x}") is None


@pytest.mark.parametrize("wrong", ["", "a b", "a:b", "x" * 65, "{a}", "*"])
def test_a_namespace_that_could_reach_into_another_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="namespace"):
        Cache("memory://", namespace=wrong)


def test_namespaces_and_versions_do_not_see_each_other(shared_redis: RedisServer, namespace: str) -> None:
    with (
        Cache(shared_redis.url, namespace=namespace) as one,
        Cache(shared_redis.url, namespace=namespace, version=2) as two_,
        Cache(shared_redis.url, namespace=f"{namespace}x") as three,
    ):
        for number, cache in enumerate((one, two_, three)):
            cache.set("k", number)
        assert [cache.get("k") for cache in (one, two_, three)] == [0, 1, 2]
        one.clear(reclaim=True)
        one.delete_pattern("*")
        assert [cache.get("k") for cache in (one, two_, three)] == [None, 1, 2]


def test_only_keys_of_the_namespace_are_written_and_reclaiming_leaves_none(
    shared_redis: RedisServer, namespace: str
) -> None:
    with shared_redis.client() as client, Cache(shared_redis.url, namespace=namespace) as cache:
        before = set(client.keys("*"))
        cache.set_many({f"k:{n}": n for n in range(2500)})
        cache.set("{odd}", 1, tags=("t",))
        cache.get_or_set("made", lambda: 1)
        written = set(client.keys("*")) - before
        assert all(key.startswith(f"{namespace}:1:".encode()) for key in written)
        cache.clear(reclaim=True)
        left = set(client.keys(f"{namespace}:*"))
        assert all(b"{marks}" in key for key in left)
        assert len(left) <= 3
