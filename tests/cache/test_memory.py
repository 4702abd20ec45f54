"""The memory store: bounded whatever comes, true to its times, and better than LRU at guessing what will be read."""

from __future__ import annotations

import random
import threading
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restaurant_otel.caching.memory import MemoryStore

KEYS = st.sampled_from("abcdefgh")
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.integers(1, 40), st.integers(1, 20)),
        st.tuples(st.just("get"), KEYS, st.just(0), st.just(0)),
        st.tuples(st.just("delete"), KEYS, st.just(0), st.just(0)),
        st.tuples(st.just("discard"), KEYS, st.just(0), st.just(0)),
        st.tuples(st.just("clear"), KEYS, st.just(0), st.just(0)),
        st.tuples(st.just("later"), KEYS, st.integers(1, 10), st.just(0)),
    ),
    max_size=60,
)


@given(ACTIONS, st.integers(1, 5), st.integers(50, 120))
def test_it_keeps_its_bounds_and_never_gives_what_it_should_not(
    actions: list[tuple[str, str, int, int]], entries: int, capacity: int
) -> None:
    evicted: list[int] = []
    store: MemoryStore[int] = MemoryStore(entries, capacity, evicted.append)
    model: dict[str, tuple[int, float]] = {}  # what it may at most hold
    now = 0.0
    for number, (action, key, amount, life) in enumerate(actions):
        if action == "put":
            if store.put(key, number, amount, now + life):
                model[key] = (number, now + life)
            else:
                model.pop(key, None)
        elif action == "get":
            found = store.get(key, now)
            if found is not None:
                assert model[key][0] == found
                assert now < model[key][1]
        elif action == "delete":
            store.delete(key)
            model.pop(key, None)
        elif action == "discard":
            store.discard(lambda name, _, key=key: name >= key)  # type: ignore[misc]
            model = {name: kept for name, kept in model.items() if name < key}
        elif action == "clear":
            store.clear()
            model.clear()
        else:
            now += amount
        assert len(store) <= entries
        assert 0 <= store.bytes <= capacity
        assert (store.bytes == 0) == (len(store) == 0)


@given(st.lists(KEYS, max_size=40))
def test_without_pressure_it_is_a_dictionary(keys: list[str]) -> None:
    store: MemoryStore[int] = MemoryStore(100, 10_000)
    expected = {}
    for number, key in enumerate(keys):
        store.put(key, number, 1, 100.0)
        expected[key] = number
    assert {key: store.get(key, 0.0) for key in expected} == expected


def test_what_was_read_is_spared_when_room_is_made() -> None:
    store: MemoryStore[str] = MemoryStore(3, 1000)
    for key in "abc":
        store.put(key, key, 1, 100.0)
    store.get("a", 0.0)
    store.put("d", "d", 1, 100.0)
    assert [key for key in "abcd" if store.get(key, 0.0)] == ["a", "c", "d"]


def test_a_value_larger_than_half_the_room_is_not_kept_nor_its_older_one() -> None:
    store: MemoryStore[str] = MemoryStore(10, 100)
    assert store.put("k", "small", 10, 100.0)
    assert not store.put("k", "huge", 51, 100.0)
    assert store.get("k", 0.0) is None


def test_evictions_are_told() -> None:
    told: list[int] = []
    store: MemoryStore[int] = MemoryStore(10, 1000, told.append)
    for number in range(25):
        store.put(str(number), number, 1, 100.0)
    assert sum(told) == 15


def test_a_flood_of_keys_stays_in_bounds() -> None:
    store: MemoryStore[int] = MemoryStore(1000, 10_000)
    for number in range(50_000):
        store.put(f"k{number}", number, 100, 100.0)
    assert len(store) == 100
    assert store.bytes == 10_000


def test_it_hits_more_often_than_lru_on_a_zipf_trace() -> None:
    """20,000 keys, room for 1,000, Zipf 0.9: at least 0.06 more (measured: 0.08)."""
    dice = random.Random(7)
    weights = [1 / rank**0.9 for rank in range(1, 20_001)]
    trace = [str(key) for key in dice.choices(range(20_000), weights, k=100_000)]
    store: MemoryStore[int] = MemoryStore(1000, 10**9)
    lru: OrderedDict[str, int] = OrderedDict()
    ours = theirs = 0
    for key in trace:
        if store.get(key, 0.0) is not None:
            ours += 1
        else:
            store.put(key, 1, 1, 1.0)
        if key in lru:
            theirs += 1
            lru.move_to_end(key)
        else:
            lru[key] = 1
            if len(lru) > 1000:
                lru.popitem(last=False)
    assert (ours - theirs) / len(trace) >= 0.06


def test_threads_may_do_what_they_like_at_once() -> None:
    store: MemoryStore[int] = MemoryStore(50, 10_000)
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        dice = random.Random(seed)
        try:
            for number in range(5000):
                key = str(dice.randrange(100))
                action = dice.random()
                if action < 0.5:
                    store.get(key, float(number % 7))
                elif action < 0.9:
                    store.put(key, number, dice.randrange(1, 300), float(dice.randrange(1, 9)))
                elif action < 0.98:
                    store.delete(key)
                else:
                    store.clear()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(store) <= 50
    held = [key for key in map(str, range(100)) if store.get(key, 0.0) is not None]
    assert len(held) == len(store)
    store.clear()
    assert store.bytes == 0


@pytest.mark.parametrize(("entries", "capacity"), [(0, 10), (10, 0), (-1, 10)])
def test_a_store_of_nothing_is_refused(entries: int, capacity: int) -> None:
    with pytest.raises(ValueError, match="at least"):
        MemoryStore(entries, capacity)
