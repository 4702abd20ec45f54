"""Settings: keyword over environment over default, and a clear word about every mistake."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path
from typing import Any

import pytest

from restaurant_otel import ASGIMiddleware, Settings, SettingsError, WSGIMiddleware, instrument
from restaurant_otel.settings import env_names


def test_a_keyword_wins_over_the_environment_and_that_over_the_default() -> None:
    environ = {"RESTAURANT_OTEL_SERIES_LIMIT": "50"}
    assert Settings.resolve({}).series_limit == 2000
    assert Settings.resolve(environ).series_limit == 50
    assert Settings.resolve(environ, series_limit=70).series_limit == 70


def test_the_variables_of_contrib_are_read_and_ours_win() -> None:
    environ = {
        "OTEL_PYTHON_EXCLUDED_URLS": "a,b",
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": "x-.*",
    }
    settings = Settings.resolve(environ)
    assert settings.excluded_urls is not None
    assert settings.excluded_urls.search("/b")
    assert settings.http_capture_headers_server_request[0].fullmatch("X-Tenant")
    settings = Settings.resolve({**environ, "RESTAURANT_OTEL_EXCLUDED_URLS": "c"})
    assert settings.excluded_urls is not None
    assert not settings.excluded_urls.search("/b")


@pytest.mark.parametrize("kind", [ASGIMiddleware, WSGIMiddleware, instrument])
def test_an_unknown_setting_is_an_error_at_start_that_names_it_and_what_is_allowed(kind: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    with pytest.raises(SettingsError, match=r"'excluded_url'.*Did you mean 'excluded_urls'.*series_limit"):
        kind(app, excluded_url="x")


def test_an_unknown_variable_of_ours_is_an_error_and_those_of_others_are_not() -> None:
    with pytest.raises(SettingsError, match=r"'RESTAURANT_OTEL_METRIC_PATH'.*RESTAURANT_OTEL_METRICS_PATH"):
        Settings.resolve({"RESTAURANT_OTEL_METRIC_PATH": "/m"})
    Settings.resolve({"OTEL_SOMETHING": "x", "PATH": "/bin", "RESTAURANT_OTEL_GROUP": "celery"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("series_limit", "many"),
        ("series_limit", 0),
        ("series_limit", True),
        ("sql", "perhaps"),
        ("metrics_path", "metrics"),
        ("metrics_path", "/a b"),
        ("metrics_networks", "10.0.0.0/99"),
        ("metrics_networks", 5),
        ("metrics_port", 70000),
        ("metrics_host", ""),
        ("excluded_urls", "("),
        ("http_capture_headers_server_request", ["["]),
        ("http_capture_headers_server_request", [5]),
        ("opt_in_attributes", "client.prot"),
        ("exclude_spans", ["neither"]),
        ("server_request_hook", "not callable"),
        ("tracer_provider", object()),
        ("meter_provider", "x"),
        ("resources", "perhaps"),
        ("resources_interval", 0.5),
        ("resources_interval", "often"),
        ("resources_disks", 7),
        ("resources_interfaces", [None]),
        ("resources_mounts", 7),
        ("leak_snapshot_signal", "SIGKILL"),
        ("leak_snapshot_signal", "SIG_DFL"),
        ("leak_snapshot_signal", 10),
    ],
)
def test_a_malformed_value_is_an_error_that_names_the_setting_and_the_value(name: str, value: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.resolve({}, **{name: value})
    assert name in str(caught.value)
    shown = value[0] if isinstance(value, list) else value
    assert repr(shown) in str(caught.value)


def test_a_malformed_variable_is_named_as_it_is_spelled() -> None:
    with pytest.raises(SettingsError, match=r"RESTAURANT_OTEL_SQL.*'maybe'.*true or false"):
        Settings.resolve({"RESTAURANT_OTEL_SQL": "maybe"})


def test_a_token_is_checked_and_never_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.resolve({}, metrics_token="short secret")
    assert "short secret" not in str(caught.value)
    assert Settings.resolve({}, metrics_token="a" * 16).metrics_token == "a" * 16


@pytest.mark.parametrize("off", ["off", "none", "", None, False])
def test_metrics_can_be_switched_off(off: Any) -> None:
    assert Settings.resolve({}, metrics_path=off).metrics_path is None


def test_what_counts_is_chosen_sensibly_unless_patterns_say_it() -> None:
    assert Settings.resolve({}).resources_disks is None
    assert Settings.resolve({"RESTAURANT_OTEL_RESOURCES_DISKS": "auto"}).resources_disks is None
    assert Settings.resolve({"RESTAURANT_OTEL_RESOURCES_MOUNTS": "/, /srv/*"}).resources_mounts == (
        "/",
        "/srv/*",
    )
    assert Settings.resolve({}, resources_interfaces="").resources_interfaces == ()


@pytest.mark.parametrize("spelled", ["SIGUSR2", "usr2", " SigUsr2 "])
def test_a_signal_is_named(spelled: str) -> None:
    assert Settings.resolve({}, leak_snapshot_signal=spelled).leak_snapshot_signal == signal.SIGUSR2
    assert Settings.resolve({}, leak_snapshot_signal="off").leak_snapshot_signal is None


def test_contribs_own_exclusion_list_is_taken() -> None:
    from opentelemetry.util.http import parse_excluded_urls

    settings = Settings.resolve({}, excluded_urls=parse_excluded_urls("health,ready"))
    assert settings.excluded_urls is not None
    assert settings.excluded_urls.search("/ready")


@pytest.mark.parametrize(
    ("pattern", "path", "excluded"),
    [
        ("health", "/health", True),
        ("health", "/api/health/live", True),
        ("health", "/healthcare", False),
        ("health", "/unhealth", False),
        ("/health$", "/api/health", True),
        ("/health$", "/health/live", False),
        ("^/api", "/api/x", True),
        ("^/api", "/v1/api", False),
        ("client/.*/info", "/client/7/info", True),
        ("^/$", "/", True),
        ("^/$", "/x", False),
    ],
)
def test_exclusions_match_whole_segments_of_the_path(pattern: str, path: str, excluded: bool) -> None:
    expression = Settings.resolve({}, excluded_urls=pattern).excluded_urls
    assert expression is not None
    assert bool(expression.search(path)) is excluded


def test_every_setting_explains_itself_and_has_a_variable_or_is_code_only() -> None:
    for field in dataclasses.fields(Settings):
        assert field.metadata["explain"].endswith("."), field.name
        assert bool(env_names(field)) is not field.metadata["code"], field.name


def test_the_arguments_of_contribs_middlewares_are_all_known() -> None:
    names = {
        "excluded_urls", "default_span_details", "server_request_hook", "client_request_hook", "client_response_hook",
        "request_hook", "response_hook", "tracer_provider", "meter_provider", "http_capture_headers_server_request",
        "http_capture_headers_server_response", "http_capture_headers_sanitize_fields", "exclude_spans",
    }  # fmt: skip
    assert names <= {field.name for field in dataclasses.fields(Settings)}


def test_the_table_in_the_docs_names_every_setting() -> None:
    table = Path(__file__).parents[1].joinpath("docs", "settings.md").read_text()
    for field in dataclasses.fields(Settings):
        assert f"`{field.name}`" in table
