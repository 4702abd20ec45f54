"""What dashboards say of alerts: their severities' colours, and which alerts have which runbook."""

from __future__ import annotations

from typing import Final

from restaurant_otel.rules import runbooks
from restaurant_otel.rules.alerts import CRITICAL, INFO, WARNING, alerts
from restaurant_otel.rules.options import Options

SEVERITIES: Final = {CRITICAL: (CRITICAL, "red"), WARNING: (WARNING, "orange"), INFO: (INFO, "blue")}
"""How each severity is shown, the most urgent first: its words and its colour."""

_ALERTS: Final = tuple(alerts(Options()))


def alerts_with(runbook: str) -> list[str]:
    """The names of the alerts that have this runbook, each once. KeyError if there is none."""
    names = list(dict.fromkeys(each.name for each in _ALERTS if each.runbook == runbook))
    if not names:
        raise KeyError(runbook)
    return names


def runbook_list() -> str:
    """Every alert with a link to its runbook, by dashboard, in Markdown."""
    lines = []
    for area in dict.fromkeys(each.area for each in _ALERTS):
        here = dict.fromkeys((each.name, each.runbook) for each in _ALERTS if each.area == area)
        lines.append(
            f"**{area}**: " + ", ".join(f"[{name}]({runbooks.link(runbook)})" for name, runbook in here)
        )
    return "\n\n".join(lines)
