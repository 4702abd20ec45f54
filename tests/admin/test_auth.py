"""Access: whose token is good, what it allows, and how quickly all others are refused."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from restaurant_otel.administration import fetching
from restaurant_otel.administration import keys as remote
from restaurant_otel.auth import (
    FAILURES_A_MINUTE,
    LONGEST_TOKEN,
    REQUESTS_A_MINUTE,
    Access,
    Buckets,
    Caller,
    RefusedError,
    Right,
    make_token,
)
from restaurant_otel.settings import Settings, SettingsError
from tests.admin.tokens import (
    ALL,
    SECRET,
    KeyServer,
    b64,
    by_hand,
    claims,
    jwk,
    key_for,
    private_pem,
    public_pem,
    rsa_key,
    token,
)


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def access(clock: Clock | None = None, **settings: Any) -> Access:
    given = {"admin_key": SECRET, **settings}
    given = {name: value for name, value in given.items() if value is not None}
    return Access(Settings.resolve({}, **given), clock=clock or time.monotonic)


def admit(
    to: Access, credential: str | bytes, right: Right = Right.READ, address: str = "203.0.113.7"
) -> Caller:
    header = credential if isinstance(credential, bytes) else b"Bearer " + credential.encode()
    return to.admit([header], address, right)


def refusal(
    to: Access, credential: str | bytes, right: Right = Right.READ, address: str = "203.0.113.7"
) -> str:
    with pytest.raises(RefusedError) as refused:
        admit(to, credential, right, address)
    return f"{refused.value.status} {refused.value.reason}"


# --- good tokens -------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_token_signed_with_the_secret_is_admitted(algorithm: str) -> None:
    secret = SECRET * 2
    caller = admit(access(admin_algorithms=algorithm, admin_key=secret), token(secret, algorithm))
    assert caller == Caller("ada", frozenset(Right))


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "ES384", "EdDSA"])
def test_a_token_signed_with_the_private_key_is_admitted(algorithm: str) -> None:
    key = key_for(algorithm)
    to = access(admin_algorithms=algorithm, admin_key=public_pem(key))
    assert admit(to, token(key, algorithm)).subject == "ada"
    assert refusal(to, token(key_for(algorithm), algorithm)) == "401 signature"


def test_the_key_may_be_in_a_file(tmp_path: Any) -> None:
    file = tmp_path / "key"
    file.write_text(SECRET + "\n")
    assert admit(access(admin_key=f"file:{file}"), token())


def test_what_the_command_makes_is_good() -> None:
    made = make_token(SECRET, "HS256", "bob", "performance:read", 60, "restaurant-otel", None)
    assert admit(access(), made) == Caller("bob", frozenset({Right.READ}))
    key = key_for("ES256")
    made = make_token(private_pem(key), "ES256", "bob", ALL, 60, "x", "https://issuer")
    to = access(
        admin_algorithms="ES256", admin_key=public_pem(key), admin_audience="x", admin_issuer="https://issuer"
    )
    assert admit(to, made).rights == frozenset(Right)


# --- rights ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "rights"),
    [
        ({"scope": "performance:read"}, {Right.READ}),
        ({"scope": "openid performance:execute"}, {Right.EXECUTE}),
        (
            {"scope": None, "scp": ["performance:read", "performance:configure"]},
            {Right.READ, Right.CONFIGURE},
        ),
        ({"scope": None, "roles": ["admin"]}, set(Right)),
        ({"scope": None, "roles": "sre"}, {Right.READ, Right.EXECUTE}),
        ({"scope": None, "roles": ["guest"]}, set()),
        ({"scope": None}, set()),
        ({"scope": {"performance:read": True}}, set()),
        ({"scope": ["performance:read", 7]}, {Right.READ}),
        ({"scope": "performance:*"}, set()),
        ({"scope": "PERFORMANCE:READ"}, set()),
    ],
)
def test_rights_come_from_scopes_and_roles_and_from_nothing_else(
    said: dict[str, Any], rights: set[Right]
) -> None:
    to = access(
        admin_roles="admin=performance:read performance:execute performance:configure, "
        "sre=performance:read performance:execute"
    )
    for right in Right:
        if right in rights:
            assert admit(to, token(**said), right).rights == rights
        else:
            assert refusal(to, token(**said), right) == "403 right"


def test_roles_may_be_deep_inside() -> None:
    to = access(admin_roles_claim="realm_access.roles")
    assert admit(to, token(scope=None, realm_access={"roles": ["admin"]}), Right.CONFIGURE)
    assert refusal(to, token(scope=None, realm_access=["roles"])) == "403 right"


# --- bad tokens --------------------------------------------------------------------------------------


def _now() -> int:
    return int(time.time())


_HEADER = {"alg": "HS256", "typ": "JWT"}

BAD: dict[str, tuple[Callable[[], str | bytes], str]] = {
    "nothing": (lambda: b"", "missing"),
    "another scheme": (lambda: b"Basic YTpi", "missing"),
    "no token": (lambda: b"Bearer ", "missing"),
    "not a token": (lambda: "hello", "malformed"),
    "two parts": (lambda: "a.b", "malformed"),
    "not text": (lambda: b"Bearer \xff\xfe", "malformed"),
    "without its signature": (lambda: token().rpartition(".")[0] + ".", "signature"),
    "unsigned": (lambda: by_hand({"alg": "none"}, claims(), None), "algorithm"),
    "unsigned in capitals": (lambda: by_hand({"alg": "NONE"}, claims(), None), "algorithm"),
    "no algorithm": (lambda: by_hand({"typ": "JWT"}, claims(), SECRET.encode()), "algorithm"),
    "another algorithm": (lambda: token(SECRET * 2, "HS512"), "algorithm"),
    "another secret": (lambda: token("another secret of thirty-two bytes!"), "signature"),
    "an empty secret": (lambda: by_hand(_HEADER, claims(), b""), "signature"),
    "changed claims": (lambda: _with_other_claims(token(scope="")), "signature"),
    "another audience": (lambda: token(aud="else"), "audience"),
    "no audience": (lambda: token(aud=None), "claims"),
    "expired": (lambda: token(exp=_now() - 31), "expired"),
    "never expires": (lambda: token(exp=None), "claims"),
    "expires in words": (lambda: by_hand(_HEADER, claims(exp="tomorrow"), SECRET.encode()), "malformed"),
    "expires at no number": (
        lambda: by_hand(_HEADER, claims(exp=float("nan")), SECRET.encode()),
        "malformed",
    ),
    "expires never, in a number": (
        lambda: by_hand(_HEADER, claims(exp=float("inf")), SECRET.encode()),
        "malformed",
    ),
    "a payload as it stands": (
        lambda: by_hand({**_HEADER, "b64": False}, claims(), SECRET.encode()),
        "malformed",
    ),
    "a token in a token": (lambda: _signed_text(token().encode()), "malformed"),
    "a key id that is a path, and an empty key": (
        lambda: by_hand({**_HEADER, "kid": "../../../../dev/null"}, claims(), b""),
        "signature",
    ),
    "a key of its own": (
        lambda: by_hand({**_HEADER, "jwk": {"kty": "oct", "k": b64(b"0" * 32)}}, claims(), b"0" * 32),
        "signature",
    ),
    "expires at true": (lambda: by_hand(_HEADER, claims(exp=True), SECRET.encode()), "malformed"),
    "from the future": (lambda: token(iat=_now() + 600), "not_yet_valid"),
    "not valid yet": (lambda: token(nbf=_now() + 600), "not_yet_valid"),
    "nobody's": (lambda: token(sub=None), "claims"),
    "somebody without a name": (lambda: token(sub=""), "claims"),
    "a number's": (lambda: by_hand(_HEADER, claims(sub=7), SECRET.encode()), "malformed"),
    "a name without end": (lambda: token(sub="x" * 201), "claims"),
    "huge": (lambda: token(padding="x" * LONGEST_TOKEN), "too_long"),
    "ten megabytes": (lambda: b"Bearer " + b"A" * 10_000_000, "too_long"),
    "critical extensions": (
        lambda: by_hand({**_HEADER, "crit": ["x"], "x": 1}, claims(), SECRET.encode()),
        "malformed",
    ),
    "a key id that is a list": (
        lambda: by_hand({**_HEADER, "kid": ["a"]}, claims(), SECRET.encode()),
        "malformed",
    ),
    "a header that is no object": (lambda: f"{b64(b'[]')}.{b64({})}.x", "malformed"),
    "claims that are no object": (lambda: _signed_text(b'"text"'), "malformed"),
    "deep claims": (lambda: _signed_text(b"[" * 3000 + b"]" * 3000), "malformed"),
}


def _with_other_claims(good: str) -> str:
    header, _, signature = good.split(".")
    return f"{header}.{b64(claims())}.{signature}"


def _signed_text(payload: bytes) -> str:
    import hashlib
    import hmac

    body = f"{b64(_HEADER)}.{b64(payload)}"
    return f"{body}.{b64(hmac.new(SECRET.encode(), body.encode(), hashlib.sha256).digest())}"


@pytest.mark.parametrize("which", BAD)
def test_a_bad_token_is_refused_and_the_reason_is_known_to_us(which: str) -> None:
    make, reason = BAD[which]
    assert refusal(access(), make()) == f"401 {reason}"


def test_two_credentials_are_none() -> None:
    with pytest.raises(RefusedError, match="malformed"):
        access().admit([b"Bearer " + token().encode()] * 2, "203.0.113.7", Right.READ)


def test_the_issuer_must_be_the_one_that_is_set() -> None:
    to = access(admin_issuer="https://login.example.org")
    assert admit(to, token(iss="https://login.example.org"))
    assert refusal(to, token(iss="https://evil.example.org")) == "401 issuer"
    assert refusal(to, token()) == "401 claims"


def test_clocks_may_differ_by_the_leeway_and_no_more() -> None:
    to = access(admin_leeway=60)
    assert admit(to, token(exp=_now() - 20))
    assert refusal(to, token(exp=_now() - 4000)) == "401 expired"


def test_a_public_key_is_no_secret() -> None:
    """Key confusion: the public key, which everybody has, used as the HMAC secret."""
    key = rsa_key()
    to = access(admin_algorithms="RS256", admin_key=public_pem(key))
    forged = by_hand(_HEADER, claims(), public_pem(key).encode())
    assert refusal(to, forged) == "401 algorithm"
    forged = by_hand({"alg": "RS256"}, claims(), public_pem(key).encode())
    assert refusal(to, forged) == "401 signature"


@examples(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=300))
def test_no_bytes_do_anything_but_be_refused(data: bytes) -> None:
    with pytest.raises(RefusedError):
        _patient().admit([data], None, Right.READ)


@examples(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(["sub", "exp", "nbf", "iat", "aud", "iss", "scope", "roles"]),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(),
            st.text(max_size=9),
            st.lists(st.text(max_size=5), max_size=3),
        ),
    )
)
def test_no_claims_do_anything_but_be_admitted_or_refused(said: dict[str, Any]) -> None:
    try:
        _patient().admit([b"Bearer " + by_hand(_HEADER, said, SECRET.encode()).encode()], None, Right.READ)
    except RefusedError:
        return
    assert said["aud"] in ("restaurant-otel", ["restaurant-otel"])


def _patient(minutes: itertools.count[int] = itertools.count()) -> Access:  # noqa: B008 - goes on from call to call
    """Has forgotten all earlier failures at each call."""
    _LATER.now = next(minutes) * 60.0
    return _ACCESS


_LATER = Clock()
_ACCESS = access(_LATER)


# --- settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"admin_key": None}, "admin_key.*32 bytes"),
        ({"admin_key": "short"}, "at least 32 bytes"),
        ({"admin_key": "-----BEGIN PUBLIC KEY-----" + "x" * 64}, "no secret"),
        ({"admin_algorithms": "RS256"}, "no public key"),
        ({"admin_algorithms": "RS256", "admin_key": public_pem(rsa_key(1024))}, "2048"),
        ({"admin_algorithms": "RS256", "admin_key": private_pem(rsa_key())}, "private key"),
        ({"admin_algorithms": "ES256", "admin_key": public_pem(rsa_key())}, "no public key"),
        ({"admin_algorithms": "HS256, RS256"}, "either"),
        ({"admin_algorithms": "none"}, "some of"),
        ({"admin_algorithms": ""}, "some of"),
        ({"admin_jwks_url": "https://x.example.org/keys"}, "public keys"),
        ({"admin_jwks_url": "http://x.example.org/keys"}, "https"),
        ({"admin_jwks_url": "http://localhost.example.org/keys"}, "https"),
        ({"admin_jwks_url": "http://127.0.0.1.example.org/keys"}, "https"),
        ({"admin_jwks_url": "http://127.0.0.1@x.example.org/keys"}, "https"),
        ({"admin_jwks_url": "file:///etc/passwd"}, "https"),
        ({"admin_jwks_url": "https://x/k", "admin_algorithms": "RS256", "admin_key": None}, "admin_issuer"),
        ({"admin_key": "file:/there/is/no/such/file"}, "cannot be read"),
        ({"admin_roles": "sre=everything"}, "roles such as"),
        ({"admin_origins": "*"}, "origins such as"),
        ({"admin_origins": "null"}, "origins such as"),
        ({"admin_origins": "https://grafana.example.org/path"}, "origins such as"),
        ({"admin_leeway": 1000}, "300"),
        ({"admin_audience": ""}, "plain text"),
    ],
)
def test_settings_that_would_let_anybody_in_are_refused_at_start(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        access(**settings)


# --- limits ------------------------------------------------------------------------------------------


def test_an_address_that_fails_too_often_is_refused_unread_for_a_while(clock: Clock) -> None:
    to = access(clock)
    for _ in range(FAILURES_A_MINUTE):
        assert refusal(to, "nonsense") == "401 malformed"
    assert refusal(to, "nonsense") == "429 too_many_failures"
    assert refusal(to, token()) == "429 too_many_failures"
    assert admit(to, token(), address="203.0.113.8")
    clock.now += 60 / FAILURES_A_MINUTE
    assert admit(to, token())


def test_who_was_good_before_is_not_locked_out_by_others_at_the_address(clock: Clock) -> None:
    to = access(clock)
    good = token()
    assert admit(to, good)
    for _ in range(FAILURES_A_MINUTE + 1):
        refusal(to, "nonsense")
    assert refusal(to, "nonsense") == "429 too_many_failures"
    assert admit(to, good)


def test_a_network_of_version_six_counts_as_one_address(clock: Clock) -> None:
    to = access(clock)
    for number in range(FAILURES_A_MINUTE):
        refusal(to, "nonsense", address=f"2001:db8::{number:x}")
    assert refusal(to, "nonsense", address="2001:db8::ffff") == "429 too_many_failures"
    assert refusal(to, "nonsense", address="2001:db8:0:1::1") == "401 malformed"


def test_a_caller_has_so_many_requests_a_minute(clock: Clock) -> None:
    to = access(clock)
    one, other = token(), token(sub="bob")
    for _ in range(REQUESTS_A_MINUTE):
        admit(to, one)
    with pytest.raises(RefusedError) as refused:
        admit(to, one)
    assert (refused.value.status, refused.value.subject) == (429, "ada")
    assert refused.value.retry_after > 0
    assert admit(to, other)


def test_what_is_remembered_of_strangers_has_a_bound(clock: Clock) -> None:
    buckets = Buckets(10, clock)
    for number in range(12_000):
        buckets.take(str(number))
    assert len(buckets) == 10_000


# --- keys by URL -------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[KeyServer]:
    running = KeyServer()
    yield running
    running.stop()


KEY, NEW = rsa_key(), rsa_key()
ISSUER = "https://login.example.org"


def by_url(server: KeyServer, clock: Clock, **settings: Any) -> Access:
    given = {"admin_algorithms": "RS256", "admin_issuer": ISSUER, **settings}
    return access(clock, admin_key=None, admin_jwks_url=server.url, **given)


def signed(key: Any, kid: str | None, **changes: Any) -> str:
    return token(key, "RS256", kid, iss=ISSUER, **changes)


def test_keys_are_fetched_once_and_kept(server: KeyServer, clock: Clock) -> None:
    server.keys = [jwk(KEY, "one"), jwk(NEW, "two")]
    to = by_url(server, clock)
    assert not to.ready([b"Bearer " + signed(KEY, "one").encode()])
    for _ in range(3):
        assert admit(to, signed(KEY, "one"))
        assert admit(to, signed(NEW, "two"))
    assert to.ready([b"Bearer " + signed(KEY, "one").encode()])
    assert refusal(to, signed(KEY, "two")) == "401 signature"
    assert server.asked == 1


def test_after_a_rotation_the_new_key_is_found_and_the_old_one_is_worth_nothing(
    server: KeyServer, clock: Clock
) -> None:
    server.keys = [jwk(KEY, "old")]
    to = by_url(server, clock)
    old = signed(KEY, "old")
    assert admit(to, old)
    server.keys = [jwk(NEW, "new")]
    clock.now += remote.PAUSE
    assert admit(to, signed(NEW, "new"))
    assert refusal(to, old) == "401 unknown_key"


def test_a_withdrawn_key_is_believed_no_longer_than_five_minutes(server: KeyServer, clock: Clock) -> None:
    server.keys = [jwk(KEY, "old")]
    to = by_url(server, clock)
    admit(to, signed(KEY, "old"))
    server.keys = [jwk(NEW, "new")]
    clock.now += remote.FRESH
    assert refusal(to, signed(KEY, "old")) == "401 unknown_key"


def test_invented_key_ids_cause_no_flood(server: KeyServer, clock: Clock) -> None:
    server.keys = [jwk(KEY, "one")]
    to = by_url(server, clock)
    for number in range(FAILURES_A_MINUTE * 3):
        assert (
            refusal(to, signed(KEY, f"invented-{number}"), address=f"198.51.100.{number}")
            == "401 unknown_key"
        )
    assert server.asked == 1


def test_while_the_keys_server_is_away_known_keys_serve_for_an_hour(server: KeyServer, clock: Clock) -> None:
    server.keys = [jwk(KEY, "one")]
    to = by_url(server, clock)
    admit(to, signed(KEY, "one"))
    server.behave = lambda handler: handler.send_error(500)
    clock.now += remote.STALE - 1
    assert admit(to, signed(KEY, "one", exp=_now() + 9000))
    clock.now += remote.PAUSE
    assert refusal(to, signed(KEY, "one", exp=_now() + 9000)) == "503 keys_unavailable"


def _huge(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(1000):
            handler.wfile.write(b" " * 65_536)
    except OSError:
        pass


def _slow(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(2000):
            handler.wfile.write(b" ")
            time.sleep(0.01)
    except OSError:
        pass


def _slow_head(handler: BaseHTTPRequestHandler) -> None:
    try:
        for _ in range(2000):
            handler.wfile.write(b"H")
            time.sleep(0.01)
    except OSError:
        pass


def _says(body: bytes, status: int = 200, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return behave


BAD_SERVERS: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {
    "huge": _huge,
    "slow": _slow,
    "slow from the first byte": _slow_head,
    "no JSON": _says(b"<html>"),
    "no keys": _says(b"{}"),
    "keys that are none": _says(b'{"keys": [1, "x", {}, {"kty": "RSA", "n": "?", "e": 7}]}'),
    "deep": _says(b'{"keys":' + b"[" * 5000),
    "elsewhere": _says(b"", 302, Location="http://127.0.0.1:1/"),
    "silent": lambda handler: handler.connection.close(),
}


@pytest.mark.parametrize("which", BAD_SERVERS)
def test_a_keys_server_that_is_not_good_for_anything_lets_nobody_in_and_takes_little_time(
    server: KeyServer, clock: Clock, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "SECONDS", 0.5)
    server.behave = BAD_SERVERS[which]
    to = by_url(server, clock)
    began = time.monotonic()
    assert refusal(to, signed(KEY, "one")) == "503 keys_unavailable"
    assert time.monotonic() - began < 10  # the slow ones would take twenty
    assert refusal(to, signed(KEY, "one")) == "503 keys_unavailable"
    assert server.asked == 1


def test_a_keys_server_that_is_slow_to_agree_on_encryption_takes_little_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetching, "SECONDS", 0.5)

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            connection.sendall(b"\x16\x03\x03\x40\x00")  # a handshake of 16 KiB
            for _ in range(2000):
                connection.sendall(b"\x00")
                time.sleep(0.01)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, args=(listening,), daemon=True)
        thread.start()
        began = time.monotonic()
        with pytest.raises(OSError):
            fetching.fetch(f"https://127.0.0.1:{listening.getsockname()[1]}/keys", 1_000)
        assert time.monotonic() - began < 10  # it would take twenty
        thread.join()


@pytest.mark.parametrize(
    "lie",
    [
        {"kty": "oct", "k": b64(b"0" * 32), "kid": "one"},
        {**jwk(KEY, "one"), "use": "enc"},
        {**jwk(KEY, "one"), "alg": "RS512"},
        {**jwk(KEY, "one"), "d": "AQAB"},
        {**jwk(KEY, "one"), "key_ops": ["encrypt"]},
        {**jwk(KEY, "one"), "key_ops": "verify"},
        jwk(rsa_key(1024), "one"),
    ],
)
def test_keys_that_are_not_for_this_are_not_taken(
    server: KeyServer, clock: Clock, lie: dict[str, Any]
) -> None:
    server.keys = [lie, jwk(NEW, "two")]
    to = by_url(server, clock)
    assert refusal(to, signed(KEY, "one")) == "401 unknown_key"
    assert admit(to, signed(NEW, "two"))


def test_a_token_without_a_key_id_is_checked_by_the_only_key(server: KeyServer, clock: Clock) -> None:
    server.keys = [jwk(KEY, "one")]
    assert admit(by_url(server, clock), signed(KEY, None))
    server.keys = [jwk(KEY, "one"), jwk(NEW, "two")]
    assert refusal(by_url(server, clock), signed(KEY, None)) == "401 unknown_key"
