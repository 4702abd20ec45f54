"""The Grafana dashboards: one module each, with its `BOARD`; `panels` and `board` are what they are made of.

`files` gives what is in ``dashboards/grafana/``. An installed library ships that JSON, and none of this.
"""

from __future__ import annotations


def files() -> dict[str, str]:
    """Path under ``dashboards/`` -> contents, of every dashboard, in the classic schema and in v2. Pure."""
    from dashboards.src.grafana import (
        alerts,
        api,
        board,
        cache,
        database,
        overview,
        resources,
        runbooks,
        slo,
        v2,
    )

    modules = (overview, api, database, cache, resources, alerts, slo, runbooks)
    return {
        f"grafana/{folder}/{module.BOARD.uid}.json": text_of(module.BOARD)
        for folder, text_of in (("dashboards", board.text_of), ("v2", v2.text_of))
        for module in modules
    }
