"""The admin API's answers as HTML, for a person with a browser: plain tables, and one page to ask from.

`table` shows any answer; `console` is the page at the API's root. It holds no figures: they are fetched with the
token that is typed into it, which stays in the page and goes when the page does. Everything shown is escaped, and no
script but the console's own can run (`HEADERS`).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem;color-scheme:light dark}
table{border-collapse:collapse;margin:.3rem 0}th,td{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0;
border-bottom:1px solid #8884}td.n{text-align:right;font-variant-numeric:tabular-nums}input{font:inherit;width:30rem}
nav a{margin-right:1rem}h1{font-size:1.3rem}.problem{color:#c33}
"""

_SCRIPT: Final = """
const show = async path => {
  const answer = await fetch(path, {headers: {
    Accept: "text/html", Authorization: "Bearer " + document.getElementById("token").value.trim()}});
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  document.getElementById("answer").replaceChildren(...page.body.childNodes);
};
document.querySelectorAll("nav a").forEach(link => link.addEventListener("click", event => {
  event.preventDefault(); show(link.href); }));
"""


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def table(title: str, answer: Any) -> str:
    """`answer` (what JSON can hold) as a page of tables."""
    return _page(title, f"<h1>{escape(title)}</h1>{_shown(answer)}")


def console(paths: Iterable[str]) -> str:
    """The page to ask from."""
    links = "".join(f'<a href="{escape(path.lstrip("/"))}">{escape(path)}</a>' for path in paths)
    return _page(
        "Performance",
        "<h1>Performance</h1><p><label>Token <input id=token type=password autocomplete=off></label></p>"
        f"<nav>{links}</nav><main id=answer></main>",
        f"<script>{_SCRIPT}</script>",
    )


def _page(title: str, body: str, script: str = "") -> str:
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
        '<meta name=viewport content="width=device-width"><style>'
        f"{_STYLE}</style><body>{body}{script}</body></html>"
    )


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        rows = "".join(f"<tr><th>{_words(name)}</th>{_cell(held)}</tr>" for name, held in value.items())
        return f"<table>{rows}</table>"
    if isinstance(value, list):
        return _list(value)
    return _text(value)


def _list(items: list[Any]) -> str:
    if not items:
        return "none"
    if not all(isinstance(item, Mapping) for item in items):
        return "<br>".join(_shown(item) for item in items)
    names = list(dict.fromkeys(name for item in items for name in item))
    head = "".join(f"<th>{_words(name)}</th>" for name in names)
    rows = "".join(f"<tr>{''.join(_cell(item.get(name)) for name in names)}</tr>" for item in items)
    return f"<table><tr>{head}</tr>{rows}</table>"


def _cell(value: Any) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f"<td{' class=n' if number else ''}>{_shown(value)}</td>"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))


def _words(name: str) -> str:
    return escape(str(name).replace("_", " "))
