"""Real Redis servers for the cache's tests: one, a cluster, a sentinel pair, and a proxy that misbehaves.

Everything listens on free loopback ports, keeps nothing on disk, and is ended by the fixtures of conftest.py.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Self

import redis

from tests.support.processes import Process, free_port, required
from tests.support.wait import eventually


class RedisServer:
    """One redis-server process. It can be hung, killed and started again on the same port."""

    def __init__(self, folder: Path, *options: str, port: int | None = None, sentinel: bool = False) -> None:
        self.port = port or free_port()
        self._folder = folder / f"redis-{self.port}"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._options = options
        self._sentinel = sentinel
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        program = required("redis-server")
        if self._sentinel:
            arguments = [str(self._folder / "sentinel.conf"), "--sentinel", "--port", str(self.port)]
        else:
            arguments = ["--port", str(self.port), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]
        self.process = Process(
            [program, *arguments, *self._options],
            env=dict(os.environ),
            cwd=self._folder,
            log=self._folder / "log",
        )
        eventually(self.answers, every=0.01, what=f"redis-server on {self.port}: {self.process.output()}")

    def answers(self) -> bool:
        with contextlib.suppress(redis.RedisError), self.client(timeout=1.0) as client:
            return bool(client.ping())
        return False

    def client(self, timeout: float = 5.0) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=timeout)

    def hang(self) -> None:
        self.process.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.signal(signal.SIGCONT)
        self.process.kill()


class RedisCluster:
    """Three primaries, made by redis-cli."""

    def __init__(self, folder: Path) -> None:
        self.nodes: list[RedisServer] = []
        try:
            for _ in range(3):
                port = free_port()
                self.nodes.append(
                    RedisServer(
                        folder,
                        "--cluster-enabled",
                        "yes",
                        "--cluster-port",
                        str(free_port()),
                        "--cluster-node-timeout",
                        "1000",
                        port=port,
                    )
                )
            hosts = [f"127.0.0.1:{node.port}" for node in self.nodes]
            subprocess.run(
                [
                    required("redis-cli"),
                    "--cluster",
                    "create",
                    *hosts,
                    "--cluster-replicas",
                    "0",
                    "--cluster-yes",
                ],
                check=True,
                capture_output=True,
                timeout=60,
            )
            eventually(self._whole, every=0.05, what="the cluster")
        except BaseException:
            self.stop()
            raise

    def _whole(self) -> bool:
        for node in self.nodes:
            with node.client() as client:
                info: Any = client.execute_command("CLUSTER INFO")
                text = info.decode() if isinstance(info, bytes) else str(info)
                if "ok" not in text.split("cluster_state")[1][:6]:
                    return False
        return True

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


class SentinelPair:
    """A master, its replica, and three sentinels that watch them."""

    def __init__(self, folder: Path) -> None:
        self.servers: list[RedisServer] = []
        try:
            self.master = RedisServer(folder)
            self.servers.append(self.master)
            self.replica = RedisServer(folder, "--replicaof", "127.0.0.1", str(self.master.port))
            self.servers.append(self.replica)
            self.sentinels = []
            for _ in range(3):
                port = free_port()
                home = folder / f"redis-{port}"
                home.mkdir()
                (home / "sentinel.conf").write_text(
                    f"sentinel monitor shop 127.0.0.1 {self.master.port} 2\n"
                    "sentinel down-after-milliseconds shop 500\n"
                    "sentinel failover-timeout shop 3000\n"
                )
                self.sentinels.append(RedisServer(folder, port=port, sentinel=True))
                self.servers.append(self.sentinels[-1])
            eventually(self._ready, what="the sentinels")
        except BaseException:
            self.stop()
            raise

    def _ready(self) -> bool:
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                state: Any = client.sentinel_master("shop")
                if state["num-slaves"] < 1 or state["num-other-sentinels"] < 2:
                    return False
        return True

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{s.port}' for s in self.sentinels)}/shop/0"

    def stop(self) -> None:
        for server in self.servers:
            server.stop()


class Proxy:
    """Passes TCP on to a server, until told to hold everything back, delay it, or cut it.

    `delay` (s) holds each piece from the server back; `hold()` keeps connections open and passes on nothing, what is
    sent meanwhile included until `go_on`; `cut()` resets all connections and refuses new ones.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.delay = 0.0
        self.cut_after: int | None = None
        self._held = threading.Event()
        self._held.set()
        self._stopped = False
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self.port = free_port()
        self.listen()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(256)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._to), 5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._pairs.add((client, server))
            threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        with selectors.DefaultSelector() as selector, contextlib.suppress(OSError, ValueError):
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in selector.select():
                    self._held.wait()
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    if not data:
                        raise OSError
                    if key.fileobj is server:
                        if self.delay:
                            time.sleep(self.delay)
                        if self.cut_after is not None and len(data) > self.cut_after:
                            client.sendall(data[: self.cut_after])
                            raise OSError
                    key.data.sendall(data)
        self._close(client, server)

    def _close(self, *pair: socket.socket) -> None:
        for each in pair:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        with self._lock:
            self._pairs.discard(pair)  # type: ignore[arg-type]

    def hold(self) -> None:
        self._held.clear()

    def go_on(self) -> None:
        self._held.set()

    def drop(self) -> None:
        """Close all connections; new ones are welcome."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._close(*pair)

    def cut(self) -> None:
        """Close all connections, and refuse new ones until `listen`."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.drop()

    def stop(self) -> None:
        self.go_on()
        self.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
