"""Names of values: checked, spelled for Redis, matched by patterns, made from arguments.

A *name* is what the app calls a value (``menu:5``), shortened if it is too long; everything in this
package goes by names. In Redis a name is ``<namespace>:<version>:{<name>}``; the braces make a key and its
lease share a cluster slot.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import hashlib
import inspect
import re
import string
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

LONGEST: Final = 200
"""Characters; a longer key is cut and ends in a hash of the whole."""
_KEPT: Final = 150
MOST_TAGS: Final = 32


def checked(key: str) -> str:
    """`key` as a name. TypeError or ValueError for what is no key: that is a mistake in the app's code."""
    if not isinstance(key, str):
        raise TypeError(f"a cache key is text, not {type(key).__qualname__}")
    if not key or not key.isprintable():
        raise ValueError(f"a cache key is printable text, not {key!r}")
    if len(key) > LONGEST:
        digest = hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        return f"{key[:_KEPT]}~{digest}"
    return key


def checked_pattern(pattern: str) -> str:
    """`pattern`, if it is one."""
    if not isinstance(pattern, str) or not pattern or not pattern.isprintable() or len(pattern) > LONGEST:
        raise ValueError(f"a pattern is printable text of up to {LONGEST} characters, not {pattern!r}")
    return pattern


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """`tags`, each once, if they are tags and not too many."""
    if isinstance(tags, str):
        raise TypeError(f"tags are several texts, such as ({tags!r},)")
    distinct = tuple(dict.fromkeys(tags))
    if len(distinct) > MOST_TAGS:
        raise ValueError(f"a value bears up to {MOST_TAGS} tags, not {len(distinct)}")
    for tag in distinct:
        if not isinstance(tag, str) or not tag or not tag.isprintable() or len(tag) > LONGEST:
            raise ValueError(f"a tag is printable text of up to {LONGEST} characters, not {tag!r}")
    return distinct


_BRACES: Final = re.compile(r"[{}%]")


class Keyspace:
    """The Redis keys of one namespace and version."""

    def __init__(self, namespace: str, version: str | int) -> None:
        for part in (namespace, str(version)):
            if not re.fullmatch(r"[A-Za-z0-9_.\-]{1,64}", part):
                raise ValueError(
                    f"namespace and version are up to 64 letters, digits, '_', '.' and '-', not {part!r}"
                )
        self.prefix = f"{namespace}:{version}:"
        # What the whole namespace shares; outside of the values' `{name}`, and together on one slot.
        self.sequence = f"{self.prefix}~{{marks}}sequence"
        self.patterns = f"{self.prefix}~{{marks}}patterns"

    def value(self, name: str) -> str:
        """Where the value is."""
        if "{" in name or "}" in name or "%" in name:
            name = _BRACES.sub(lambda found: f"%{ord(found[0]):02X}", name)
        return f"{self.prefix}{{{name}}}"

    def lease(self, name: str) -> str:
        """Who may compute the value."""
        return self.value(name) + "lease"

    def lock(self, name: str) -> str:
        """Who holds the app's lock."""
        return self.value(name) + "lock"

    def tag(self, tag: str) -> str:
        """The sequence number of a tag's last deletion."""
        return f"{self.prefix}~{{marks}}tag:{tag}"

    def name(self, key: str) -> str | None:
        """The name of the value kept under Redis key `key`; None where it is another kind of key."""
        if not key.startswith(self.prefix + "{") or not key.endswith("}"):
            return None
        return re.sub(r"%([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), key[len(self.prefix) + 1 : -1])

    def glob(self, pattern: str) -> str:
        """`pattern` over names as a Redis pattern over the keys of values."""
        pattern = pattern.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
        return f"{self.prefix}{{{pattern}}}*"  # the star takes leases along

    def everything(self) -> str:
        """A Redis pattern over all the values and leases."""
        return f"{self.prefix}{{*"


def matcher(pattern: str) -> Callable[[str], bool]:
    r"""Whether a name matches a pattern as Redis means it: ``*``, ``?``, ``[abc]``, ``[^a]``, ``\x``."""
    plain = pattern[:-1]
    if pattern.endswith("*") and not any(special in plain for special in "*?[\\"):
        return lambda name: name.startswith(plain)
    return re.compile(_regex(pattern), re.DOTALL).fullmatch  # type: ignore[return-value]  # truth is all we ask


def _regex(pattern: str) -> str:
    parts, at = [""], 0  # what is between the stars
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            parts.append("")
        elif char == "?":
            parts[-1] += "."
        elif char == "[":
            text, at = _char_class(pattern, at)
            parts[-1] += text
        else:
            if char == "\\" and at < len(pattern):
                char = pattern[at]
                at += 1
            parts[-1] += re.escape(char)
    if len(parts) == 1:
        return parts[0]
    # The first place where a part stands is as good as any later one. Tried there and nowhere else, no pattern takes
    # longer than its length times the name's; `.*` for each star would try all places of all parts.
    first, *between, last = parts
    return first + "".join(f"(?>.*?{part})" for part in between if part) + f".*{last}"


def _char_class(pattern: str, at: int) -> tuple[str, int]:
    """The regular expression for the class that begins at `at`, and where it ends."""
    negated = pattern[at : at + 1] == "^"
    at += negated
    members: list[str] = []
    while at < len(pattern) and pattern[at] != "]":
        if pattern[at] == "\\" and at + 1 < len(pattern):
            members.append(re.escape(pattern[at + 1]))
            at += 2
        elif pattern[at + 1 : at + 2] == "-" and at + 2 < len(pattern):
            first, last = sorted((pattern[at], pattern[at + 2]))  # either way round, and "]" may be the last
            members.append(f"{re.escape(first)}-{re.escape(last)}")
            at += 3
        else:
            members.append(re.escape(pattern[at]))
            at += 1
    inside = "".join(members)
    if not inside:
        return ("." if negated else "(?!)"), at + 1
    return f"[{'^' if negated else ''}{inside}]", at + 1


# --- names from arguments ----------------------------------------------------------------------------

_UNNAMED: Final = frozenset(("self", "cls", "request", "session", "db", "websocket"))
_QUOTED: Final = re.compile(r"[:%~]")


def _quote(text: str) -> str:
    # ":" parts arguments and "~" marks what is no text, so neither may come from a value: else the
    # arguments ("1:2", "3") and ("1", "2:3") would share a key.
    return _QUOTED.sub(lambda found: f"%{ord(found[0]):02X}", text)


def argument(value: Any) -> str:
    """One argument as text, the same for equal values. TypeError where only an object's address tells it apart."""
    kind = type(value)
    if kind is int:
        return str(value)
    if kind is str:
        return value if value.isalnum() else _quote(value)
    if value is None or kind is bool or kind is float:
        return f"~{value}"
    if isinstance(value, enum.Enum):
        return argument(value.value)
    if isinstance(value, (uuid.UUID, decimal.Decimal)):
        return _quote(str(value))
    if isinstance(value, (dt.date, dt.time)):
        return _quote(value.isoformat())
    if isinstance(value, dt.timedelta):
        return f"~{value.total_seconds()}s"
    if isinstance(value, (bytes, bytearray)):
        return f"~{value.hex()}"
    if isinstance(value, str):
        return _quote(str.__str__(value))
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, Mapping):
        return f"~({','.join(sorted(f'{_part(k)}={_part(v)}' for k, v in value.items()))})"
    if isinstance(value, (set, frozenset)):
        return f"~<{','.join(sorted(map(_part, value)))}>"
    if isinstance(value, (list, tuple)):
        return f"~[{','.join(map(_part, value))}]"
    raise TypeError(
        f"a {kind.__qualname__} cannot be part of a cache key: name what identifies it in the template, "
        "such as {user.id}, or leave it out with ignore="
    )


