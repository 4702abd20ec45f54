"""For each test app: which servers run it, and how its framework writes the routes of the pages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class App:
    """`target` is what a server is told; `item` is the template of an item's page, None without routes."""

    target: str
    servers: tuple[str, ...]
    item: str | None
    sql: bool = True

    @property
    def name(self) -> str:
        """A short name for test ids."""
        return self.target.removeprefix("tests.system.apps.")

    def page(self, path: str) -> str | None:
        """The template of a page without parameters."""
        return None if self.item is None else path


def _app(target: str, *servers: str, item: str | None, sql: bool = True) -> App:
    return App(f"tests.system.apps.{target}", servers, item, sql=sql)


STARLETTE = _app(
    "starlette_app:app", "uvicorn", "hypercorn", "granian", "gunicorn-uvicorn", item="/items/{id}"
)
FASTAPI = _app("fastapi_app:app", "uvicorn", "hypercorn", "granian", "gunicorn-uvicorn", item="/items/{id}")
DJANGO_ASGI = _app("django_app:asgi", "uvicorn", "hypercorn", item="/items/<str:id>")
BARE_ASGI = _app("bare_asgi:app", "hypercorn", "uvicorn", "granian", item=None, sql=False)
FLASK = _app("flask_app:app", "gunicorn", "gunicorn-gthread", "granian-wsgi", item="/items/<id>")
DJANGO = _app("django_app:app", "gunicorn-gthread", "gunicorn", "granian-wsgi", item="/items/<str:id>")
BARE_WSGI = _app("bare_wsgi:app", "gunicorn", "gunicorn-gthread", "granian-wsgi", item=None, sql=False)

EVERY_APP = (STARLETTE, FASTAPI, DJANGO_ASGI, BARE_ASGI, FLASK, DJANGO, BARE_WSGI)
