"""Servers once a session where a test only uses them, anew where it breaks them; caches that are always closed."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cache.faces import FACES
from tests.cache.redises import Proxy, RedisCluster, RedisServer, SentinelPair
from tests.support.wait import eventually

_numbers = itertools.count()


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server to use and not to break."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A cluster to use and not to break."""
    cluster = RedisCluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop()


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[SentinelPair]:
    """A sentinel pair of the test's own."""
    pair = SentinelPair(tmp_path)
    yield pair
    pair.stop()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own."""
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def proxy(shared_redis: RedisServer) -> Iterator[Proxy]:
    """A proxy in front of the shared server."""
    between = Proxy(shared_redis.port)
    yield between
    between.stop()


@pytest.fixture
def namespace() -> str:
    """A namespace nobody else uses."""
    return f"t{os.getpid()}-{next(_numbers)}"


@pytest.fixture(params=list(FACES))
def face(request: pytest.FixtureRequest) -> str:
    """Each promise is kept on threads and on event loops."""
    return str(request.param)


threads_first = pytest.mark.parametrize("face", ["threads", pytest.param("loop", marks=pytest.mark.slow)])
"""For tests that take seconds and are about what both faces share."""


@pytest.fixture
def make(face: str, namespace: str) -> Iterator[Callable[..., Any]]:
    """`make(url, **options)`: a cache with the face under test, in the test's namespace, without jitter.

    With a time-out that a busy machine does not reach; tests of outages have the default one.
    """
    with ExitStack() as stack:

        def cache(url: str, **options: Any) -> Any:
            options = {"namespace": namespace, "jitter": 0.0, "timeout": 2.0, **options}
            made = FACES[face](url, **options)
            stack.callback(made.close)
            return made

        yield cache


STORES = ("memory", "redis", "two tiers", "cluster")


@pytest.fixture(params=STORES)
def cache(request: pytest.FixtureRequest, make: Callable[..., Any]) -> Any:
    """A cache on each kind of store."""
    if request.param == "memory":
        return make("memory://")
    if request.param == "cluster":
        return make(request.getfixturevalue("shared_cluster").url)
    if request.param == "two tiers":
        return two_tiers(make, request.getfixturevalue("shared_redis").url)
    return make(request.getfixturevalue("shared_redis").url)


def two_tiers(make: Callable[..., Any], url: str, **options: Any) -> Any:
    """A cache whose memory tier is in use."""
    made = make(url, memory_tier=True, **options)
    made.get("anything")
    eventually(lambda: made.stats().reads_memory, every=0.01, what="the memory tier is told of changes")
    return made
