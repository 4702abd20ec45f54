"""What telemetry may say about a statement: what it does, to which tables, and its text without values.

`read` looks at the tokens once, left to right, and knows just enough SQL to tell a table from an alias, a
column or a function. It is no parser: what it does not understand it leaves out, and it never raises for
any text. Called once for each distinct statement; `databases.py` remembers the result.

Source: https://opentelemetry.io/docs/specs/semconv/db/database-spans/
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from restaurant_otel.sql.lexing import NAME, OTHER, PLACEHOLDER, SPACE, Quoting, tokens

MOST_READ: Final = 16_384
"""Characters of a statement that are looked at. Two that differ only after them are told as one."""
MOST_SHOWN: Final = 4_096
"""Characters of text in a span."""
MOST_SUMMARY: Final = 255
"""Characters of a summary, as the conventions advise."""
MOST_NAME: Final = 128
"""Characters of a table's name with its schema."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. `text` holds no literal; `collection` is None unless exactly one table is named."""

    text: str
    operation: str | None
    collection: str | None
    summary: str


def read(text: str, rules: Quoting) -> Statement:
    """The first `MOST_READ` characters of `text`, understood as far as they can be."""
    reader = _Reader()
    shown: list[str] = []
    for kind, token in tokens(text[:MOST_READ], rules):
        if kind == SPACE:
            if shown and shown[-1] != " ":
                shown.append(" ")
        elif kind == NAME and not reader.hides(token, rules):
            reader.name(token)
            shown.append("?" if token.upper() in _TRUTH else token)
        elif kind == PLACEHOLDER:
            reader.value()
            shown.append(token)
        elif kind == OTHER:
            reader.mark(token)
            shown.append(token)
        else:
            reader.value()
            shown.append("?")
    return Statement(_collapsed("".join(shown)), reader.operation, reader.collection, reader.summary)


# --- the text ----------------------------------------------------------------------------------------

_TRUTH: Final = frozenset({"TRUE", "FALSE"})
_ONE: Final = (
    r"(?:\?\d*+|%s|%\([^()'\"%]{0,128}+\)s|:\w++|\$\w++)"
    r"(?:\s?::\s?[\w\".]++(?:\s[\w\".]++)*+(?:\([?, ]*+\))?(?:\[\])?)?"  # PostgreSQL drivers cast what they bind
)
_ROW: Final = rf"(?:{_ONE}|\(\s?{_ONE}(?:\s?,\s?{_ONE})*+\s?\))"
_IN_LIST: Final = re.compile(rf"(?i:\b(IN)) ?\(\s?{_ROW}(?:\s?,\s?{_ROW})*+\s?\)")
_TUPLE: Final = r"\((?:[^()]++|\((?:[^()]++|\([^()]*+\))*+\))*+\)"
_VALUES: Final = re.compile(rf"(?i:\b(VALUES)) ?({_TUPLE})(?:\s?,\s?{_TUPLE})++")


def _collapsed(text: str) -> str:
    """`text` with lists that differ in length only told as one, and cut to what a span may hold."""
    text = _IN_LIST.sub(r"\1 (?)", text.strip())
    text = _VALUES.sub(r"\1 \2, ...", text)
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 3] + "..."


# --- operations and tables ---------------------------------------------------------------------------


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CHANGES: Final = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE"})
_VERBS: Final = _CHANGES | _words(
    "SELECT REPLACE UPSERT VALUES TABLE EXPLAIN CREATE DROP ALTER TRUNCATE RENAME COMMENT GRANT REVOKE BEGIN START "
    "COMMIT END ROLLBACK ABORT SAVEPOINT RELEASE SET RESET SHOW PRAGMA ANALYZE VACUUM REINDEX CLUSTER REFRESH LOCK "
    "UNLOCK CALL EXEC EXECUTE DO DECLARE FETCH MOVE CLOSE COPY PREPARE DEALLOCATE LISTEN UNLISTEN NOTIFY DISCARD "
    "CHECKPOINT ATTACH DETACH USE DESCRIBE DESC KILL LOAD IMPORT OPTIMIZE FLUSH"
)
_TABLE_FOLLOWS: Final = _CHANGES - {"DELETE"} | {"REPLACE", "UPSERT", "TRUNCATE", "LOCK", "COPY", "TABLE"}
_DEFINITIONS: Final = frozenset({"CREATE", "DROP", "ALTER", "TRUNCATE", "LOCK"})
_KINDS: Final = _words(
    "TABLE VIEW INDEX SCHEMA DATABASE SEQUENCE TYPE DOMAIN FUNCTION PROCEDURE TRIGGER EXTENSION ROLE USER POLICY "
    "RULE AGGREGATE COLLATION PUBLICATION SUBSCRIPTION SERVER TABLESPACE"
)
_BEFORE_TABLE: Final = _words(
    "INTO OR REPLACE IGNORE ABORT FAIL ROLLBACK ONLY LATERAL TABLE IF NOT EXISTS LOW_PRIORITY DELAYED HIGH_PRIORITY "
    "QUICK OVERWRITE ALL CONCURRENTLY"
)
_AFTER_TABLES: Final = _words(
    "WHERE GROUP ORDER HAVING LIMIT OFFSET FETCH UNION INTERSECT EXCEPT MINUS SET VALUES RETURNING WINDOW FOR "
    "QUALIFY DEFAULT"
)
_NAME_FOLLOWS: Final = frozenset({"AS", "COLUMN", "CONSTRAINT", "INDEX", "SAVEPOINT", "VIEW"})
_READS_FROM: Final = frozenset({"SELECT", "DELETE", "UPDATE", "MERGE"})


