"""Who may use the admin API: bearer tokens (JWT) checked by PyJWT, rights, and limits on tries.

`Access.admit` is the one way in: a request's ``Authorization`` headers and address, and what it wants to do, against
the settings; a `Caller`, or `RefusedError`. Denied is what nothing allows. Which algorithms are accepted is a
setting, and never what a token says. The API's parts and the command ``restaurant-otel token`` use this; the request
path of the app never does. Keys fetched by URL are kept in `administration.keys`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Any, Final, Protocol

from restaurant_otel import forks
from restaurant_otel.settings import Settings, SettingsError

LONGEST_TOKEN: Final = 8192
"""Bytes of a token; longer ones are not looked at."""

LEAST_SECRET: Final = 32
"""Bytes of a secret: what HS256 needs to be as strong as its name (RFC 7518, 3.2)."""

FAILURES_A_MINUTE: Final = 10
"""Refused tries that an address has, before its tries are no longer looked at."""

REQUESTS_A_MINUTE: Final = 600
"""Requests that a caller has."""

_MOST_REMEMBERED: Final = 10_000


class Right(StrEnum):
    """What a caller may be allowed to do."""

    READ = "performance:read"
    EXECUTE = "performance:execute"
    CONFIGURE = "performance:configure"


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody whose token is good: the token's ``sub``, and what it allows."""

    subject: str
    rights: frozenset[Right]


class RefusedError(Exception):
    """A request is not admitted.

    `status` is 401, 403, 429 or 503; `reason` a constant for the audit log, of which clients are told no more than the
    status; `retry_after` seconds; `subject` is known where the token was good.
    """

    def __init__(
        self, status: int, reason: str, retry_after: float = 0.0, subject: str | None = None
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        self.subject = subject


class Keys(Protocol):
    """Where verification keys come from. `find` raises RefusedError where there is none."""

    def ready(self, kid: str | None) -> bool:
        """Whether `find` will answer without waiting for anybody."""

    def find(self, kid: str | None, algorithm: str) -> Any:
        """The key for tokens with this ``kid`` and this algorithm, which has been allowed. May take seconds."""


class Access:
    """Admits callers by what `settings` say. Any thread.

    `now` is seconds since the epoch, `clock` seconds that only grow; both are for tests.

    Raises:
        SettingsError: there is no key, or a key that does not suffice; or PyJWT is missing.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jwt = _pyjwt()
        self._algorithms = settings.admin_algorithms
        self._keys = _keys(settings, self._jwt, clock)
        self._issuer = settings.admin_issuer
        self._audience = settings.admin_audience
        self._leeway = settings.admin_leeway
        self._roles = {role: frozenset(map(Right, rights)) for role, rights in settings.admin_roles.items()}
        self._roles_claim = settings.admin_roles_claim.split(".")
        self._now = now
        self._failures = Buckets(FAILURES_A_MINUTE, clock)
        self._requests = Buckets(REQUESTS_A_MINUTE, clock)
        self._good = _Remembered()

    def ready(self, authorization: Sequence[bytes]) -> bool:
        """Whether `admit` will answer at once, so that an event loop may call it. Else keys may have to be fetched."""
        try:
            return self._keys.ready(self._header(_token(authorization)).get("kid"))
        except RefusedError:
            return True

    def admit(self, authorization: Sequence[bytes], address: str | None, right: Right) -> Caller:
        """The caller who may do what needs `right`.

        `authorization` holds the values of all ``Authorization`` headers. Raises RefusedError. An address that has
        failed too often is refused unread, but for tokens that were found good before: others may share the address.
        """
        place = _place(address)
        wait = self._failures.wait(place)
        if wait and not self._good.has(authorization):
            raise RefusedError(429, "too_many_failures", wait)
        try:
            caller = self._caller(_token(authorization))
        except RefusedError as refused:
            if refused.status == 401 and refused.reason != "missing":  # who sends nothing is not guessing
                self._failures.take(place)
            raise
        self._good.add(authorization)
        wait = self._requests.take(caller.subject)
        if wait:
            raise RefusedError(429, "too_many_requests", wait, caller.subject)
        if right not in caller.rights:
            raise RefusedError(403, "right", subject=caller.subject)
        return caller

    def _header(self, token: str) -> dict[str, Any]:
        """The token's header, which says nothing that is believed."""
        try:
            header: dict[str, Any] = self._jwt.get_unverified_header(token)
        except (self._jwt.PyJWTError, ValueError, RecursionError):
            raise RefusedError(401, "malformed") from None
        kid = header.get("kid")
        if "crit" in header or not (kid is None or isinstance(kid, str)):
            raise RefusedError(401, "malformed")
        if header.get("alg") not in self._algorithms:
            raise RefusedError(401, "algorithm")
        return header

    def _caller(self, token: str) -> Caller:
        header = self._header(token)
        key = self._keys.find(header.get("kid"), header["alg"])
        claims = self._claims(token, key)
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= 200:
            raise RefusedError(401, "claims")
        return Caller(subject, self._rights(claims))

    def _claims(self, token: str, key: Any) -> dict[str, Any]:
        jwt = self._jwt
        required = ["exp", "sub", "aud", *(["iss"] if self._issuer else [])]
        # PyJWT judges times by the machine's clock; we do, so that a test may set it.
        ours = {"require": required, "verify_exp": False, "verify_nbf": False, "verify_iat": False}
        try:
            claims: dict[str, Any] = jwt.decode(
                token, key, list(self._algorithms), ours, audience=self._audience, issuer=self._issuer
            )
            expires = _seconds(claims, "exp")
            begins = max(_seconds(claims, "nbf", 0.0), _seconds(claims, "iat", 0.0))
        except jwt.InvalidSignatureError:
            raise RefusedError(401, "signature") from None
        except jwt.InvalidIssuerError:
            raise RefusedError(401, "issuer") from None
        except jwt.InvalidAudienceError:
            raise RefusedError(401, "audience") from None
        except jwt.MissingRequiredClaimError:
            raise RefusedError(401, "claims") from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError, OverflowError):
            raise RefusedError(401, "malformed") from None
        now = self._now()
        if not now < expires + self._leeway:
            raise RefusedError(401, "expired")
        if not begins <= now + self._leeway:
            raise RefusedError(401, "not_yet_valid")
        return claims

    def _rights(self, claims: Mapping[str, Any]) -> frozenset[Right]:
        scopes = [*_words(claims.get("scope")), *_words(claims.get("scp"))]
        rights = {right for right in Right if right in scopes}
        held: Any = claims
        for step in self._roles_claim:
            held = held.get(step) if isinstance(held, Mapping) else None
        for role in _words(held):
            rights |= self._roles.get(role, frozenset())
        return frozenset(rights)


