"""What tests stand on: callers in process, real servers and receivers as processes, readers of telemetry.

`asgi` and `wsgi` call an app in this process; `processes`, `servers`, `prometheus`, `collector` run the
real things on free loopback ports; `otlp` receives what an app pushes; `readings` reads metrics, from the
registry or from a scrape, in one form; `load` generates requests and counts the answers. The fixtures that
start and always stop them are in `tests/conftest.py`. Nothing here knows how the package works inside.
"""