class _Level:
    """What is known within one pair of parentheses, or outside of all."""

    __slots__ = ("begins", "listing", "operation", "prefix", "wants_cte", "wants_table")

    def __init__(self, operation: str | None = None, wants_table: bool = False, begins: bool = True) -> None:
        self.operation = operation
        self.wants_table = wants_table  # the next name is a table's
        self.listing = wants_table  # a comma brings the next table
        self.begins = begins  # a verb here begins a statement
        self.prefix: str | None = None  # WITH or EXPLAIN: the verb is still to come
        self.wants_cte = False


class _Reader:
    """Follows a statement token by token; `operation`, `collection` and `summary` say what it was."""

    def __init__(self) -> None:
        self._level = _Level()
        self._outer: list[_Level] = []
        self._parts: list[str] = []
        self._verb: str | None = None
        self._nested_verb: str | None = None
        self._tables: dict[str, None] = {}
        self._ctes: set[str] = set()
        self._previous = self._before = ""
        self._ended = self._several = False
        self._maybe_function: str | None = None  # the table just named, until the next token

    @property
    def operation(self) -> str | None:
        return self._verb or self._nested_verb

    @property
    def collection(self) -> str | None:
        return next(iter(self._tables)) if len(self._tables) == 1 and not self._several else None

    @property
    def summary(self) -> str:
        parts = self._parts
        if self._tables and not self._several:
            # A SELECT of nothing (an empty IN list, a CTE's use) tells nothing where another names a table.
            following = [*parts[1:], "SELECT"]
            parts = [
                part
                for part, after in zip(parts, following, strict=True)
                if part != "SELECT" or after not in _VERBS
            ]
        summary = " ".join(parts)
        if len(summary) > MOST_SUMMARY:
            summary = summary[: MOST_SUMMARY + 1].rpartition(" ")[0] or summary[:MOST_SUMMARY]
        return summary

    def hides(self, token: str, rules: Quoting) -> bool:
        """Whether a token that looks like a name may be a value.

        SQLite reads ``"x"`` as a string where no column is called so; a password may follow IDENTIFIED BY
        without quotes, and a key a PRAGMA.
        """
        if self._previous == "BY" and self._before == "IDENTIFIED":
            return True
        if self._verb == "PRAGMA" and self._previous == "=":
            return True
        if rules.double_quotes != "either" or token[0] != '"':
            return False
        return _is_one_part(token) and not self._level.wants_table and self._previous not in _NAME_FOLLOWS

    def value(self) -> None:
        """A literal came."""
        self._level.begins = self._level.wants_table = False
        self._step("")

    def name(self, token: str) -> None:
        """A name or a keyword came."""
        level, word = self._level, token.upper()
        self._maybe_function = None
        if word in _VERBS and self._begins(level, word):
            self._begin(level, word)
        elif word == "WITH" and level.begins:
            level.prefix, level.wants_cte = "WITH", True
        elif level.wants_cte:
            if word not in {"RECURSIVE", "NOT", "MATERIALIZED"}:
                self._ctes.add(_folded(token))
                level.wants_cte = False
        elif level.wants_table:
            self._table_or_keyword(level, token, word)
        elif level.operation is not None:
            self._keyword(level, word)
        elif level.prefix is None:
            level.begins = False
        self._step(word)

    def mark(self, token: str) -> None:
        """A character came that is neither name nor value."""
        if token == "(":  # noqa: S105 - a parenthesis
            self._open()
        elif token == ")":  # noqa: S105
            if self._outer:
                self._level = self._outer.pop()
        elif token == ",":  # noqa: S105
            if self._level.prefix == "WITH":
                self._level.wants_cte = True
            elif self._level.listing:
                self._level.wants_table = True
        elif token == ";":  # noqa: S105
            self._level, self._outer, self._ended = _Level(), [], True
        elif self._level.prefix is None:
            self._level.begins = False
        self._maybe_function = None
        self._step(token)

    def _step(self, word: str) -> None:
        self._before, self._previous = self._previous, word

    def _begins(self, level: _Level, word: str) -> bool:
        if word == "SELECT":  # reserved everywhere: never a column, a table or an alias
            return level.operation not in {"GRANT", "REVOKE"}
        if level.prefix is not None:
            return word in _CHANGES or (
                level.prefix == "EXPLAIN" and word in {"REPLACE", "CREATE", "EXECUTE"}
            )
        return level.begins and (not self._outer or word in _CHANGES)

    def _begin(self, level: _Level, word: str) -> None:
        if not self._outer and self._verb is None:
            self._verb = word
        elif self._ended:
            self._several = True
        elif self._nested_verb is None:
            self._nested_verb = word
        self._parts.append(word)
        level.operation = word
        level.prefix = "EXPLAIN" if word == "EXPLAIN" else None
        level.begins = word == "EXPLAIN"
        level.wants_cte = False
        level.wants_table = word in _TABLE_FOLLOWS
        level.listing = word in {"UPDATE", "TRUNCATE", "LOCK"}

    def _table_or_keyword(self, level: _Level, token: str, word: str) -> None:
        if word in _BEFORE_TABLE:
            if word == "TABLE" and level.operation in _DEFINITIONS and self._parts[-1] != "TABLE":
                self._parts.append("TABLE")
            return
        if word in _AFTER_TABLES:
            level.wants_table = level.listing = False
            return
        level.wants_table = level.begins = False
        name = _plain(token)
        if not name or _folded(token) in self._ctes:
            return
        if level.operation in _READS_FROM and name not in self._tables:
            self._maybe_function = name
        if self._parts[-1:] != [name]:
            self._parts.append(name)
        self._tables[name] = None

    def _keyword(self, level: _Level, word: str) -> None:
        if word == "FROM":
            # "IS DISTINCT FROM" compares; FROM inside EXTRACT(...) has no statement around it.
            if level.operation in _READS_FROM and self._previous != "DISTINCT":
                level.wants_table = level.listing = True
        elif word in {"JOIN", "STRAIGHT_JOIN"}:
            level.wants_table = level.operation in _READS_FROM
        elif word == "USING":
            level.wants_table = level.operation in {"DELETE", "MERGE"} and not self._joined()
        elif word in _AFTER_TABLES:
            level.listing = False
        elif level.operation in _DEFINITIONS and word in _KINDS:
            self._define(level, word)
        elif word == "ON" and level.operation == "INDEX":
            level.wants_table = True

    def _joined(self) -> bool:
        # DELETE FROM a USING b, but DELETE FROM a USING b JOIN c USING (id).
        return self._level.operation == "DELETE" and len(self._tables) > 1

    def _define(self, level: _Level, kind: str) -> None:
        self._parts.append(kind)
        level.operation = kind  # so that what follows is not taken for the object's kind again
        level.wants_table = kind in {"TABLE", "VIEW"}

    def _open(self) -> None:
        level = self._level
        if self._maybe_function is not None:  # FROM generate_series(...): not a table
            del self._tables[self._maybe_function]
            self._parts.pop()
        self._outer.append(level)
        if level.wants_table:
            level.wants_table = False
            # A subquery, or tables joined within parentheses: the first word tells.
            self._level = _Level(level.operation, wants_table=True)
        else:
            self._level = _Level(begins=level.prefix != "EXPLAIN")


def _is_one_part(token: str) -> bool:
    return re.fullmatch(r'"(?:[^"]++|"")*+"', token) is not None


_PART: Final = re.compile(r'"(?:[^"]++|"")*+"|`(?:[^`]++|``)*+`|\[[^\]]*+\]|[^\s."`\[]++')


def _plain(token: str) -> str:
    """A table's name as it would be written if no name needed quotes."""
    parts = []
    for part in _PART.findall(token):
        quote = part[0]
        if quote in '"`':
            part = part[1:-1].replace(quote * 2, quote)
        elif quote == "[":
            part = part[1:-1]
        parts.append(part)
    return ".".join(parts)[:MOST_NAME]


def _folded(token: str) -> str:
    return _plain(token).casefold()