def make_token(
    key: str, algorithm: str, subject: str, scope: str, seconds: float, audience: str, issuer: str | None
) -> str:
    """A token for development, signed by `key` (a secret or a private key in PEM), good for `seconds` from now.

    Raises:
        SettingsError: `key` does not suffice, or is no key for `algorithm`; or PyJWT is missing.
    """
    jwt = _pyjwt()
    if algorithm.startswith("HS"):
        _check_secret(key)
    now = int(time.time())
    claims = {"sub": subject, "scope": scope, "aud": audience, "iat": now, "exp": now + int(seconds)}
    if issuer:
        claims["iss"] = issuer
    try:
        token: str = jwt.encode(claims, key, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        raise SettingsError(f"restaurant-otel: the key cannot sign by {algorithm}") from None
    return token


# --- keys --------------------------------------------------------------------------------------------


def _pyjwt() -> Any:
    try:
        import cryptography  # noqa: F401 - PyJWT does without, and then knows no public keys
        import jwt
    except ImportError:
        raise SettingsError(
            "restaurant-otel: the admin API needs PyJWT: pip install 'restaurant-otel[admin]'"
        ) from None
    return jwt


def _keys(settings: Settings, jwt: Any, clock: Callable[[], float]) -> Keys:
    key, url, algorithms = settings.admin_key, settings.admin_jwks_url, settings.admin_algorithms
    secret = algorithms[0].startswith("HS")
    if url is not None:
        if secret or key is not None:
            raise SettingsError(
                "restaurant-otel: the setting 'admin_jwks_url' holds public keys: it needs 'admin_algorithms' such as "
                "RS256, and no 'admin_key'"
            )
        if settings.admin_issuer is None:
            raise SettingsError(
                "restaurant-otel: the setting 'admin_issuer' is needed with 'admin_jwks_url': whose tokens are good?"
            )
        from restaurant_otel.administration.keys import RemoteKeys

        return RemoteKeys(url, algorithms, clock)
    if key is None:
        raise SettingsError(
            "restaurant-otel: the admin API does not start without a key. Set 'admin_key' (RESTAURANT_OTEL_ADMIN_KEY) "
            "to a secret of at least 32 bytes, or 'admin_jwks_url' and 'admin_issuer'; or leave 'admin' off."
        )
    if secret:
        _check_secret(key)
        return _OneKey(dict.fromkeys(algorithms, key))
    keys = {}
    for algorithm in algorithms:
        try:
            keys[algorithm] = jwt.get_algorithm_by_name(algorithm).prepare_key(key)
        except (jwt.PyJWTError, ValueError, TypeError):
            raise SettingsError(
                f"restaurant-otel: the setting 'admin_key' is no public key in PEM for {algorithm}"
            ) from None
        if hasattr(keys[algorithm], "sign"):
            raise SettingsError(
                "restaurant-otel: the setting 'admin_key' is a private key; give the public one, which cannot sign"
            )
        if getattr(keys[algorithm], "key_size", 2048) < 2048 and algorithm[:2] in ("RS", "PS"):
            raise SettingsError(
                "restaurant-otel: the setting 'admin_key' is an RSA key of fewer than 2048 bits"
            )
    return _OneKey(keys)


def _check_secret(key: str) -> None:
    if len(key.encode()) < LEAST_SECRET:
        raise SettingsError(
            f"restaurant-otel: the setting 'admin_key' must be at least {LEAST_SECRET} bytes: "
            'python -c "import secrets; print(secrets.token_urlsafe(32))" makes one'
        )
    if "-----BEGIN" in key or key.startswith("ssh-"):
        raise SettingsError(
            "restaurant-otel: the setting 'admin_key' is a public key or certificate, which is no secret; "
            "set 'admin_algorithms' to what it is for, such as RS256"
        )


class _OneKey:
    """The key from the settings, whatever a token's ``kid`` says."""

    def __init__(self, keys: Mapping[str, Any]) -> None:
        self._keys = keys

    def ready(self, kid: str | None) -> bool:  # noqa: ARG002 - see Keys
        return True

    def find(self, kid: str | None, algorithm: str) -> Any:  # noqa: ARG002
        return self._keys[algorithm]


# --- limits ------------------------------------------------------------------------------------------


class Buckets:
    """So many a minute for each name, in bursts of as many; the names longest unheard of are forgotten. Any thread."""

    def __init__(self, a_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = float(a_minute)
        self._rate = a_minute / 60.0
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when
        self._lock = forks.Lock()

    def wait(self, name: str) -> float:
        """Seconds until `name` may have one; 0 if now. Takes none."""
        return max(0.0, (1.0 - self._level(name, self._clock())) / self._rate)

    def take(self, name: str) -> float:
        """Take one, and return 0; or take none, and return the seconds until there is one."""
        now = self._clock()
        with self._lock:
            level = self._level(name, now)
            if level >= 1.0:
                self._levels[name] = (level - 1.0, now)
                self._levels.move_to_end(name)
                if len(self._levels) > _MOST_REMEMBERED:
                    self._levels.popitem(last=False)
                return 0.0
        return (1.0 - level) / self._rate

    def _level(self, name: str, now: float) -> float:
        level, since = self._levels.get(name, (self._most, now))
        return min(self._most, level + (now - since) * self._rate)

    def __len__(self) -> int:
        return len(self._levels)


class _Remembered:
    """Tokens that were good, by their digest; the longest unseen are forgotten."""

    def __init__(self) -> None:
        self._digests: OrderedDict[bytes, None] = OrderedDict()
        self._lock = forks.Lock()

    def has(self, authorization: Sequence[bytes]) -> bool:
        return _digest(authorization) in self._digests

    def add(self, authorization: Sequence[bytes]) -> None:
        digest = _digest(authorization)
        with self._lock:
            self._digests[digest] = None
            self._digests.move_to_end(digest)
            if len(self._digests) > _MOST_REMEMBERED:
                self._digests.popitem(last=False)


def _digest(authorization: Sequence[bytes]) -> bytes:
    return hashlib.sha256(b",".join(value[: LONGEST_TOKEN + 16] for value in authorization)).digest()


def _place(address: str | None) -> str:
    """What counts as one address: of IPv6 the network, because a host has all addresses in it."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "local"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)


# --- what a request brings ---------------------------------------------------------------------------


def _token(authorization: Sequence[bytes]) -> str:
    if not authorization:
        raise RefusedError(401, "missing")
    if len(authorization) > 1:
        raise RefusedError(401, "malformed")
    scheme, _, token = authorization[0].partition(b" ")
    if scheme.lower() != b"bearer" or not token.strip():
        raise RefusedError(401, "missing")
    if len(token) > LONGEST_TOKEN:
        raise RefusedError(401, "too_long")
    try:
        return token.strip().decode("ascii")
    except UnicodeDecodeError:
        raise RefusedError(401, "malformed") from None


def _seconds(claims: Mapping[str, Any], name: str, otherwise: float | None = None) -> float:
    value = claims.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise ValueError(name)
    return float(value)


def _words(claim: Any) -> list[str]:
    """A claim's words: text parted by spaces, or a list of texts; nothing of anything else."""
    if isinstance(claim, str):
        return claim.split()
    return [word for word in claim if isinstance(word, str)] if isinstance(claim, list) else []
