"""What the advisor's parts hand to each other: plain data, no database and no parser.

A `Table` is what the database has, a `Statement` what is asked of it and how often, an `Index` what could be added.
`Advice` is the outcome: `report.py` writes it out. Nothing of it carries a value of a parameter or a literal, but
for `Read.variants`, which never leave the process.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

LONGEST_NAME: Final = 63
"""Characters that PostgreSQL keeps of a name; no other database keeps fewer."""


class AdviseError(Exception):
    """The advisor cannot do it; the message says why, in one line, without a value or a password."""


# --- what there is -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Key:
    """One part of an index: a column, its direction, and PostgreSQL's operator class where it is not the usual."""

    column: str
    descending: bool = False
    operators: str | None = None


@dataclass(frozen=True)
class Index:
    """An index that could be made. `table` carries its schema where that is not the default one.

    The search looks sets of them up all the time, so what is worked out of one is kept.
    """

    table: str
    keys: tuple[Key, ...]
    suffix: str = ""
    """What its name ends with, where the database has an index of that name already."""

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.table, self.keys, self.suffix))

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns, in their order."""
        return tuple(key.column for key in self.keys)

    @cached_property
    def name(self) -> str:
        """``ix_<table>_<columns>``, cut to what every database keeps; equal for equal indexes."""
        marks = [
            key.column
            + ("_desc" if key.descending else "")
            + ("_pattern" if key.operators is not None else "")
            for key in self.keys
        ]
        name = "_".join(["ix", self.table.replace(".", "_"), *marks]) + self.suffix
        if len(name) <= LONGEST_NAME:
            return name
        return f"{name[: LONGEST_NAME - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"

    @property
    def label(self) -> str:
        """``users(role, created_at DESC)``, for people."""
        keys = ", ".join(
            " ".join(filter(None, (key.column, key.operators, "DESC" if key.descending else "")))
            for key in self.keys
        )
        return f"{self.table}({keys})"

    def is_prefix_of(self, other: Index) -> bool:
        """Whether `other` can do all that this can: it begins with the same keys."""
        return self.table == other.table and other.keys[: len(self.keys)] == self.keys


@dataclass(frozen=True, slots=True)
class Existing:
    """An index, primary key or unique constraint that the database has. A None in `columns` is an expression."""

    name: str
    table: str
    columns: tuple[str | None, ...]
    descending: tuple[bool, ...]
    unique: bool = False
    primary: bool = False
    constraint: bool = False
    """It upholds a primary key or a unique constraint."""
    partial: bool = False
    operators: bool = False
    """Some key has another operator class or method than the usual."""
    included: bool = False
    """It carries further columns (INCLUDE)."""
    valid: bool = True
    size: int | None = None
    scans: int | None = None
    """How often it was used since the database's statistics began, where it counts that."""

    @property
    def is_plain(self) -> bool:
        """Whether it serves any query that its columns serve."""
        return self.valid and not self.partial and not self.operators and None not in self.columns

    def covers(self, index: Index) -> bool:
        """Whether `index` would add nothing."""
        wanted = index.keys
        if not self.is_plain or self.table != index.table or any(key.operators for key in wanted):
            return False
        have = list(zip(self.columns, self.descending, strict=True))[: len(wanted)]
        if [name for name, _ in have] != list(index.columns):
            return False
        turned = {down != key.descending for (_, down), key in zip(have, wanted, strict=True)}
        return len(turned) == 1  # an index is read backwards as well as forwards


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns that point at another table."""

    table: str
    columns: tuple[str, ...]
    target: str


@dataclass(slots=True)
class Table:
    """A table of the database. `rows` is the database's own estimate where it has one."""

    name: str
    columns: tuple[str, ...]
    rows: int = 0
    """-1: not known."""
    analysed: bool = True
    """Whether the planner knows anything of it."""
    existing: list[Existing] = field(default_factory=list)
    foreign_keys: list[ForeignKey] = field(default_factory=list)
    distinct: dict[str, float] = field(default_factory=dict)
    """Distinct values of a column, estimated from a sample; only of columns that were asked for."""


# --- what is asked -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of the workload: its text with or without values, how often it came, from which routes."""

    text: str
    calls: float = 1.0
    routes: tuple[str, ...] = ()


