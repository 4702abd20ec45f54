"""An index written down: as SQL, with names quoted where they need it."""

from __future__ import annotations

from typing import Any

from restaurant_otel.sql.advisor.model import Index


def create_index(index: Index, dialect: Any, *, concurrently: bool = False) -> str:
    """``CREATE INDEX``, without the semicolon; `dialect` is a SQLAlchemy dialect."""
    quote = dialect.identifier_preparer.quote
    keys = ", ".join(
        " ".join(filter(None, (quote(key.column), key.operators, "DESC" if key.descending else "")))
        for key in index.keys
    )
    how = "CREATE INDEX CONCURRENTLY" if concurrently else "CREATE INDEX"
    return f"{how} {quote(index.name)} ON {quoted_table(index.table, dialect)} ({keys})"


def drop_index(index: Index, dialect: Any, *, concurrently: bool = False) -> str:
    """The way back, which does nothing where there is no such index; without the semicolon."""
    quote = dialect.identifier_preparer.quote
    schema = index.table.rpartition(".")[0]
    name = f"{quote(schema)}.{quote(index.name)}" if schema else quote(index.name)
    if dialect.name in {"mysql", "mariadb"}:
        return f"DROP INDEX {quote(index.name)} ON {quoted_table(index.table, dialect)}"
    return f"DROP INDEX {'CONCURRENTLY ' if concurrently else ''}IF EXISTS {name}"


def quoted_table(table: str, dialect: Any) -> str:
    """A table's name, with its schema where it has one."""
    return ".".join(dialect.identifier_preparer.quote(part) for part in table.rpartition(".")[::2] if part)
