"""Where the page for an alert is: in Grafana, as a panel of the dashboard of runbooks, or where a site keeps its own.

Every Grafana that has our dashboards has that one too, so a link to it always leads somewhere.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

DASHBOARD: Final = "restaurant-runbooks"
"""The uid of the dashboard that has every page as a panel."""

_LINK: Final = re.compile(rf"/d/{DASHBOARD}\?viewPanel=(\d+)")


def panel_id(page: str) -> int:
    """The panel of a page: the same in every version, so that rules and dashboards need not be of one age."""
    return zlib.crc32(page.encode()) % 1_000_000 + 1


def link(page: str) -> str:
    """A page's address on whatever Grafana the reader is."""
    return f"/d/{DASHBOARD}?viewPanel={panel_id(page)}"


def address(page: str, grafana_url: str, runbooks_url: str = "") -> str:
    """A page's full address: ``<runbooks_url>/<page>.md``, if there is such a place, else in Grafana."""
    return f"{runbooks_url}/{page}.md" if runbooks_url else f"{grafana_url}{link(page)}"


def moved(text: str, pages: list[str], runbooks_url: str) -> str:
    """`text` with links to these pages' panels made links to ``<runbooks_url>/<page>.md``."""
    page_of = {panel_id(page): page for page in pages}
    return _LINK.sub(lambda found: f"{runbooks_url}/{page_of[int(found[1])]}.md", text)
