"""Flask's route template.

While Flask serves a request, its request object stands in the WSGI environ (``werkzeug.request``) and
tells the matched rule; it is still there when Flask calls ``start_response``, and taken out before the
app returns. An exception that Flask lets through calls no ``start_response``: for that case alone a
signal, sent with the request still in place, leaves the template behind. Called by the face of this
package; nothing here imports Flask unless the app did.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from restaurant_otel.errors import survived
from restaurant_otel.routes.apps import Resolved, note


def resolved(environ: Mapping[str, Any]) -> Resolved | None:
    """The rule that matched, while Flask serves the request; None when none did (404, 405, redirect)."""
    rule = matched(environ)
    return None if rule is None else Resolved(rule.map, rule.rule)


def matched(environ: Mapping[str, Any]) -> Any:
    """The rule itself, of which there is one for each route as long as the app lives."""
    return getattr(environ.get("werkzeug.request"), "url_rule", None)


def url_map(app: Any) -> Any:
    """What tells one Flask app's rules from another's; None if `app` is no Flask app."""
    return getattr(app, "url_map", None) if _is_flask(app) else None


def connect(app: Any) -> None:
    """Have `app` leave the template of requests that end in an exception; idempotent."""
    if _is_flask(app):
        sys.modules["flask"].got_request_exception.connect(_on_exception, sender=app)


def disconnect(app: Any) -> None:
    """Undo `connect`."""
    if _is_flask(app):
        sys.modules["flask"].got_request_exception.disconnect(_on_exception, sender=app)


def _is_flask(app: Any) -> bool:
    flask = sys.modules.get("flask")
    return flask is not None and isinstance(app, flask.Flask)


def _on_exception(*_: Any, **__: Any) -> None:
    try:
        request = sys.modules["flask"].request
        found = resolved(request.environ)
        if found is not None:
            note(request, found)
    except Exception as error:  # noqa: BLE001 - our errors end here
        survived("routes", error)