def _part(value: Any) -> str:
    if isinstance(value, str):
        value = f"'{value}'"
    return re.sub(r"[,=()<>\[\]]", lambda found: f"%{ord(found[0]):02X}", argument(value))


class Template:
    """Makes a function's arguments into a name.

    `template` is text with parameters in braces (``menu:{branch_id}``, ``menu:{user.id}``); None makes the name
    from the function's own and all of its arguments. Every parameter must be in the template or in
    `ignore`, so that no two calls that may differ share a value. Without a template, parameters that look like
    an instance, a session or a request must be ignored by name. TypeError otherwise.
    """

    def __init__(
        self, template: str | None, function: Callable[..., Any], ignore: Sequence[str] = ()
    ) -> None:
        self._signature = inspect.signature(function)
        self._order = list(self._signature.parameters)
        self._plain = all(
            parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            for parameter in self._signature.parameters.values()
        )
        owner = f"{function.__module__}.{function.__qualname__}".replace("<", "").replace(">", "")
        unknown = set(ignore) - set(self._order)
        if unknown:
            raise TypeError(f"{owner} has no parameter {', '.join(sorted(unknown))} to ignore")
        self._quotes = template is None  # then nobody reads the names, and "1" and 1 are kept apart
        if template is None:
            used = [name for name in self._order if name not in ignore]
            unnamed = sorted(_UNNAMED.intersection(used))
            if unnamed:
                raise TypeError(
                    f"{owner}: name what identifies {unnamed[0]!r} in a template, or put it in ignore="
                )
            template = owner + "".join(f":{{{name}}}" for name in used)
            self.group = function.__qualname__.rpartition(".")[2]
        else:
            self.group = template.partition("{")[0].strip(":/. ") or function.__qualname__.rpartition(".")[2]
        self._head, self._fields = self._parse(template, owner)
        named = {self._order[index] for index, _, _ in self._fields}
        missing = [name for name in self._order if name not in named and name not in ignore]
        if missing:
            raise TypeError(
                f"{owner}: {missing[0]!r} is not part of the key; put {{{missing[0]}}} in the template, or in ignore="
            )

    def _parse(
        self, template: str, owner: str
    ) -> tuple[str, list[tuple[int, Callable[[Any], Any] | None, str]]]:
        head = ""
        fields: list[tuple[int, Callable[[Any], Any] | None, str]] = []
        pending: tuple[int, Callable[[Any], Any] | None] | None = None
        for literal, field, spec, conversion in string.Formatter().parse(template):
            if pending is None:
                head += literal
            else:
                fields.append((*pending, literal))
                pending = None
            if field is None:
                continue
            root, _, attributes = field.partition(".")
            if spec or conversion or root not in self._order:
                raise TypeError(f"{owner}: {{{field}}} in the template is none of its parameters")
            pending = (self._order.index(root), attrgetter(attributes) if attributes else None)
        if pending is not None:
            fields.append((*pending, ""))
        return head, fields

    def name(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The name for one call. TypeError as the call itself would raise it, or for an argument with no text."""
        if kwargs or not self._plain or len(args) != len(self._order):
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            args = tuple(bound.arguments[name] for name in self._order)
        text = self._head
        for index, attribute, literal in self._fields:
            value = args[index]
            if attribute is not None:
                value = attribute(value)
            # Straight for the two commonest types: 0.25 us a field less than through argument().
            if type(value) is int:
                text += f"{value}{literal}"
            elif self._quotes and isinstance(value, str):
                text += f"'{argument(value)}'{literal}"
            else:
                text += argument(value) + literal
        return text if len(text) <= LONGEST and text.isprintable() and text else checked(_printable(text))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else f"%{ord(char):02X}" for char in text)
