"""What every cache does, whatever it stands on: memory, Redis, two tiers, a cluster; for threads and for loops."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.wait import eventually

VALUE = {"id": 7, "name": "Noodles", "price": 12.5, "tags": ["hot", "new"], "note": None}


def test_what_was_set_is_got(cache: Any) -> None:
    assert cache.set("menu:7", VALUE) is True
    assert cache.get("menu:7") == VALUE


def test_what_was_never_set_is_the_default(cache: Any) -> None:
    assert cache.get("nothing") is None
    assert cache.get("nothing", "else") == "else"


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}, b"", 0.0])
def test_values_that_are_false_are_values(cache: Any, value: Any) -> None:
    cache.set("k", value)
    assert cache.get("k", "default") == value
    assert cache.exists("k")
    assert cache.get_or_set("k", lambda: "made") == value


def test_bytes_come_back_as_they_are(cache: Any) -> None:
    every = bytes(range(256)) * 200
    cache.set("b", every)
    assert cache.get("b") == every


def test_a_deleted_value_is_gone(cache: Any) -> None:
    cache.set("k", 1)
    assert cache.delete("k") is True
    assert cache.delete("k") is False
    assert cache.get("k") is None
    assert not cache.exists("k")


def test_a_value_ends_with_its_time(cache: Any) -> None:
    began = time.monotonic()
    cache.set("short", 1, 0.3)
    cache.set("long", 2, 60)
    seen = cache.get("short")
    assert seen == 1 or time.monotonic() - began > 0.3
    eventually(lambda: cache.get("short") is None, within=10, every=0.02)
    assert time.monotonic() - began > 0.25
    assert cache.get("long") == 2


def test_touch_gives_a_value_more_time(cache: Any) -> None:
    def touched_in_time() -> bool:
        cache.set("k", 1, 0.3)
        return bool(cache.touch("k", 60))

    eventually(touched_in_time)
    assert cache.touch("nothing", 60) is False
    time.sleep(0.35)
    assert cache.get("k") == 1


def test_many_at_once(cache: Any) -> None:
    assert cache.set_many({f"m:{n}": n for n in range(20)})
    assert cache.get_many([f"m:{n}" for n in range(15, 25)]) == {f"m:{n}": n for n in range(15, 20)}
    assert cache.delete_many([f"m:{n}" for n in range(18, 30)]) == 2
    assert cache.get_many(["m:17", "m:18"]) == {"m:17": 17}
    assert cache.get_many([]) == {}


def test_counting(cache: Any) -> None:
    assert [cache.incr("n"), cache.incr("n", 5), cache.incr("n", -2)] == [1, 6, 4]
    assert cache.get("n") == 4
    cache.set("n", 40)
    assert cache.incr("n", 2) == 42
    cache.set("text", "x")
    with pytest.raises(ValueError, match="not an integer"):
        cache.incr("text")
    cache.clear()
    assert cache.incr("n") == 1


def test_a_count_keeps_the_time_it_began_with(cache: Any) -> None:
    cache.incr("n", ttl=0.4)
    cache.incr("n", ttl=60)
    eventually(lambda: cache.get("n") is None, within=10, every=0.05)


def test_a_tag_deletes_what_bears_it_and_nothing_else(cache: Any) -> None:
    cache.set("a", 1, tags=("menu", "branch:1"))
    cache.set("b", 2, tags=("menu", "branch:2"))
    cache.set("c", 3)
    cache.delete_tag("branch:1")
    assert cache.get_many(["a", "b", "c"]) == {"b": 2, "c": 3}
    cache.set("a", 4, tags=("menu", "branch:1"))
    assert cache.get("a") == 4
    cache.delete_tag("menu")
    assert cache.get_many(["a", "b", "c"]) == {"c": 3}


def test_a_pattern_deletes_what_matches_and_nothing_else(cache: Any) -> None:
    names = ["menu:1", "menu:2", "menu:10:x", "menus:1", "user:1"]
    cache.set_many(dict.fromkeys(names, 1))
    cache.delete_pattern("menu:*")
    assert set(cache.get_many(names)) == {"menus:1", "user:1"}
    cache.set("menu:1", 2)
    assert cache.get("menu:1") == 2
    cache.set_many(dict.fromkeys(names, 1))
    cache.delete_pattern("menu:?")
    assert set(cache.get_many(names)) == {"menu:10:x", "menus:1", "user:1"}
    cache.delete_pattern("*1")
    assert set(cache.get_many(names)) == {"menu:10:x"}


def test_more_patterns_than_there_are_marks_for(cache: Any) -> None:
    names = [f"user:{n}:page" for n in range(40)]
    cache.set_many(dict.fromkeys(names, 1))
    for n in range(39):
        cache.delete_pattern(f"user:{n}:*")
    assert set(cache.get_many(names)) == {"user:39:page"}
    cache.set("user:3:page", 5)
    cache.set("user:38:page", 6)
    assert set(cache.get_many(names)) == {"user:3:page", "user:38:page", "user:39:page"}


def test_clear_deletes_everything_and_new_values_live(cache: Any) -> None:
    cache.set("a", 1, tags=("t",))
    cache.set("b", 2)
    cache.clear()
    assert cache.get_many(["a", "b"]) == {}
    cache.set("a", 3)
    assert cache.get("a") == 3
    cache.clear(reclaim=True)
    assert cache.get("a") is None


def test_long_and_odd_keys(cache: Any) -> None:
    odd = ["x" * 500, "x" * 501, "with space", "{a}b", "{}", "}{", "a%7Bb", "日本", "a*b?[c]", "~", "%"]
    for index, key in enumerate(odd):
        cache.set(key, index)
    assert [cache.get(key) for key in odd] == list(range(len(odd)))
    cache.delete_pattern("{a}*")
    assert cache.get("{a}b") is None
    assert cache.get("{}") == 4


@pytest.mark.parametrize("key", ["", "a\nb", "a\0b"])
def test_what_is_no_key_is_refused(cache: Any, key: str) -> None:
    for use in (cache.get, cache.delete, cache.exists, lambda k: cache.set(k, 1)):
        with pytest.raises(ValueError, match="key"):
            use(key)
    with pytest.raises(TypeError):
        cache.get(7)


def test_a_value_that_would_not_come_back_is_refused(cache: Any) -> None:
    for value in (object(), {1: 2}, {1, 2}, float("nan")):
        with pytest.raises((TypeError, ValueError)):
            cache.set("k", value)
    with pytest.raises(ValueError, match="lives from"):
        cache.set("k", 1, 0)


def test_a_large_value_is_compressed_and_comes_back(cache: Any) -> None:
    value = {"rows": [VALUE] * 2000}
    cache.set("large", value)
    assert cache.get("large") == value


def test_get_or_set_makes_a_value_once(cache: Any) -> None:
    calls: list[int] = []

    def factory() -> Any:
        calls.append(1)
        return VALUE

    assert cache.get_or_set("k", factory) == VALUE
    assert cache.get_or_set("k", factory) == VALUE
    assert len(calls) == 1


def test_an_error_of_the_factory_is_the_callers_and_nothing_is_kept(cache: Any) -> None:
    def broken() -> Any:
        raise LookupError("no such branch")

    with pytest.raises(LookupError, match="no such branch"):
        cache.get_or_set("k", broken)
    assert cache.get_or_set("k", lambda: 1) == 1


def test_a_made_value_that_cannot_be_kept_is_returned_all_the_same(cache: Any) -> None:
    made = object()
    assert cache.get_or_set("k", lambda: made) is made
    assert cache.get("k") is None
    assert cache.stats().errors == 1


def test_a_factory_may_ask_the_cache_for_its_own_key(cache: Any) -> None:
    assert cache.get_or_set("k", lambda: 5) == 5


def test_the_decorator_caches_by_its_template(cache: Any) -> None:
    calls: list[Any] = []

    @cache.cached("menu:{branch_id}:{lang}", ttl=60, tags=("menu", "branch:{branch_id}"))
    def localised(branch_id: int, lang: str = "en") -> Any:
        calls.append((branch_id, lang))
        return {"branch": branch_id, "lang": lang}

    assert localised.key(1) == "menu:1:en"
    assert (
        localised(1) == localised(1, "en") == localised(branch_id=1, lang="en") == {"branch": 1, "lang": "en"}
    )
    assert len(calls) == 1
    assert localised(2, "fr")["lang"] == "fr"
    assert cache.get("menu:2:fr") == {"branch": 2, "lang": "fr"}
    assert localised.invalidate(1) is True
    localised(1)
    assert calls == [(1, "en"), (2, "fr"), (1, "en")]
    cache.delete_tag("branch:2")
    localised(2, "fr")
    assert localised.refresh(1) == {"branch": 1, "lang": "en"}
    assert calls[3:] == [(2, "fr"), (1, "en")]


def test_a_lock_is_held_by_one(cache: Any) -> None:
    with cache.lock("report"):
        with pytest.raises(TimeoutError, match="report"), cache.lock("report", wait=0.05):
            pass
        with cache.lock("another", wait=0):
            pass
    with cache.lock("report", wait=0):
        pass


def test_every_lookup_is_counted_once(cache: Any) -> None:
    cache.set("k", 1, group="menu")
    cache.get("k", group="menu")
    cache.get("nothing", group="menu")
    cache.get_many(["k", "nothing"], group="menu")
    cache.get_or_set("made", lambda: 1, group="menu")
    cache.get_or_set("made", lambda: 1, group="menu")
    cache.delete("k", group="menu")
    stats = cache.stats().groups["menu"]
    assert (stats.hits, stats.misses, stats.sets, stats.deletes) == (3, 3, 2, 1)
    assert stats.hit_ratio == 0.5
