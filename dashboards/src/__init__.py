"""What makes the files under ``dashboards/`` from the catalogue. ``python -m dashboards.src`` runs it.

A part is a module with ``files() -> dict[str, str]``: each path under ``dashboards/`` and its contents. `PARTS` in
``__main__`` lists them.
"""
