"""Django's route template, under WSGI and ASGI.

Django keeps the match on its request object, which nobody outside sees. So the handler's
``resolve_request`` is wrapped, on the handler itself, to leave the template in the environ or scope the
request was made of: no setting, middleware or global of the project changes. Called by the face of this
package; nothing here imports Django.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from restaurant_otel.errors import survived
from restaurant_otel.routes.apps import Resolved, note

_LONGEST: Final = 255


class _Hook:
    """A handler's ``resolve_request`` that leaves the template behind."""

    __slots__ = ("_handler", "original")

    def __init__(self, handler: Any) -> None:
        self._handler = handler
        self.original = handler.resolve_request

    def __call__(self, request: Any) -> Any:
        match = self.original(request)
        try:
            note(request, Resolved(self._handler, readable(match.route)))
        except Exception as error:  # noqa: BLE001 - our errors end here
            survived("routes", error)
        return match


def connect(handler: Any) -> None:
    """Have `handler` leave its templates; nothing happens if it is no Django handler; idempotent."""
    if is_handler(handler) and not isinstance(handler.resolve_request, _Hook):
        handler.resolve_request = _Hook(handler)


def disconnect(handler: Any) -> None:
    """Undo `connect`; whoever has wrapped the method since then stays in place."""
    if not is_handler(handler):
        return
    hook = vars(handler).get("resolve_request")
    if isinstance(hook, _Hook):
        del handler.resolve_request
        if hook.original != handler.resolve_request:  # somebody had wrapped it before us
            handler.resolve_request = hook.original


def is_handler(app: Any) -> bool:
    """Whether `app` is one of Django's handlers, WSGI or ASGI."""
    return callable(getattr(type(app), "resolve_request", None)) and hasattr(type(app), "load_middleware")


@lru_cache(maxsize=2048)
def readable(route: str) -> str:
    """A ``ResolverMatch.route`` as a template: ``users/<int:id>/`` and ``^users/(?P<id>[0-9]+)/$`` alike.

    Routes of ``path()`` stay as they are, with a leading slash. In those of ``re_path()`` a named group
    becomes ``<name>``, any other capturing group ``<var>``, and anchors go.
    """
    template = "/" + _without_regex(route).removeprefix("/")
    return template if len(template) <= _LONGEST else template[: _LONGEST - 1] + "…"


def _without_regex(pattern: str) -> str:
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        end = at + 1
        if char == "\\" and end < len(pattern):
            end += 1
            escaped = pattern[at + 1]
            if escaped not in "AZbB":
                parts.append(pattern[at:end] if escaped.isalnum() else escaped)
        elif char == "[":
            end = _class_end(pattern, at)
            parts.append(pattern[at:end])
        elif char == "(":
            end = _group_end(pattern, at)
            parts.append(_group(pattern[at:end]))
            end += pattern[end : end + 1] in ("?", "*", "+")
        elif char not in "^$?":
            parts.append(char)
        at = end
    return "".join(parts)


def _group(group: str) -> str:
    if group.startswith("(?P<"):
        return f"<{group[4:].partition('>')[0]}>"
    if group.startswith("(?:"):
        return _without_regex(group[3:-1])
    return "" if group.startswith("(?") else "<var>"


def _group_end(pattern: str, start: int) -> int:
    depth = 0
    at = start
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            at += 1
        elif char == "[":
            at = _class_end(pattern, at) - 1
        elif char in "()":
            depth += 1 if char == "(" else -1
            if depth == 0:
                return at + 1
        at += 1
    return len(pattern)


def _class_end(pattern: str, start: int) -> int:
    """Past the ``]`` that closes the character class; one right after ``[`` or ``[^`` is a member."""
    at = start + 1
    at += pattern[at : at + 1] == "^"
    at += pattern[at : at + 1] == "]"
    while at < len(pattern) and pattern[at] != "]":
        at += 2 if pattern[at] == "\\" else 1
    return min(at + 1, len(pattern))
