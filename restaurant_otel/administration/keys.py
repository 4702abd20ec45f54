"""Public keys by URL, as a JWK set: kept for a while, fetched anew when they change.

`RemoteKeys` is what `auth.Access` asks. Their server is not trusted to be quick, small or right: a fetch takes
`fetching.SECONDS` at most, reads `LARGEST_SET` bytes at most, follows no redirect, and is tried at most every `PAUSE`
seconds, whoever asks for whatever key: so a flood of tokens with invented key ids costs nobody anything.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from restaurant_otel import forks
from restaurant_otel.administration.fetching import SECONDS, fetch
from restaurant_otel.auth import RefusedError
from restaurant_otel.errors import survived

LARGEST_SET: Final = 262_144
MOST_KEYS: Final = 100
PAUSE: Final = 10.0
"""Seconds between two fetches, whether or not they succeed."""

FRESH: Final = 300.0
"""Seconds for which keys are believed: a key that was withdrawn lives so much longer."""

STALE: Final = 3600.0
"""Seconds for which they are believed while they cannot be fetched."""


class RemoteKeys:
    """The keys of a JWK set for `algorithms`. Any thread; `find` may take `SECONDS`."""

    def __init__(
        self,
        url: str,
        algorithms: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
        fetched: Callable[[str], bytes] | None = None,
    ) -> None:
        self._url = url
        self._algorithms = algorithms
        self._clock = clock
        self._fetch = fetched or _fetch
        self._keys: Mapping[tuple[str | None, str], Any] = {}
        self._fetched = self._tried = -float("inf")
        self._renew_lock()
        forks.follow(in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def ready(self, kid: str | None) -> bool:
        """Whether `find` has an answer already, be it that there is no such key."""
        now = self._clock()
        if now - self._tried < PAUSE:
            return True
        return now - self._fetched < FRESH and any(known == kid for known, _ in self._keys)

    def find(self, kid: str | None, algorithm: str) -> Any:
        """The key. A token that names none is checked by the only key there is, if there is only one."""
        # One thread fetches; who comes meanwhile is judged by the keys that are there, or waits if there are none.
        if not self.ready(kid) and self._lock.acquire(timeout=0 if self._keys else SECONDS + 1):
            try:
                if not self.ready(kid):
                    self._renew()
            finally:
                self._lock.release()
        if self._clock() - self._fetched >= STALE:
            raise RefusedError(503, "keys_unavailable", PAUSE)
        found = self._keys.get((kid, algorithm))
        if found is None:
            raise RefusedError(401, "unknown_key")
        return found

    def _renew(self) -> None:
        self._tried = self._clock()
        try:
            keys = parse(self._fetch(self._url), self._algorithms)
        except Exception as error:  # noqa: BLE001 - whatever a server can do to its client
            survived("admin keys", error)
            return
        self._keys, self._fetched = keys, self._clock()


def parse(document: bytes, algorithms: Sequence[str]) -> dict[tuple[str | None, str], Any]:
    """The keys of a JWK set, by key id and algorithm; by None as well if there is only one.

    Only public keys for signatures, of a type and a strength that suit one of `algorithms`. Raises ValueError.
    """
    import jwt

    listed = json.loads(document)["keys"]
    if not isinstance(listed, list) or len(listed) > MOST_KEYS:
        raise ValueError(f"not a list of up to {MOST_KEYS} keys")
    keys: dict[tuple[str | None, str], Any] = {}
    for entry in listed:
        if not isinstance(entry, dict) or not _is_for_checking(entry):
            continue
        kid = entry.get("kid")
        for algorithm in algorithms:
            if _suits(entry, algorithm):
                with suppress(
                    jwt.PyJWTError, ValueError, TypeError
                ):  # one that cannot be read: the others can
                    key = jwt.PyJWK(entry, algorithm).key
                    if getattr(key, "key_size", 2048) >= 2048 or entry["kty"] != "RSA":
                        keys[kid if isinstance(kid, str) else None, algorithm] = key
    if len({kid for kid, _ in keys}) == 1:
        keys.update({(None, algorithm): key for (_, algorithm), key in list(keys.items())})
    if not keys:
        raise ValueError("no key that suits the setting 'admin_algorithms'")
    return keys


_CURVES: Final = {
    "ES256": ("P-256",),
    "ES384": ("P-384",),
    "ES512": ("P-521",),
    "EdDSA": ("Ed25519", "Ed448"),
}


def _is_for_checking(entry: Mapping[str, Any]) -> bool:
    """Whether it is a public key, and for signatures, as far as it says (RFC 7517, 4.2 and 4.3)."""
    allowed = entry.get("key_ops", ["verify"])
    return (
        "d" not in entry
        and entry.get("use", "sig") == "sig"
        and isinstance(allowed, list)
        and "verify" in allowed
    )


def _suits(entry: Mapping[str, Any], algorithm: str) -> bool:
    if entry.get("alg", algorithm) != algorithm:
        return False
    if algorithm in _CURVES:
        return entry.get("crv") in _CURVES[algorithm]
    return entry.get("kty") == "RSA"


def _fetch(url: str) -> bytes:
    return fetch(url, LARGEST_SET, "application/jwk-set+json, application/json")
