"""Runbooks: every page of docs/runbooks as a panel, where the alerts' links lead."""

from __future__ import annotations

import re
from typing import Final

from dashboards.src.grafana.alerting import alerts_with
from dashboards.src.grafana.board import Board, Section
from dashboards.src.grafana.panels import text_panel
from restaurant_otel.bundled import runbooks
from restaurant_otel.rules.alerts import alerts
from restaurant_otel.rules.options import Options
from restaurant_otel.rules.runbooks import DASHBOARD, link, panel_id

_TITLES: Final = {"api": "API", "slo": "SLO"}


def _page(name: str) -> object:
    """A page as a panel: its title, its links to other pages, and the reader's jobs in its queries."""
    title, _, content = (runbooks() / f"{name}.md").read_text(encoding="utf-8").partition("\n")
    content = re.sub(r"\]\(([\w-]+)\.md\)", lambda found: f"]({link(found[1])})", content)
    content = re.sub(r"\[([^\]]*)\]\(\.\./[^)]*\)", r"\1", content)  # what is explained elsewhere
    content = content.replace("\n## ", "\n#### ")
    return text_panel(
        title.removeprefix("# "),
        content.replace('job="shop"', 'job=~"${job:pipe}"').strip(),
        description=f"Alerts: {', '.join(alerts_with(name))}.",
        size=(12, 16),
        number=panel_id(name),
    )


def _sections() -> list[Section]:
    every = alerts(Options())
    pages = {
        area: dict.fromkeys(each.runbook for each in every if each.area == area)
        for area in dict.fromkeys(each.area for each in every)
    }
    return [
        Section(_TITLES.get(area, area.capitalize()), [_page(name) for name in names])
        for area, names in pages.items()
    ]


BOARD: Final = Board(
    DASHBOARD,
    "Restaurant: runbooks",
    "What each alert means, where to look first, and what usually helps. Alerts link here.",
    _sections(),
)
