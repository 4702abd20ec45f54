"""Variables: what the app was told, and whether it can do that."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Final

from restaurant_otel.diagnosis.finding import Finding, Patient
from restaurant_otel.settings import Settings, SettingsError
from restaurant_otel.telemetry import exporter_names


def check_disabled(patient: Patient) -> Iterator[Finding]:
    """OTEL_SDK_DISABLED switches everything off."""
    if patient.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield Finding(
            "disabled",
            "fault",
            "OTEL_SDK_DISABLED=true switches all telemetry off.",
            "Take the variable away.",
        )


def check_settings(patient: Patient) -> Iterator[Finding]:
    """RESTAURANT_OTEL_* must be known, and readable."""
    try:
        settings = Settings.resolve(dict(patient.environ))
    except SettingsError as error:
        message = str(error).removeprefix("restaurant-otel: ")
        if "Did you mean" in message:  # then all other names are no help
            message = message.partition(" Allowed: ")[0]
        yield Finding("settings", "fault", f"The app does not start: {message}", "Correct the variable.")
        return
    if settings.admin is not None:
        yield from _check_admin(settings)


def _check_admin(settings: Settings) -> Iterator[Finding]:
    from restaurant_otel.auth import Access

    try:
        Access(settings)
    except SettingsError as error:
        message = str(error).removeprefix("restaurant-otel: ")
        yield Finding("admin", "fault", f"The app does not start: {message}", "Set it, or leave `admin` off.")


def check_exporters(patient: Patient) -> Iterator[Finding]:
    """Exporters that are asked for must be installed."""
    asked = False
    for signal in ("TRACES", "METRICS"):
        for name in exporter_names(signal, patient.environ):
            asked = asked or signal == "TRACES"
            if not entry_points(group=f"opentelemetry_{signal.lower()}_exporter", name=name):
                yield Finding(
                    "exporter",
                    "fault",
                    f"The {signal.lower()} exporter {name!r} is asked for and not installed.",
                    "For OTLP: pip install 'restaurant-otel[otlp]'; else install its package, or correct "
                    f"OTEL_{signal}_EXPORTER.",
                )
    if not asked:
        yield Finding(
            "no-traces",
            "warning",
            "No exporter for traces is asked for: there are metrics at /metrics, and no traces anywhere.",
            "Set OTEL_EXPORTER_OTLP_ENDPOINT to a collector, such as http://localhost:4318.",
        )


_PORTS: Final = {"4317": "grpc", "4318": "http/protobuf"}


def check_protocol(patient: Patient) -> Iterator[Finding]:
    """4317 speaks gRPC, 4318 HTTP."""
    protocol = patient.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf").strip()
    endpoint = patient.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    spoken = _PORTS.get(endpoint.rstrip("/").rpartition(":")[2])
    if spoken is not None and not protocol.startswith(spoken.partition("/")[0]):
        yield Finding(
            "protocol",
            "fault",
            f"{endpoint} is the usual port for {spoken}, and the app speaks {protocol}.",
            f"Set OTEL_EXPORTER_OTLP_PROTOCOL={spoken}, or take the other port.",
        )


def check_sampler(patient: Patient) -> Iterator[Finding]:
    """A sampler may keep nothing."""
    sampler = patient.environ.get("OTEL_TRACES_SAMPLER", "")
    ratio = patient.environ.get("OTEL_TRACES_SAMPLER_ARG", "")
    if sampler.endswith("always_off") or ("ratio" in sampler and ratio.strip() in {"0", "0.0"}):
        yield Finding(
            "sampler",
            "fault",
            f"OTEL_TRACES_SAMPLER={sampler} {ratio}".rstrip() + " keeps no trace.",
            "Set parentbased_traceidratio and OTEL_TRACES_SAMPLER_ARG=0.1, or take the variable away.",
        )


def check_name(patient: Patient) -> Iterator[Finding]:
    """An app without a name cannot be found."""
    named = patient.environ.get("OTEL_SERVICE_NAME") or "service.name=" in patient.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    if not named:
        yield Finding(
            "no-name",
            "warning",
            "The app has no name: it appears as unknown_service.",
            "Set OTEL_SERVICE_NAME.",
        )
