"""Alertmanager's configuration: who is told of what, how often, and what keeps silent when something worse is known.

Alertmanager reads no environment, so its addresses are filled in when the file is made (`Receivers.from_environment`).
Secrets stay in files of their own, which Alertmanager reads itself: none is ever written into the configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from restaurant_otel.rules.alerts import CRITICAL, INFO, WARNING
from restaurant_otel.rules.options import Options

VARIABLES: Final = {
    "ALERTS_WEBHOOK_URL": "Where alerts are posted as JSON.",
    "ALERTS_WEBHOOK_URL_FILE": "A file with that address, if it is a secret; for Alertmanager 0.26 or newer.",
    "ALERTS_SLACK_URL_FILE": "A file with the address of Slack's incoming webhook.",
    "ALERTS_SLACK_CHANNEL": "The channel, such as #alerts.",
    "ALERTS_EMAIL_TO": "Who gets e-mail.",
    "ALERTS_EMAIL_FROM": "Whom it comes from.",
    "ALERTS_SMTP_HOST": "The mail server, host:port.",
    "ALERTS_SMTP_USERNAME": "The user at the mail server, if it wants one.",
    "ALERTS_SMTP_PASSWORD_FILE": "A file with that user's password; for Alertmanager 0.25 or newer.",
}
"""The environment variables that `rules export` reads, with what they mean."""


class ReceiversError(ValueError):
    """The receivers' variables do not fit together. The message says which is wrong and what is missing."""


@dataclass(frozen=True, slots=True)
class Receivers:
    """Where notifications go. With none, Alertmanager groups and shows alerts, and tells nobody."""

    webhook_url: str = ""
    webhook_url_file: str = ""
    slack_url_file: str = ""
    slack_channel: str = ""
    email_to: str = ""
    email_from: str = ""
    smtp_host: str = ""
    smtp_username: str = ""
    smtp_password_file: str = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Receivers:
        """What the variables say.

        Raises ReceiversError.
        """
        for variable in environ:
            if variable.startswith("ALERTS_") and variable not in VARIABLES:
                raise ReceiversError(f"unknown variable {variable}; there are {', '.join(VARIABLES)}")
        given = {name.removeprefix("ALERTS_").lower(): environ.get(name, "").strip() for name in VARIABLES}
        if given["webhook_url"] and given["webhook_url_file"]:
            raise ReceiversError("ALERTS_WEBHOOK_URL and ALERTS_WEBHOOK_URL_FILE exclude each other")
        if given["webhook_url"] and not re.match(r"https?://\S+$", given["webhook_url"]):
            raise ReceiversError("ALERTS_WEBHOOK_URL must be a URL such as https://example.org/alerts")
        for first, *others in (
            ("slack_url_file", "slack_channel"),
            ("email_to", "email_from", "smtp_host"),
            ("smtp_username", "smtp_password_file"),
        ):
            missing = [name for name in others if given[first] and not given[name]]
            if missing:
                names = " and ".join(f"ALERTS_{name.upper()}" for name in missing)
                raise ReceiversError(f"ALERTS_{first.upper()} needs {names} as well")
        return cls(**given)


def configuration(o: Options, receivers: Receivers | None = None) -> dict[str, Any]:
    """The whole configuration, as Alertmanager reads it."""
    to = receivers or Receivers()
    return {
        **({"global": found} if (found := _global(to)) else {}),
        "route": {
            "receiver": INFO,
            "group_by": ["alertname", *o.by],
            "group_wait": o.time("30s"),
            "group_interval": o.time("5m"),
            "repeat_interval": o.time("1d"),
            "routes": [
                _route(o, CRITICAL, group_wait="10s", repeat_interval="1h"),
                _route(o, WARNING, group_wait="30s", repeat_interval="12h"),
                _route(o, INFO, group_wait="5m", repeat_interval="3d"),
            ],
        },
        "inhibit_rules": _inhibitions(o),
        "receivers": [
            {"name": severity, **_receiver(to, severity)} for severity in (CRITICAL, WARNING, INFO)
        ],
    }


def _route(o: Options, severity: str, **times: str) -> dict[str, Any]:
    return {
        "matchers": [f'severity="{severity}"'],
        "receiver": severity,
        **{name: o.time(length) for name, length in times.items()},
    }


SAME_THING: Final = (
    "instance",
    "worker",
    "slo",
    "http_route",
    "restaurant_cache_name",
    "db_client_connection_pool_name",
    "system_filesystem_mountpoint",
)
"""Labels in which an alert and the one that silences it must agree; both may lack one."""


def _inhibitions(o: Options) -> list[dict[str, Any]]:
    return [
        {  # whoever has been woken by the one need not be told the other
            "source_matchers": [f'severity="{CRITICAL}"'],
            "target_matchers": [f'severity=~"{WARNING}|{INFO}"'],
            "equal": ["area", *o.by, *SAME_THING],
        },
        {  # of what does not answer, nothing else is known
            "source_matchers": ['alertname="TargetDown"'],
            "target_matchers": ['alertname!="TargetDown"'],
            "equal": [*o.by, "instance"],
        },
        {  # nor is it news that its service does badly
            "source_matchers": ['alertname="TargetDown"'],
            "target_matchers": ['alertname=~"DataMissing|ScorePoor|ScoreFair"'],
            "equal": list(o.by),
        },
    ]


def _global(to: Receivers) -> dict[str, Any]:
    if not to.email_to:
        return {}
    login = (
        {"smtp_auth_username": to.smtp_username, "smtp_auth_password_file": to.smtp_password_file}
        if to.smtp_username
        else {}
    )
    return {"smtp_smarthost": to.smtp_host, "smtp_from": to.email_from, **login}


def _receiver(to: Receivers, severity: str) -> dict[str, Any]:
    """The ways to be told of alerts of this severity. E-mail is for critical ones, unless there is nothing else."""
    ways: dict[str, Any] = {}
    if to.webhook_url or to.webhook_url_file:
        address = {"url": to.webhook_url} if to.webhook_url else {"url_file": to.webhook_url_file}
        ways["webhook_configs"] = [{**address, "send_resolved": True}]
    if to.slack_url_file:
        ways["slack_configs"] = [
            {
                "api_url_file": to.slack_url_file,
                "channel": to.slack_channel,
                "send_resolved": True,
                "title": _TITLE,
                "text": _TEXT,
            }
        ]
    if to.email_to and (severity == CRITICAL or not ways):
        ways["email_configs"] = [{"to": to.email_to, "send_resolved": True, "headers": {"Subject": _TITLE}}]
    return ways


_TITLE: Final = "{{ .Status | toUpper }}, {{ .CommonLabels.severity }}: {{ .CommonLabels.alertname }}"
_TEXT: Final = (
    "{{ range .Alerts }}{{ .Annotations.summary }}\n{{ .Annotations.description }}\n"
    "<{{ .Annotations.runbook_url }}|Runbook> <{{ .Annotations.dashboard_url }}|Dashboard>\n{{ end }}"
)
