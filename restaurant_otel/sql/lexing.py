"""SQL text cut into tokens, so that literals can be told from names whatever the database's quoting rules.

`tokens` is one pass, linear in the text's length, and never raises: what is not closed (a string, a comment,
a quoted name) ends where the text ends. It does not understand statements; `statements.py` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

SPACE: Final = "space"
LITERAL: Final = "literal"
NAME: Final = "name"
PLACEHOLDER: Final = "placeholder"
OTHER: Final = "other"


@dataclass(frozen=True, slots=True)
class Quoting:
    """What one family of databases takes for a literal, a name, a comment, a placeholder.

    Where a rule is unknown, it is the one that hides more.
    """

    backslashes: bool = False
    r"""``'it\'s'`` is one string."""
    escape_strings: bool = False
    r"""``E'it\'s'`` is one string."""
    dollars: bool = False
    """``$tag$text$tag$`` is a string."""
    q_strings: bool = False
    """``q'[it's]'`` is a string."""
    double_quotes: str = "name"
    """``"text"`` is a ``name``, a ``literal``, or ``either``, which only its place can tell."""
    brackets: bool = False
    """``[text]`` is a name."""
    nested_comments: bool = False
    """``/* one /* two */ still one */`` is one comment."""
    hash_comments: bool = False
    """``# to the end of the line`` is a comment."""
    placeholders: str = r":[^\W\d]\w*+|\?"
    """Besides ``%s`` and ``%(name)s``. Numbers are literals elsewhere, so ``$5`` must not pass for one."""
    unsure: bool = False
    """The rules are guessed: a backslash may end a string or not, so nothing after one is read."""


_POSTGRESQL: Final = Quoting(
    escape_strings=True, dollars=True, nested_comments=True, placeholders=r":[^\W\d]\w*+|\?|\$\d++"
)
_MYSQL: Final = Quoting(backslashes=True, double_quotes="literal", hash_comments=True)
_SQLITE: Final = Quoting(
    double_quotes="either", brackets=True, placeholders=r":[^\W\d]\w*+|\?\d*+|\$[^\W\d]\w*+"
)
_MSSQL: Final = Quoting(brackets=True, nested_comments=True)
_ORACLE: Final = Quoting(q_strings=True, placeholders=r":\w++|\?")
_STANDARD: Final = Quoting()
_UNKNOWN: Final = Quoting(double_quotes="either", dollars=True, unsure=True)

_BY_DIALECT: Final = {
    "postgresql": _POSTGRESQL,
    "cockroachdb": _POSTGRESQL,
    "redshift": _POSTGRESQL,
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
    "sqlite": _SQLITE,
    "mssql": _MSSQL,
    "oracle": _ORACLE,
    "trino": _STANDARD,
    "db2": _STANDARD,
    "firebird": _STANDARD,
}


def quoting(dialect: str) -> Quoting:
    """The rules of a SQLAlchemy dialect, by its name."""
    return _BY_DIALECT.get(dialect, _UNKNOWN)


def tokens(text: str, rules: Quoting) -> Iterator[tuple[str, str]]:
    """The kind and the text of each token, in order. Comments are given as white space."""
    if rules.unsure:
        text = text.partition("\\")[0]
    match = _pattern(rules).match
    position, end = 0, len(text)
    while position < end:
        found = match(text, position)
        if found is None:  # cannot be: the last alternative takes any character
            return
        kind, position = found.lastgroup or OTHER, found.end()
        if kind == "comment":
            if rules.nested_comments and found.group().startswith("/*"):
                position = _end_of_comment(text, found.start())
            kind = SPACE
        elif kind == "number":
            kind = LITERAL
        yield kind, found.group()


def _end_of_comment(text: str, start: int) -> int:
    depth = 0
    for mark in _COMMENT_MARKS.finditer(text, start):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(text)


_COMMENT_MARKS: Final = re.compile(r"/\*|\*/")


@cache
def _pattern(rules: Quoting) -> re.Pattern[str]:
    # Every quantifier over quoted text is possessive and every quoted form also ends at the end of the text:
    # nothing is ever scanned again for a closing mark that does not come, which is what keeps this linear.
    def string(quote: str, backslashes: bool) -> str:
        if backslashes:
            return rf"{quote}(?:[^{quote}\\]++|\\.|{quote}{quote})*+(?:{quote}|\\?\Z)"
        return rf"{quote}(?:[^{quote}]++|{quote}{quote})*+(?:{quote}|\Z)"

    literals = [rf"(?:[bBnNxX]|[uU]&)?{string(chr(39), rules.backslashes)}"]
    if rules.escape_strings:
        literals.insert(0, rf"[eE]{string(chr(39), True)}")
    if rules.q_strings:
        closed = "|".join(
            rf"{opening}(?:(?!{closing}').)*+(?:{closing}'|\Z)"
            for opening, closing in ((r"\[", r"\]"), (r"\{", r"\}"), ("<", ">"), (r"\(", r"\)"))
        )
        literals.insert(0, rf"[nN]?[qQ]'(?:{closed}|(?P<q>.)(?:(?!(?P=q)').)*+(?:(?P=q)'|\Z))")
    if rules.dollars:
        literals.append(r"\$(?P<tag>(?:[^\W\d]\w*+)?)\$(?:(?!\$(?P=tag)\$).)*+(?:\$(?P=tag)\$|\Z)")
    if rules.double_quotes == "literal":
        literals.append(string('"', rules.backslashes))
    else:
        literals.append(r'"(?:[^"]++|"")*+\Z')

    parts = [r"[^\W\d][\w$#]*+", r"`(?:[^`]++|``)*+`"]
    if rules.double_quotes != "literal":
        parts.append(r'"(?:[^"]++|"")*+"')
    if rules.brackets:
        parts.append(r"\[[^\[\]]*+\]")
    part = f"(?:{'|'.join(parts)})"

    comments = [r"--[^\n]*+", r"/\*(?:(?!\*/).)*+(?:\*/|\Z)"]
    if rules.hash_comments:
        comments.append(r"\#[^\n]*+")

    alternatives = (
        r"(?P<space>\s++)",
        f"(?P<comment>{'|'.join(comments)})",
        f"(?P<literal>{'|'.join(literals)})",
        # A cast's two colons are not the start of a placeholder.
        rf"(?P<placeholder>%s\b|%\([^()'\"%]{{0,128}}+\)s|(?<!:)(?:{rules.placeholders}))",
        rf"(?P<name>{part}(?:\s*+\.\s*+(?:{part}|\*))*+)",
        r"(?P<number>\.?\d[\w.]*+(?:(?<=[eE])[+-]\d\w*+)?)",
        r"(?P<other>.)",
    )
    return re.compile("|".join(alternatives), re.DOTALL)
