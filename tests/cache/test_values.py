"""Values come back as they were, or are refused; bytes from a shared store are read, or are a miss, and never run."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import math
import pickle
import zlib
from pathlib import Path
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restaurant_otel.cache import Cache
from restaurant_otel.caching import codecs
from restaurant_otel.caching.codecs import Packer, Unreadable
from restaurant_otel.caching.entry import Entry, unpack
from tests.cache.redises import RedisServer

SECRET = "0123456789abcdef"
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
ANYTHING = st.recursive(
    SCALARS | st.binary() | st.floats() | st.dates() | st.tuples(st.integers()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
        | st.sets(st.integers(), max_size=3)
    ),
    max_leaves=10,
)


@pytest.fixture(params=["as installed", "standard library only"])
def json_codec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> codecs.Json:
    if request.param == "standard library only":
        monkeypatch.setattr(codecs, "_optional", lambda module: None)
    return codecs.Json()


def lists(value: Any) -> Any:
    """`value` with lists for tuples."""
    if isinstance(value, (list, tuple)):
        return [lists(item) for item in value]
    if isinstance(value, dict):
        return {key: lists(item) for key, item in value.items()}
    return value


def through(packer: Packer, value: Any, declared: Any = None) -> Any:
    return packer.unpack(*packer.pack(value, "k", declared), "k", declared)


@given(value=JSON)
def test_json_values_come_back(value: Any) -> None:
    for codec in (codecs.Json(), plain_json()):
        assert codec.loads(codec.dumps(value, "k"), "k") == value


def plain_json() -> codecs.Json:
    """The codec without orjson, whether it is installed or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codecs, "_optional", lambda module: None)
        return codecs.Json()


@given(value=ANYTHING)
def test_whatever_is_not_refused_comes_back(value: Any) -> None:
    for codec in (codecs.Json(), plain_json()):
        try:
            data = codec.dumps(value, "k")
        except (TypeError, ValueError):
            continue
        assert codec.loads(data, "k") == lists(value)


@given(value=ANYTHING)
def test_a_packer_gives_back_what_it_took(value: Any) -> None:
    packer = Packer(compress_over=20)
    try:
        packed = packer.pack(value, "k")
    except (TypeError, ValueError):
        return
    assert packer.unpack(*packed, "k") == lists(value)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, {1: 2}, {"a": {2: 1}}, {1}, dt.date(2026, 1, 1), object(), "\ud800"]
)
def test_what_json_would_change_is_refused(json_codec: codecs.Json, value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        json_codec.dumps(value, "k")


def test_msgpack_keeps_bytes_inside_of_values_and_integer_keys() -> None:
    pytest.importorskip("msgpack")
    packer = Packer("msgpack")
    value = {"raw": b"\x00\xff", 1: [1.5, None, "x"]}
    assert through(packer, value) == value
    with pytest.raises(TypeError):
        packer.pack(dt.date(2026, 1, 1), "k")


def test_a_codec_that_is_not_installed_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "_optional", lambda module: None)
    with pytest.raises(ImportError, match="pip install msgpack"):
        Packer("msgpack")
    codecs.typed.cache_clear()
    with pytest.raises(ImportError, match="pip install msgspec"):
        codecs.typed(Dish)
    codecs.typed.cache_clear()


# --- declared types ------------------------------------------------------------------------------------


@dataclasses.dataclass
class Dish:
    name: str
    since: dt.date
    price: float = 1.0


class Branch(pydantic.BaseModel):
    city: str
    opened: dt.datetime


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (Dish, Dish("Noodles", dt.date(2026, 1, 2))),
        (list[Dish], [Dish("Noodles", dt.date(2026, 1, 2), 2.5)]),
        (Dish | None, None),
        (dict[str, Dish], {"a": Dish("Rice", dt.date(2025, 1, 2))}),
        (Branch, Branch(city="Seoul", opened=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))),
        (tuple[int, str], (1, "a")),
        (dt.date, dt.date(2026, 1, 2)),
    ],
)
def test_a_declared_type_comes_back_as_itself(declared: Any, value: Any) -> None:
    back = through(Packer(), value, declared)
    assert back == value
    assert type(back) is type(value)


def test_a_msgspec_struct_comes_back_as_itself() -> None:
    msgspec = pytest.importorskip("msgspec")
    struct = msgspec.defstruct("Row", [("a", int), ("b", dt.date)])
    value = struct(a=1, b=dt.date(2026, 1, 2))
    assert through(Packer(), value, struct) == value


def test_a_type_whose_fields_have_changed_does_not_read_the_old_ones() -> None:
    old = dataclasses.make_dataclass("Model", [("a", int)])
    new = dataclasses.make_dataclass("Model", [("a", int), ("b", int, 0)])
    packer = Packer()
    packed = packer.pack(old(1), "k", old)
    with pytest.raises(Unreadable, match="another type"):
        packer.unpack(*packed, "k", new)


