"""All settings, once: keyword arguments over environment variables over defaults.

Each field of `Settings` carries its environment variables, its reader and its one-line explanation; the
settings table in the docs is made from them. Values are checked here, at start, and nowhere else: what a
`Settings` object holds is ready for use on the request path.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import os
import re
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from restaurant_otel.scorecard import files
from restaurant_otel.scorecard.files import Goals

T = TypeVar("T")

ENV_PREFIX: Final = "RESTAURANT_OTEL_"

LOCAL_NETWORKS: Final = (
    "127.0.0.0/8",
    "::1/128",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
)
"""Loopback, private (RFC 1918, RFC 4193) and link-local addresses."""

ALWAYS_REDACTED: Final = (
    "authorization",
    "cookie",
    "proxy-authorization",
    "set-cookie",
    "x-api-key",
    "x-auth-token",
    "x-csrf-token",
)
"""Headers whose values are never recorded, whatever the settings say."""

OPT_IN_ATTRIBUTES: Final = (
    "client.port",
    "http.request.body.size",
    "http.response.body.size",
    "network.local.address",
    "network.local.port",
    "network.transport",
)
"""The opt-in span attributes of the HTTP conventions that can be had from a server."""


ADMIN_RIGHTS: Final = ("performance:read", "performance:execute", "performance:configure")
"""What a caller of the admin API may be allowed to do."""


class SettingsError(ValueError):
    """A setting is unknown or malformed. The message names it, its value and what is allowed."""


def _fail(name: str, value: object, wanted: str) -> SettingsError:
    return SettingsError(f"restaurant-otel: setting {name!r} is {value!r}, but must be {wanted}")


# --- readers: (setting's name, raw value) -> value ready for use --------------------------------------


def _flag(name: str, raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    words = {
        "true": True,
        "1": True,
        "yes": True,
        "on": True,
        "false": False,
        "0": False,
        "no": False,
        "off": False,
    }
    if isinstance(raw, str) and raw.strip().lower() in words:
        return words[raw.strip().lower()]
    raise _fail(name, raw, "true or false")


def _number(kind: type[int | float], least: float, most: float) -> Callable[[str, object], Any]:
    wanted = f"a {'whole ' if kind is int else ''}number from {least:g} to {most:g}"

    def read(name: str, raw: object) -> Any:
        if isinstance(raw, bool) or not isinstance(raw, (kind, int, str)):
            raise _fail(name, raw, wanted)
        try:
            number = kind(raw)
        except ValueError:
            raise _fail(name, raw, wanted) from None
        if not least <= number <= most:
            raise _fail(name, raw, wanted)
        return number

    return read


def _ratio(name: str, raw: object) -> float | None:
    if raw is None or (isinstance(raw, str) and raw.strip().lower() in {"", "off", "none"}):
        return None
    ratio: float = _number(float, 0, 1)(name, raw)
    return ratio


def _seconds_by_route(name: str, raw: object) -> Mapping[str, float]:
    if not isinstance(raw, Mapping) or not all(isinstance(route, str) for route in raw):
        raise _fail(name, raw, 'a mapping such as {"/reports/{id}": 2.0}')
    return {route: _number(float, 0, 86_400)(name, seconds) for route, seconds in raw.items()}


def _words(name: str, raw: object) -> tuple[str, ...]:
    items: Iterable[object]
    if isinstance(raw, str):
        items = raw.split(",")
    elif isinstance(raw, Iterable):
        items = raw
    else:
        raise _fail(name, raw, "a comma-separated string or a sequence of strings")
    words = []
    for item in items:
        if not isinstance(item, str):
            raise _fail(name, raw, "a comma-separated string or a sequence of strings")
        if item.strip():
            words.append(item.strip())
    return tuple(words)


def _words_of(allowed: tuple[str, ...]) -> Callable[[str, object], frozenset[str]]:
    def read(name: str, raw: object) -> frozenset[str]:
        if isinstance(raw, str) and raw.strip().lower() == "all":
            return frozenset(allowed)
        words = _words(name, raw)
        for word in words:
            if word not in allowed:
                raise _fail(name, word, f"all, or some of: {', '.join(allowed)}")
        return frozenset(words)

    return read


def _patterns(name: str, raw: object) -> tuple[re.Pattern[str], ...]:
    patterns = []
    for word in _words(name, raw):
        try:
            patterns.append(re.compile(word, re.IGNORECASE))
        except re.error as error:
            raise _fail(name, word, f"a regular expression ({error})") from None
    return tuple(patterns)


def _redacted_patterns(name: str, raw: object) -> tuple[re.Pattern[str], ...]:
    return (*_patterns(name, ALWAYS_REDACTED), *_patterns(name, raw))


def _excluded_urls(name: str, raw: object) -> re.Pattern[str] | None:
    # Contrib's own exclusion list is accepted too: it keeps its expressions in a public-looking attribute.
    expressions = getattr(raw, "_excluded_urls", raw)
    words = [] if expressions is None else _words(name, expressions)
    if not words:
        return None
    for word in words:
        try:
            re.compile(word)
        except re.error as error:
            raise _fail(name, word, f"a regular expression ({error})") from None
    # Anchored at the borders of path segments: `health` means /health and /api/health/live, not /healthcare.
    starts, ends = r"(?:^|(?<=/)|(?=/))", r"(?:$|(?<=/)|(?=/))"
    return re.compile("|".join(f"{starts}(?:{word}){ends}" for word in words))


def _patterns_or_auto(name: str, raw: object) -> tuple[str, ...] | None:
    words = _words(name, raw)
    return None if words == ("auto",) else words


def _signal(name: str, raw: object) -> int | None:
    if raw is None or (isinstance(raw, str) and raw.strip().lower() in {"", "off", "none"}):
        return None
    wanted = raw.strip().upper() if isinstance(raw, str) else ""
    found = getattr(signal, wanted if wanted.startswith("SIG") else f"SIG{wanted}", None)
    if isinstance(found, signal.Signals) and found.name in {"SIGUSR1", "SIGUSR2", "SIGHUP", "SIGWINCH"}:
        return int(found)
    raise _fail(name, raw, "SIGUSR1, SIGUSR2, SIGHUP or SIGWINCH, or off")


def _hook(name: str, raw: object) -> Callable[..., Any] | None:
    if raw is None or callable(raw):
        return raw
    raise _fail(name, raw, "a callable or None")


def _provider(method: str) -> Callable[[str, object], Any]:
    def read(name: str, raw: object) -> Any:
        if raw is None or callable(getattr(raw, method, None)):
            return raw
        raise _fail(name, raw, f"a provider with a method {method}(), or None")

    return read


def _path(name: str, raw: object) -> str | None:
    if raw is None or raw is False:
        return None
    if isinstance(raw, str):
        if raw.strip().lower() in {"", "off", "none"}:
            return None
        if raw.startswith("/") and not re.search(r"[\s?#]", raw):
            return raw
    raise _fail(name, raw, 'a path that begins with "/", or "off"')


def _token(name: str, raw: object) -> str | None:
    if raw is None or raw == "":
        return None
    if isinstance(raw, str) and len(raw) >= 16 and raw.isascii() and raw.isprintable() and " " not in raw:
        return raw
    # The value is a secret: it is not repeated in the message.
    raise SettingsError(
        f"restaurant-otel: setting {name!r} must be at least 16 printable ASCII characters, no spaces"
    )


def _networks(name: str, raw: object) -> tuple[str, ...]:
    words = _words(name, raw)
    for word in words:
        try:
            ipaddress.ip_network(word)
        except ValueError as error:
            raise _fail(name, word, f"networks such as 10.0.0.0/8 ({error})") from None
    return words


def _port(name: str, raw: object) -> int | None:
    if raw is None or raw == "":
        return None
    port: int = _number(int, 1, 65535)(name, raw)
    return port


def _host(name: str, raw: object) -> str:
    if isinstance(raw, str) and raw and not re.search(r"\s", raw):
        return raw
    raise _fail(name, raw, "a host name or an address")


_ALGORITHMS: Final = (
    *("HS256", "HS384", "HS512", "RS256", "RS384", "RS512"),
    *("PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"),
)


def _algorithms(name: str, raw: object) -> tuple[str, ...]:
    words = _words(name, raw)
    if not words or not all(word in _ALGORITHMS for word in words):
        raise _fail(name, raw, f"some of: {', '.join(_ALGORITHMS)}")
    if len({word.startswith("HS") for word in words}) > 1:
        # A public key, which everybody knows, could then be used as the secret.
        raise _fail(name, raw, "either HS algorithms, whose key is a secret, or others, whose key is public")
    return words


def read_key(name: str, raw: object) -> str | None:
    """A key given as it is, or as ``file:/path``."""
    if raw is None or raw == "":
        return None
    if not isinstance(raw, str):
        raise SettingsError(f"restaurant-otel: setting {name!r} must be a string")  # a secret: not repeated
    if not raw.startswith("file:"):
        return raw
    try:
        with open(raw[5:], encoding="utf-8") as file:
            return file.read(_LONGEST_KEY).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"restaurant-otel: setting {name!r}: the file cannot be read: {error}") from None


_LONGEST_KEY: Final = 65_536


def _text(name: str, raw: object) -> str | None:
    if raw is None or raw == "":
        return None
    if isinstance(raw, str) and raw.isprintable():
        return raw
    raise _fail(name, raw, "plain text")


def _needed_text(name: str, raw: object) -> str:
    text = _text(name, raw)
    if text is None:
        raise _fail(name, raw, "plain text")
    return text


def _url(name: str, raw: object) -> str | None:
    if raw is None or raw == "":
        return None
    if isinstance(raw, str) and re.fullmatch(r"https?://[^\s/?#]+[^\s#]*", raw):
        return raw
    raise _fail(name, raw, "a URL that begins with http:// or https://")


def _is_here(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _secure_url(name: str, raw: object) -> str | None:
    url = _url(name, raw)
    if url is None or url.startswith("https://") or _is_here(url):
        return url
    raise _fail(name, raw, "an https:// URL (http:// only to this machine)")


def _database(name: str, raw: object) -> str | None:
    if raw is None or raw == "":
        return None
    if isinstance(raw, str) and "://" in raw:
        return raw
    raise SettingsError(
        f"restaurant-otel: setting {name!r} must be a database URL such as postgresql://host/name"
    )


def _origins(name: str, raw: object) -> tuple[str, ...]:
    words = _words(name, raw)
    for word in words:
        if not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+", word):
            raise _fail(name, word, "origins such as https://grafana.example.org, with no path and no star")
    return words


def _roles(name: str, raw: object) -> Mapping[str, tuple[str, ...]]:
    wanted = (
        f"roles such as {{'sre': ['{ADMIN_RIGHTS[0]}']}} or 'sre=performance:read performance:execute, ...'"
    )
    if isinstance(raw, str):
        pairs = [word.partition("=")[::2] for word in _words(name, raw)]
        roles = {role.strip(): tuple(rights.split()) for role, rights in pairs}
    elif isinstance(raw, Mapping):
        roles = {
            str(role): (rights,) if isinstance(rights, str) else tuple(rights) for role, rights in raw.items()
        }
    else:
        raise _fail(name, raw, wanted)
    if not all(role and rights and set(rights) <= set(ADMIN_RIGHTS) for role, rights in roles.items()):
        raise _fail(name, raw, wanted)
    return roles


def _goals(name: str, raw: object) -> Goals:
    try:
        if isinstance(raw, Mapping):
            return files.read(raw)
        if isinstance(raw, str):
            words = [word for word in raw.split(",") if word.strip()]
            return files.load(raw.strip()) if words and "=" not in raw else files.assign(words)
    except files.ObjectivesError as error:
        raise SettingsError(f"restaurant-otel: setting {name!r}: {error}") from None
    raise _fail(name, raw, "a file's path, words such as api.objective=0.3, or a mapping")


def _setting(
    read: Callable[[str, object], Any],
    default: object,
    explain: str,
    *env: str,
    group: str = "Requests",
    keyword_only: bool = False,
) -> Any:
    return dataclasses.field(
        metadata={
            "read": read,
            "raw": default,
            "explain": explain,
            "env": env,
            "group": group,
            "code": keyword_only,
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set, read and checked. Make one with `Settings.resolve`."""

    excluded_urls: re.Pattern[str] | None = _setting(
        _excluded_urls,
        "",
        "Regular expressions, matched against whole segments of the path; what matches is neither traced nor counted.",
        "OTEL_PYTHON_EXCLUDED_URLS",
    )
    http_capture_headers_server_request: tuple[re.Pattern[str], ...] = _setting(
        _patterns,
        (),
        "Names (regular expressions) of request headers to record as span attributes.",
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST",
    )
    http_capture_headers_server_response: tuple[re.Pattern[str], ...] = _setting(
        _patterns,
        (),
        "Names (regular expressions) of response headers to record as span attributes.",
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE",
    )
    http_capture_headers_sanitize_fields: tuple[re.Pattern[str], ...] = _setting(
        _redacted_patterns,
        (),
        "Further headers whose recorded value is `[REDACTED]`; those that carry credentials always are.",
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS",
    )
    opt_in_attributes: frozenset[str] = _setting(
        _words_of(OPT_IN_ATTRIBUTES),
        (),
        f"Opt-in span attributes: `all`, or some of {', '.join(OPT_IN_ATTRIBUTES)}.",
    )
    baggage_attributes: tuple[str, ...] = _setting(
        _words, (), "Baggage keys whose values become span attributes of the same name."
    )
    trace_response_header: bool = _setting(
        _flag, False, "Send the W3C `traceresponse` header, so that a client can find its trace."
    )
    server_timing: bool = _setting(
        _flag,
        False,
        "Send a `Server-Timing` header: time until the response began, in SQL, and in `measure()` blocks.",
    )
    exclude_spans: frozenset[str] = _setting(
        _words_of(("receive", "send")),
        (),
        "Accepted from contrib's middleware; there are no receive and send spans here to exclude.",
    )
    default_span_details: Callable[..., Any] | None = _setting(
        _hook,
        None,
        "Called with the scope or environ; returns the span's name and more attributes.",
        keyword_only=True,
    )
    server_request_hook: Callable[..., Any] | None = _setting(
        _hook, None, "ASGI: called with the span and the scope when a request begins.", keyword_only=True
    )
    client_request_hook: Callable[..., Any] | None = _setting(
        _hook, None, "ASGI: called with the span, the scope and each message received.", keyword_only=True
    )
    client_response_hook: Callable[..., Any] | None = _setting(
        _hook, None, "ASGI: called with the span, the scope and each message sent.", keyword_only=True
    )
    request_hook: Callable[..., Any] | None = _setting(
        _hook, None, "WSGI: called with the span and the environ when a request begins.", keyword_only=True
    )
    response_hook: Callable[..., Any] | None = _setting(
        _hook, None, "WSGI: called with the span, the environ, the status and the headers.", keyword_only=True
    )
    tracer_provider: Any = _setting(
        _provider("get_tracer"),
        None,
        "Where spans go; else the global provider, else one made from the `OTEL_*` variables.",
        group="Telemetry",
        keyword_only=True,
    )
    meter_provider: Any = _setting(
        _provider("get_meter"),
        None,
        "Where metrics go besides /metrics; else the global provider, else one made from the `OTEL_*` variables.",
        group="Telemetry",
        keyword_only=True,
    )
    sql: bool = _setting(
        _flag, True, "Trace and count every query of every SQLAlchemy engine.", group="Telemetry"
    )
    sql_stock_spans: bool = _setting(
        _flag,
        False,
        "Let contrib's own `EngineTracer` make the query spans: its names and attributes, literals included.",
        group="Telemetry",
    )
    sql_slow_seconds: float = _setting(
        _number(float, 0, 86_400),
        0.1,
        "The objective for one query: what takes longer is kept, with its plan.",
        group="Telemetry",
    )
    sql_plans: bool = _setting(
        _flag,
        True,
        "Ask PostgreSQL, SQLite, MySQL and MariaDB once for the plan of each slow SELECT, on a connection of its own.",
        group="Telemetry",
    )
    sql_repeats: int = _setting(
        _number(int, 0, 1_000_000),
        10,
        "How often a request may ask one SELECT before that is told as N+1; 0: never tell.",
        group="Telemetry",
    )
    sql_comments: frozenset[str] = _setting(
        _words_of(("application", "route")),
        (),
        "What to write into a comment behind each statement (sqlcommenter), for the database's own logs: "
        "`all`, or some of application, route.",
        group="Telemetry",
    )
    series_limit: int = _setting(
        _number(int, 1, 1_000_000),
        2000,
        "Attribute sets a metric may have, in the whole process; what goes over is added to one set marked "
        "`otel.metric.overflow`.",
        group="Telemetry",
    )
    tail_sampling_ratio: float | None = _setting(
        _ratio,
        None,
        "Keep every slow or failed trace and this share (0-1) of the others, decided when a request ends; "
        "`off` leaves it to the head sampler. For providers of our own making.",
        group="Telemetry",
    )
    tail_sampling_slow_seconds: float = _setting(
        _number(float, 0, 86_400),
        0.2,
        "Above this a request counts as slow for the tail sampler.",
        group="Telemetry",
    )
    tail_sampling_slow_routes: Mapping[str, float] = _setting(
        _seconds_by_route,
        {},
        "The same for single routes: a mapping of route templates to seconds.",
        group="Telemetry",
        keyword_only=True,
    )
    resources: bool = _setting(
        _flag, True, "Observe what the host, the container and each worker use.", group="Resources"
    )
    resources_interval: float = _setting(
        _number(float, 1, 3600), 15.0, "Seconds between two looks at the resources.", group="Resources"
    )
    resources_disks: tuple[str, ...] | None = _setting(
        _patterns_or_auto,
        "auto",
        "Disks that count, as shell patterns; `auto`: whole disks, none that are made of others.",
        group="Resources",
    )
    resources_interfaces: tuple[str, ...] | None = _setting(
        _patterns_or_auto,
        "auto",
        "Network interfaces that count, as shell patterns; `auto`: those that lead out of the machine or container.",
        group="Resources",
    )
    resources_mounts: tuple[str, ...] | None = _setting(
        _patterns_or_auto,
        "auto",
        "Mount points that count, as shell patterns; `auto`: the root and file systems on disks, each once.",
        group="Resources",
    )
    leak_snapshot_signal: int | None = _setting(
        _signal,
        None,
        "A signal at which a worker begins to trace its memory, and from then on logs which lines of code have grown.",
        group="Resources",
    )
    metrics_path: str | None = _setting(
        _path, "/metrics", "Where the app answers Prometheus; `off` for nowhere.", group="/metrics"
    )
    metrics_networks: tuple[str, ...] = _setting(
        _networks,
        LOCAL_NETWORKS,
        "Networks whose direct requests are answered; all others get the app's own 404.",
        group="/metrics",
    )
    metrics_token: str | None = _setting(
        _token,
        None,
        "When set, `Authorization: Bearer <token>` is required, and suffices from anywhere.",
        group="/metrics",
    )
    metrics_port: int | None = _setting(
        _port, None, "A port of its own for /metrics, besides the app's.", group="/metrics"
    )
    metrics_host: str = _setting(
        _host, "127.0.0.1", "The address that `metrics_port` listens on.", group="/metrics"
    )
    metrics_created: bool = _setting(
        _flag,
        False,
        "Add a `_created` sample to each counter and histogram in OpenMetrics.",
        group="/metrics",
    )
    admin: str | None = _setting(
        _path,
        None,
        "Where the app answers the admin API, such as `/-/performance`; `off` for nowhere.",
        group="Admin API",
    )
    admin_algorithms: tuple[str, ...] = _setting(
        _algorithms,
        "HS256",
        "How tokens are signed, the only ways that are accepted: HS256, HS384, HS512 by a secret; RS, PS, ES (256, "
        "384, 512) and EdDSA by a public key.",
        group="Admin API",
    )
    admin_key: str | None = _setting(
        read_key,
        None,
        "The secret (32 bytes or more) or the public key (PEM) that tokens are checked with; `file:/path` reads it "
        "from a file at start.",
        group="Admin API",
    )
    admin_jwks_url: str | None = _setting(
        _secure_url, None, "Where public keys are fetched from instead, as a JWK set.", group="Admin API"
    )
    admin_issuer: str | None = _setting(
        _text, None, "The `iss` that tokens must have; needed with `admin_jwks_url`.", group="Admin API"
    )
    admin_audience: str = _setting(
        _needed_text, "restaurant-otel", "The `aud` that tokens must have.", group="Admin API"
    )
    admin_leeway: float = _setting(
        _number(float, 0, 300), 30.0, "Seconds by which clocks may differ.", group="Admin API"
    )
    admin_roles: Mapping[str, tuple[str, ...]] = _setting(
        _roles,
        "admin=performance:read performance:execute performance:configure",
        "What roles may do, besides what a token's scope says.",
        group="Admin API",
    )
    admin_roles_claim: str = _setting(
        _needed_text,
        "roles",
        "The claim that holds a token's roles; dots lead inside: `realm_access.roles`.",
        group="Admin API",
    )
    admin_origins: tuple[str, ...] = _setting(
        _origins, (), "Origins whose pages may call it from a browser, such as Grafana's.", group="Admin API"
    )
    admin_alerts_url: str | None = _setting(
        _url, None, "The Alertmanager or Prometheus that `/alerts` asks.", group="Admin API"
    )
    admin_database_url: str | None = _setting(
        _database,
        None,
        "The database that `/health` tries and `/advise` looks at, as SQLAlchemy spells it; a user who may read "
        "suffices.",
        group="Admin API",
    )

    score: bool = _setting(
        _flag, True, "Work out the performance score every half a minute, and export it.", group="Score"
    )
    objectives: Goals = _setting(
        _goals,
        "",
        "What the score is measured by: a TOML file's path, or words such as `api.objective=0.3,cache.weight=0`.",
        group="Score",
    )

    @classmethod
    def resolve(cls, environ: Mapping[str, str] | None = None, /, **given: object) -> Settings:
        """Settings from keyword arguments, then `environ` (default: the process's), then defaults.

        Raises:
            SettingsError: a keyword or a ``RESTAURANT_OTEL_*`` variable is unknown, or a value is malformed.
        """
        environ = os.environ if environ is None else environ
        known = {field.name: field for field in dataclasses.fields(cls)}
        for name in given:
            if name not in known:
                raise SettingsError(_unknown("setting", name, known))
        variables = {variable for field in known.values() for variable in env_names(field)} | set(
            PROCESS_VARIABLES
        )
        for variable in environ:
            if variable.startswith(ENV_PREFIX) and variable not in variables:
                raise SettingsError(_unknown("environment variable", variable, variables))
        return cls(**{name: _read(field, given, environ) for name, field in known.items()})


