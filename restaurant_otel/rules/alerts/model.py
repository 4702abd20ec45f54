"""What an alert is, and the words that all of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from restaurant_otel.rules import runbooks
from restaurant_otel.rules.options import Options

VALUE: Final = "{{ $value | humanize }}"
PERCENT: Final = "{{ $value | humanizePercentage }}"
DURATION: Final = "{{ $value | humanizeDuration }}"

CRITICAL, WARNING, INFO = "critical", "warning", "info"

SEVERITIES: Final = (CRITICAL, WARNING, INFO)
"""The most urgent first: now; today; when there is time."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule.

    `area` names the dashboard that shows it, `runbook` the page of docs/runbooks. `hold` is for how long the condition
    must be true. `summary` and `description` are templates of Prometheus's. `slo` and `window` tell the alerts of one
    name apart.
    """

    name: str
    severity: str
    area: str
    runbook: str
    expr: str
    hold: str
    summary: str
    description: str
    slo: str = ""
    window: str = ""

    def data(self, o: Options) -> dict[str, Any]:
        """As Prometheus reads it."""
        labels = {"severity": self.severity, "area": self.area}
        if self.slo:
            labels.update(slo=self.slo, window=self.window)
        variables = "&".join(f"var-{label}={{{{ $labels.{label} | urlquery }}}}" for label in o.by)
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": o.time(self.hold),
            "labels": labels,
            "annotations": {
                "summary": self.summary.replace("{service}", _service(o)),
                "description": self.description.replace("{service}", _service(o)),
                "runbook_url": runbooks.address(self.runbook, o.grafana_url, o.runbooks_url),
                "runbook_command": f"restaurant-otel rules runbook {self.name}",
                "dashboard_url": f"{o.grafana_url}/d/restaurant-{self.area}?{variables}",
            },
        }


def _service(o: Options) -> str:
    return " ".join(f"{{{{ $labels.{label} }}}}" for label in o.by)


def where(*labels: str) -> str:
    """The values of an alert's labels, as its texts have them."""
    return " ".join(f"{{{{ $labels.{label} }}}}" for label in labels)