@pytest.mark.parametrize(
    "declared", [None, dict, list, str, Any, dict[str, Any], list[dict[str, int]], int | None]
)
def test_types_that_json_gives_back_cost_nothing_extra(declared: Any) -> None:
    assert codecs.typed(declared) is None


def test_the_decorator_reads_the_type_from_the_annotation(shared_redis: RedisServer, namespace: str) -> None:
    with Cache(shared_redis.url, namespace=namespace) as cache:

        @cache.cached("dish:{number}")
        def dish(number: int) -> Dish:
            return Dish(f"No {number}", dt.date(2026, 1, 2))

        assert dish(1) == dish(1) == Dish("No 1", dt.date(2026, 1, 2))
        assert cache.stats().remote_hits == 1


# --- hostile bytes -------------------------------------------------------------------------------------


class Planted:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def entry_with(letter: str, data: bytes, flags: int = 0) -> bytes:
    entry = Entry(ord(letter), flags, 0, data, seq=2**62, created=4e9, ttl=60, stale=0, load=0, tags=())
    return entry.pack()


def test_planted_bytes_are_counted_misses_and_nothing_runs(
    shared_redis: RedisServer, namespace: str, tmp_path: Path
) -> None:
    bomb = pickle.dumps(Planted(tmp_path / "executed"))
    zeros = zlib.compress(bytes(70_000_000), 9)
    planted = [
        b"",
        b"x",
        bomb,
        b'{"a": 1}',
        entry_with("p", bomb),
        entry_with("p", b"\0" * 32 + bomb),
        entry_with("j", b"{"),
        entry_with("j", b"\xff"),
        entry_with("j", b"[" * 100_000),
        entry_with("?", b"1"),
        entry_with("j", b"1", flags=64),
        entry_with("j", b"not zlib", flags=1),
        entry_with("j", zeros, flags=1),
        entry_with("j", b"1")[:30],
        entry_with("j", b"1")[:-2] + b"\xff\xff1",
    ]
    for options in ({}, {"codec": "pickle", "secret": SECRET}):
        with (
            Cache(shared_redis.url, namespace=namespace, **options) as cache,
            shared_redis.client() as client,
        ):
            cache.set("k", 1)
            for raw in planted:
                client.set(f"{namespace}:1:{{k}}", raw)
                assert cache.get("k", "miss") == "miss", raw[:60]
            assert cache.stats().unreadable == len(planted)
            client.delete(f"{namespace}:1:{{k}}")
            client.rpush(f"{namespace}:1:{{k}}", "a list")
            assert cache.get("k", "miss") == "miss"
            assert cache.set("k", 2)
            assert cache.get("k") == 2
            assert cache.stats().errors == 0
    assert not (tmp_path / "executed").exists()


def test_signed_pickle_comes_back_under_its_own_key_only(shared_redis: RedisServer, namespace: str) -> None:
    options: dict[str, Any] = {"namespace": namespace, "codec": "pickle", "secret": SECRET}
    with Cache(shared_redis.url, **options) as cache, shared_redis.client() as client:
        cache.set("a", {1, 2})
        assert cache.get("a") == {1, 2}
        client.copy(f"{namespace}:1:{{a}}", f"{namespace}:1:{{b}}")
        assert cache.get("b", "miss") == "miss"
        with Cache(shared_redis.url, **{**options, "secret": "another secret of 16+"}) as stranger:
            assert stranger.get("a", "miss") == "miss"
    with Cache(shared_redis.url, namespace=namespace) as plain:
        assert plain.get("a", "miss") == "miss"


def test_pickle_without_a_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="secret"):
        Packer("pickle")
    with pytest.raises(ValueError, match="16 bytes"):
        Packer("pickle", "short")
    with pytest.raises(ValueError, match="codec is"):
        Packer("yaml")


@given(st.binary(max_size=80))
def test_no_bytes_make_the_envelope_raise(raw: bytes) -> None:
    for data in (raw, b"\xc5\x01" + raw):
        entry = unpack(data, 0.0, 0.0)
        if entry is not None:
            with contextlib.suppress(Unreadable):
                Packer().unpack(entry.letter, entry.flags, entry.shape, entry.data, "k")


@given(
    data=st.binary(),
    seq=st.integers(0, 2**63),
    ttl=st.floats(0.001, 2_000_000),
    tags=st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), max_size=4
    ),
)
def test_an_entry_comes_back_from_its_bytes(data: bytes, seq: int, ttl: float, tags: list[str]) -> None:
    entry = Entry(
        ord("b"), 0, 7, data, seq=seq, created=1000.5, ttl=ttl, stale=2.0, load=0.25, tags=tuple(tags)
    )
    back = unpack(entry.pack(), 50.0, 1001.5)
    assert back is not None
    assert (back.data, back.seq, back.tags, back.shape, back.load) == (data, seq, tuple(tags), 7, 0.25)
    assert back.fresh_until == pytest.approx(49.0 + ttl, abs=0.01)
    assert back.dead_at == pytest.approx(51.0 + ttl, abs=0.01)