@dataclass(slots=True)
class Wish:
    """The columns of one table by which one SELECT could use an index."""

    table: str
    equal: list[str] = field(default_factory=list)
    """Compared with values that are known before the table is read."""
    joined: list[str] = field(default_factory=list)
    """Compared with columns of other tables."""
    ranges: list[str] = field(default_factory=list)
    patterns: list[str] = field(default_factory=list)
    """LIKE with a known beginning."""
    order: tuple[Key, ...] = ()


@dataclass(slots=True)
class Read:
    """A statement that reads, understood: what may help it, and how to ask for its plan."""

    number: int
    shown: str
    """Its text without any value."""
    calls: float
    routes: tuple[str, ...]
    tables: tuple[str, ...]
    wishes: list[Wish]
    looked_at: frozenset[tuple[str, str]] = frozenset()
    """Tables and columns that its conditions, orders and groups name: no index on others changes how it is run."""
    variants: list[str] = field(default_factory=list)
    """The statement with values in it, taken from the tables; never shown."""
    generic: str | None = None
    """The statement with numbered parameters, where values were not to be had."""
    parameters: int = 0

    def may_use(self, index: Index) -> bool:
        """Whether `index` could matter to it."""
        return any((index.table, column) in self.looked_at for column in index.columns)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one execution of a statement costs, and which of the indexes that there might be it uses."""

    cost: float
    used: frozenset[Index]


@dataclass(frozen=True, slots=True)
class Write:
    """Rows of a table that the workload changes: `columns` is None where whole rows come or go."""

    table: str
    calls: float
    columns: frozenset[str] | None = None

    def touches(self, index: Index) -> bool:
        """Whether it has to change `index` too."""
        return self.table == index.table and (
            self.columns is None or not self.columns.isdisjoint(index.columns)
        )


# --- what comes out ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Skipped:
    """A statement that was left out, and why."""

    shown: str
    reason: str


@dataclass(frozen=True, slots=True)
class Recommendation:
    """An index to make. Costs are in `Advice.unit`, of the whole workload; `gain` is net of `write_cost`."""

    index: Index
    gain: float
    share: float
    """`gain` as a part of the workload's cost, 0 to 1: what would be lost were this one left out."""
    size: int | None
    write_cost: float
    write_each: float
    """What one written row costs more."""
    reads: tuple[int, ...]
    """Numbers of the statements that win."""
    routes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadAdvice:
    """One statement before and after: cost of one execution, and the plan."""

    number: int
    shown: str
    calls: float
    routes: tuple[str, ...]
    before: float
    after: float
    plan_before: tuple[str, ...]
    plan_after: tuple[str, ...]

    @property
    def gain(self) -> float:
        """The part of its cost that goes away, 0 to 1."""
        return 1 - self.after / self.before if self.before else 0.0


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about what is there already, which is never acted upon.

    `kind` is ``duplicate``, ``redundant``, ``unused``, ``invalid`` or ``foreign key``.
    """

    kind: str
    table: str
    subject: str
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the advisor thinks of an index that somebody proposed."""

    index: Index
    agrees: bool
    why: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of an index that was to be made. `undo` is the statement that takes it away again.

    `left` says that it was not made and that what there is of it could not be taken away: it serves nobody and costs.
    """

    index: Index
    done: bool
    seconds: float
    undo: str
    error: str | None = None
    left: bool = False


@dataclass(slots=True)
class Advice:
    """What the advisor found; see `restaurant_otel.sql.advisor.report` for its forms."""

    system: str
    database: str | None
    method: str
    """How costs were found: ``hypopg``, ``trial on a copy`` or ``heuristic``."""
    unit: str
    """What costs are counted in: ``planner cost``, ``seconds`` or ``rows``."""
    before: float
    after: float
    recommendations: list[Recommendation]
    reads: list[ReadAdvice]
    findings: list[Finding]
    verdicts: list[Verdict] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    applied: list[Applied] = field(default_factory=list)

    @property
    def gain(self) -> float:
        """The part of the workload's cost that goes away, 0 to 1; what writes cost more is taken off."""
        return 1 - self.after / self.before if self.before else 0.0

    @property
    def size(self) -> int:
        """Bytes of all indexes to make, as far as known."""
        return sum(one.size or 0 for one in self.recommendations)
