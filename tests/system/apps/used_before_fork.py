"""The Flask app after it has served 3 requests at import: with --preload the workers are forked after first use."""

from __future__ import annotations

from tests.support.wsgi import wsgi_call
from tests.system.apps.flask_app import app

BEFORE = 3
for _ in range(BEFORE):
    assert wsgi_call(app, path="/items/1").status == 200

__all__ = ["BEFORE", "app"]
