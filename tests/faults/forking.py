"""A program that forks at bad moments, run as a process of its own by test_fork.py: prints what it counted.

python -m tests.faults.forking quiet | thread | hammered | nested | registered
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable

from restaurant_otel import instrument
from tests.support.readings import read_registry
from tests.support.wsgi import wsgi_call

EACH = 50  # requests a child serves
CHILDREN = 4


def hello(environ: object, start_response: Callable[..., object]) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


app = instrument(hello)


def serve(requests: int = EACH) -> None:
    for _ in range(requests):
        assert wsgi_call(app).status == 200


def count() -> int:
    return int(read_registry().total("http_server_request_duration_seconds_count"))


def fork(work: Callable[[], None]) -> int:
    """A child that does `work` and ends with status 0; its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def wait(pids: list[int]) -> None:
    deadline = time.monotonic() + 30
    for pid in pids:
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                assert status == 0, f"a child ended with {status}"
                break
            if time.monotonic() > deadline:
                raise SystemExit(f"a forked child hangs: {pids}")
            time.sleep(0.01)


def quiet() -> int:
    """Fork after first use."""
    serve()
    wait([fork(serve) for _ in range(CHILDREN)])
    serve()
    return EACH * (CHILDREN + 2)


def thread() -> int:
    """Fork inside a thread that is not the main one."""
    serve()
    pids: list[int] = []
    forker = threading.Thread(target=lambda: pids.extend(fork(serve) for _ in range(CHILDREN)))
    forker.start()
    forker.join()
    wait(pids)
    return EACH * (CHILDREN + 1)


def hammered() -> int:
    """Fork while other threads count and collect: locks may be held by threads the child does not have."""
    served = [0, 0, 0]
    stop = threading.Event()

    def busy(number: int) -> None:
        while not stop.is_set():
            serve(1)
            served[number] += 1

    def collect() -> None:
        while not stop.is_set():
            count()

    threads = [threading.Thread(target=busy, args=(n,)) for n in range(3)] + [
        threading.Thread(target=collect)
    ]
    for each in threads:
        each.start()
    children = 12
    for _ in range(children):
        wait([fork(serve)])
    stop.set()
    for each in threads:
        each.join()
    return sum(served) + children * EACH


def nested() -> int:
    """Children that fork children."""
    serve()

    def parent() -> None:
        serve()
        wait([fork(serve), fork(serve)])
        serve()

    wait([fork(parent) for _ in range(2)])
    return EACH * (1 + 2 * (2 + 2))


def registered() -> list[str]:
    """What others register during the set-up to be done both before a fork and in the parent after it."""
    found: list[str] = []
    plain = os.register_at_fork

    def register(**handlers: Callable[[], object]) -> None:
        ours = handlers.get("before") and handlers["before"].__module__ == "restaurant_otel.forks"
        if "after_in_parent" in handlers and not ours:
            found.append(repr(handlers))
        plain(**handlers)

    os.register_at_fork = register
    serve(1)
    return found


if __name__ == "__main__":
    if sys.argv[1] == "registered":
        json.dump(registered(), sys.stdout)
        sys.exit()
    expected = {"quiet": quiet, "thread": thread, "hammered": hammered, "nested": nested}[sys.argv[1]]()
    in_flight = read_registry().total("http_server_active_requests")
    json.dump({"expected": expected, "counted": count(), "in_flight": in_flight}, sys.stdout)