PROCESS_VARIABLES: Final = {
    "RESTAURANT_OTEL_WORKERS_DIR": "A folder that the workers of one app share, where they cannot find each other.",
    "RESTAURANT_OTEL_GROUP": "A name that the workers of one app share, where they cannot find each other.",
    "RESTAURANT_OTEL_TOKEN": "The token that `restaurant-otel top` and `doctor` show to an app.",
    "RESTAURANT_OTEL_CACHE_URL": "Where `restaurant-otel cache` finds the cache, unless told by `--url`.",
}
"""Read by parts that no app's settings reach; not keywords."""


def env_names(field: dataclasses.Field[Any]) -> tuple[str, ...]:
    """The environment variables that a setting reads, the first found wins; none for code-only settings."""
    return () if field.metadata["code"] else (ENV_PREFIX + field.name.upper(), *field.metadata["env"])


def _read(field: dataclasses.Field[Any], given: Mapping[str, object], environ: Mapping[str, str]) -> Any:
    read: Callable[[str, object], Any] = field.metadata["read"]
    if field.name in given:
        return read(field.name, given[field.name])
    for variable in env_names(field):
        if variable in environ:
            return read(variable, environ[variable])
    return read(field.name, field.metadata["raw"])


def _unknown(what: str, name: str, allowed: Iterable[str]) -> str:
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"restaurant-otel: unknown {what} {name!r}.{hint} Allowed: {', '.join(names)}"
