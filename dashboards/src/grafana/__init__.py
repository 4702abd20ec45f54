"""The Grafana dashboards: one module each, with its `BOARD`; `panels` and `board` are what they are made of.

`files` gives what is in ``dashboards/grafana/``. An installed library ships that JSON, and none of this.
"""

from __future__ import annotations


def files() -> dict[str, str]:
    """Path under ``dashboards/`` -> contents, of every dashboard. Pure."""
    from dashboards.src.grafana import alerts, api, cache, database, overview, resources, slo
    from dashboards.src.grafana.board import text_of

    modules = (overview, api, database, cache, resources, alerts, slo)
    return {f"grafana/dashboards/{module.BOARD.uid}.json": text_of(module.BOARD) for module in modules}
