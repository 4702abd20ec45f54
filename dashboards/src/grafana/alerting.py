"""What dashboards say of alerts: their severities' colours, and which alerts have which runbook."""

from __future__ import annotations

from typing import Final

from restaurant_otel.rules.alerts import CRITICAL, INFO, WARNING, alerts
from restaurant_otel.rules.options import RUNBOOKS_URL, Options

SEVERITIES: Final = {CRITICAL: (CRITICAL, "red"), WARNING: (WARNING, "orange"), INFO: (INFO, "blue")}
"""How each severity is shown, the most urgent first: its words and its colour."""

_ALERTS: Final = tuple(alerts(Options()))


def runbook_url(runbook: str) -> str:
    """Where a runbook is; `restaurant-otel dashboards` puts another place for it, when told one."""
    return f"{RUNBOOKS_URL}/{runbook}.md"


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
            f"**{area}**: " + ", ".join(f"[{name}]({runbook_url(runbook)})" for name, runbook in here)
        )
    return "\n\n".join(lines)
