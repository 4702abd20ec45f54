"""Statements understood: by which columns of which tables an index could help, and what the workload writes.

The one part that knows the parser, sqlglot, which is imported here and only when somebody asks for advice.
Parameters of every style are replaced by marked strings before parsing, so the parser sees plain SQL; each becomes
a `Slot` that says which column it is compared with, for `values.py` to find something to put there. What is not
understood is skipped with a reason: nothing is guessed.

Predicates below OR and NOT, and columns within functions, wish for nothing: no plain index helps them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from restaurant_otel.sql.advisor.model import AdviseError, Key, Skipped, Statement, Table, Wish, Write
from restaurant_otel.sql.lexing import PLACEHOLDER, Quoting, quoting, tokens
from restaurant_otel.sql.statements import MOST_READ, read

DIALECTS: Final = {"postgresql": "postgres", "mariadb": "mysql", "mssql": "tsql"}
"""sqlglot's names of databases, where they are not SQLAlchemy's."""
MOST_TEMPLATES: Final = 5
"""Texts of one shape that are kept, where their literals differ."""
_CUT: Final = "..."
_MARK: Final = "restaurant-otel-value-"


@dataclass(frozen=True, slots=True)
class Slot:
    """A parameter of a statement.

    `use` is ``equal``, ``many``, ``low``, ``high``, ``pattern``, ``limit`` or ``offset``, or None where its place says
    nothing about its value.
    """

    number: int
    use: str | None = None
    table: str | None = None
    column: str | None = None
    nth: int = 0
    """Its place in a list."""


@dataclass(slots=True)
class Template:
    """A statement with marks where its parameters were."""

    text: str
    slots: list[Slot]

    @staticmethod
    def mark(number: int) -> str:
        """What stands for parameter `number`, as a string literal of SQL."""
        return f"'{_MARK}{number}-'"


@dataclass(slots=True)
class Shape:
    """All statements that differ in their values only."""

    shown: str
    calls: float
    routes: list[str]
    tables: list[str] = field(default_factory=list)
    wishes: list[Wish] = field(default_factory=list)
    looked_at: set[tuple[str, str]] = field(default_factory=set)
    templates: list[Template] = field(default_factory=list)


@dataclass(slots=True)
class Understood:
    """A workload, read."""

    shapes: list[Shape]
    writes: list[Write]
    skipped: list[Skipped]


def understand(statements: Iterable[Statement], tables: Mapping[str, Table], dialect: str) -> Understood:
    """Read `statements` against the `tables` of a database of SQLAlchemy's `dialect`.

    AdviseError where sqlglot is not installed. Never raises for a statement.
    """
    _sqlglot()
    names = _Names(tables)
    rules = quoting(dialect)
    shapes: dict[str, Shape] = {}
    writes: list[Write] = []
    skipped: dict[str, Skipped] = {}
    with _silent():
        for statement in statements:
            shown = read(statement.text, rules).text
            try:
                _Reader(names, dialect, rules).read(statement, shown, shapes, writes)
            except _NotUnderstoodError as reason:
                skipped.setdefault(shown, Skipped(shown, str(reason)))
    return Understood(list(shapes.values()), writes, list(skipped.values()))


def proposed(text: str, tables: Mapping[str, Table], dialect: str) -> list[tuple[str, tuple[Key, ...]]]:
    """The table and keys of each CREATE INDEX in `text`; AdviseError for anything else."""
    sqlglot = _sqlglot()
    exp, names = sqlglot.exp, _Names(tables)
    found = []
    with _silent():
        try:
            trees = sqlglot.parse(text, read=DIALECTS.get(dialect, dialect))
        except sqlglot.errors.SqlglotError:
            raise AdviseError("the proposed indexes are not SQL that can be read") from None
        for tree in filter(None, trees):
            index: Any = tree.find(exp.Index) if isinstance(tree, exp.Create) else None
            table = names.table(index.args.get("table")) if index is not None else None
            if table is None:
                raise AdviseError(
                    "the proposed indexes: each statement must be CREATE INDEX on a table that exists"
                )
            keys = []
            for one in index.args["params"].args.get("columns") or ():
                part = one.this if isinstance(one, exp.Ordered) else one
                column = names.column(table, part.name) if isinstance(part, exp.Column) else None
                if column is None:
                    raise AdviseError("the proposed indexes: only columns of the table are understood")
                keys.append(Key(column, bool(one.args.get("desc"))))
            found.append((table, tuple(keys)))
    return found


class _NotUnderstoodError(Exception):
    """Why a statement is skipped; the message holds nothing of its text."""


def _sqlglot() -> Any:
    try:
        import sqlglot
        import sqlglot.errors
        import sqlglot.optimizer.scope
    except ImportError:
        raise AdviseError(
            "reading SQL needs sqlglot, which is not installed: pip install 'restaurant-otel[advise]'"
        ) from None
    return sqlglot


@contextmanager
def _silent() -> Iterator[None]:
    """The parser logs statements it cannot read, values and all."""
    logger = logging.getLogger("sqlglot")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


class _Names:
    """Finds tables and columns by the names in a statement, whatever their case."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._tables = {name.casefold(): name for name in tables}
        self._columns = {
            name: {column.casefold(): column for column in table.columns} for name, table in tables.items()
        }

    def table(self, node: Any) -> str | None:
        if node is None:
            return None
        qualified = f"{node.db}.{node.name}" if node.db else node.name
        found = self._tables.get(qualified.casefold())
        # "public.users" and "main.users" are the users of the default schema.
        if found is None and node.db.casefold() in {"public", "main", "dbo"}:
            found = self._tables.get(node.name.casefold())
        return found

    def column(self, table: str, name: str) -> str | None:
        return self._columns[table].get(name.casefold())


class _Reader:
    """Reads one statement."""

    def __init__(self, names: _Names, dialect: str, rules: Quoting) -> None:
        self._names = names
        self._dialect = DIALECTS.get(dialect, dialect)
        self._rules = rules
        self._nulls_are_large = dialect in {"postgresql", "oracle"}
        self._glot = _sqlglot()
        self._exp = self._glot.exp

    def read(self, statement: Statement, shown: str, shapes: dict[str, Shape], writes: list[Write]) -> None:
        if len(statement.text) > MOST_READ or (
            statement.text.rstrip().endswith(_CUT) and "VALUES" not in shown
        ):
            raise _NotUnderstoodError("its text is cut")
        text, count = self._marked(statement.text)
        exp, tree = self._exp, self._parsed(text)
        if isinstance(tree, exp.Query):
            if tree.find(exp.Insert, exp.Update, exp.Delete, exp.Into) is not None:
                raise _NotUnderstoodError("it writes within a query")
        elif isinstance(tree, exp.Insert | exp.Update | exp.Delete):
            rewritten = self._write(tree, statement, writes)
            if rewritten is None:
                return
            tree, text = rewritten, rewritten.sql(dialect=self._dialect)
        else:
            raise _NotUnderstoodError("it neither reads nor writes rows")
        tables, wishes, looked_at, slots = self._query(tree)
        if not tables:
            raise _NotUnderstoodError("it names no table of this database")
        template = Template(
            text,
            [slots.get(number, Slot(number)) for number in range(count) if Template.mark(number) in text],
        )
        shape = shapes.get(shown)
        if shape is None:
            shape = shapes[shown] = Shape(shown, 0.0, [])
        shape.calls += statement.calls
        shape.routes += [route for route in statement.routes if route not in shape.routes]
        shape.tables += [table for table in tables if table not in shape.tables]
        shape.wishes += [wish for wish in wishes if wish not in shape.wishes]
        shape.looked_at |= looked_at
        if len(shape.templates) < MOST_TEMPLATES:
            shape.templates.append(template)

    def _marked(self, text: str) -> tuple[str, int]:
        """`text` with a marked string for every parameter, and how many there are."""
        parts, count = [], 0
        for kind, token in tokens(text.removesuffix(_CUT).rstrip().rstrip(",;"), self._rules):
            if kind == PLACEHOLDER:
                token = Template.mark(count)
                count += 1
            parts.append(token)
        # Drivers that format with % write it twice.
        return "".join(parts), count

    def _parsed(self, text: str) -> Any:
        try:
            trees = [tree for tree in self._glot.parse(text, read=self._dialect) if tree is not None]
        except (self._glot.errors.SqlglotError, RecursionError):
            raise _NotUnderstoodError("the parser does not understand it") from None
        if len(trees) != 1:
            raise _NotUnderstoodError("it is not one statement")
        return trees[0]

    # --- what is written ---

    def _write(self, tree: Any, statement: Statement, writes: list[Write]) -> Any:
        """Note what is written; a SELECT of the rows it has to find, if it has to find any."""
        exp = self._exp
        target = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
        table = self._names.table(target) if isinstance(target, exp.Table) else None
        if table is None:
            raise _NotUnderstoodError("it names no table of this database")
        columns, rows = None, 1
        if isinstance(tree, exp.Update):
            named = (
                self._names.column(table, one.this.name)
                for one in tree.expressions
                if isinstance(one, exp.EQ)
            )
            columns = frozenset(name for name in named if name is not None)
        elif isinstance(tree, exp.Insert) and isinstance(tree.expression, exp.Values):
            rows = max(1, len(tree.expression.expressions))
        writes.append(Write(table, statement.calls * rows, columns))
        where = tree.args.get("where")
        if (
            isinstance(tree, exp.Insert)
            or where is None
            or tree.args.get("using")
            or tree.find(exp.From) is not None
        ):
            return None
        return exp.select("1").from_(target.copy()).where(where.this.copy())

    # --- what is read ---

    def _query(self, tree: Any) -> tuple[list[str], list[Wish], set[tuple[str, str]], dict[int, Slot]]:
        try:
            scopes = self._glot.optimizer.scope.traverse_scope(tree)
        except (self._glot.errors.SqlglotError, RecursionError):
            raise _NotUnderstoodError("the parser does not understand it") from None
        tables: list[str] = []
        wishes: list[Wish] = []
        looked_at: set[tuple[str, str]] = set()
        slots: dict[int, Slot] = {}
        for scope in scopes:
            if not isinstance(scope.expression, self._exp.Select):
                continue
            select = _Select(self._exp, scope, self._names, self._nulls_are_large)
            tables += [table for table in select.tables.values() if table not in tables]
            wishes += select.wishes()
            looked_at |= select.looked_at()
            slots.update(select.slots())
        return tables, wishes, looked_at, slots


class _Select:
    """One SELECT with its own FROM."""

    def __init__(self, exp: Any, scope: Any, names: _Names, nulls_are_large: bool) -> None:
        self._exp = exp
        self._scope = scope
        self._names = names
        self._nulls_are_large = nulls_are_large
        self.tables = self._tables_of(scope)

    def _tables_of(self, scope: Any) -> dict[str, str]:
        found = {}
        for alias, source in scope.sources.items():
            table = self._names.table(source) if isinstance(source, self._exp.Table) else None
            if table is not None:
                found[alias] = table
        return found

    def _place(self, node: Any) -> tuple[str, str] | None:
        """Alias and column of a column of this SELECT's own tables."""
        if not isinstance(node, self._exp.Column):
            return None
        aliases = [node.table] if node.table else list(self.tables)
        places = [
            (alias, column)
            for alias in aliases
            if alias in self.tables
            and (column := self._names.column(self.tables[alias], node.name)) is not None
        ]
        return places[0] if len(places) == 1 else None

    # --- wishes ---

    def wishes(self) -> list[Wish]:
        """What each of its tables wishes for; tables of the same name apart."""
        wanted = {alias: Wish(table) for alias, table in self.tables.items()}
        for part in self._conjuncts():
            self._note(part, wanted)
        self._note_order(wanted)
        return [
            wish
            for wish in wanted.values()
            if wish.equal or wish.joined or wish.ranges or wish.patterns or wish.order
        ]

    def looked_at(self) -> set[tuple[str, str]]:
        """Tables and columns that are named anywhere but in what is selected; all that might be meant by a name."""
        select, found = self._scope.expression, set()
        columns: list[Any] = []
        for name, part in select.args.items():
            if name in {"expressions", "with", "with_"}:
                continue
            for one in part if isinstance(part, list) else [part]:
                if isinstance(one, self._exp.Expression):
                    columns += one.find_all(self._exp.Column)
        for column in columns:
            for alias, table in self.tables.items():
                known = self._names.column(table, column.name)
                if known is not None and column.table in {"", alias}:
                    found.add((table, known))
        return found

    def _conjuncts(self) -> Iterator[Any]:
        select = self._scope.expression
        conditions = [select.args["where"].this] if select.args.get("where") else []
        joins = (join.args.get("on") for join in select.args.get("joins") or ())
        conditions += [condition for condition in joins if condition is not None]
        for condition in conditions:
            condition = condition.unnest()
            parts = condition.flatten() if isinstance(condition, self._exp.And) else (condition,)
            yield from (part.unnest() for part in parts)

    def _note(self, part: Any, wanted: dict[str, Wish]) -> None:
        exp = self._exp
        if isinstance(part, exp.EQ):
            self._note_equal(part.left, part.right, wanted)
            self._note_equal(part.right, part.left, wanted)
        elif isinstance(part, exp.Is) and isinstance(part.expression, exp.Null):
            self._add("equal", part.this, wanted)
        elif isinstance(part, exp.In):
            self._add("joined" if part.args.get("query") is not None else "equal", part.this, wanted)
        elif isinstance(part, exp.GT | exp.GTE | exp.LT | exp.LTE):
            for one, other in ((part.left, part.right), (part.right, part.left)):
                if not self._own_columns(other):
                    self._add("ranges", one, wanted)
        elif isinstance(part, exp.Between):
            self._add("ranges", part.this, wanted)
        elif isinstance(part, exp.Like) and _beginning(part.expression, exp):
            self._add("patterns", part.this, wanted)

    def _note_equal(self, one: Any, other: Any, wanted: dict[str, Wish]) -> None:
        place = self._place(one)
        if place is None:
            return
        others = list(other.find_all(self._exp.Column))
        if not others:
            self._add("equal", one, wanted)
        elif not any((found := self._place(column)) and found[0] == place[0] for column in others):
            self._add("joined", one, wanted)

    def _own_columns(self, node: Any) -> bool:
        return any(self._place(column) is not None for column in node.find_all(self._exp.Column))

    def _add(self, what: str, node: Any, wanted: dict[str, Wish]) -> None:
        place = self._place(node)
        if place is None:
            return
        columns: list[str] = getattr(wanted[place[0]], what)
        if place[1] not in columns:
            columns.append(place[1])

    def _note_order(self, wanted: dict[str, Wish]) -> None:
        select = self._scope.expression
        order = select.args.get("order")
        if order is None or select.args.get("group") or select.args.get("distinct"):
            return
        alias_of_all: str | None = None
        keys: list[Key] = []
        for ordered in order.expressions:
            place = self._place(ordered.this)
            descending = bool(ordered.args.get("desc"))
            usual = descending == self._nulls_are_large
            if place is None or bool(ordered.args.get("nulls_first")) != usual:
                break
            alias, column = place
            if column in wanted[alias].equal:
                continue  # the same in every row
            if alias_of_all not in {None, alias}:
                break
            alias_of_all = alias
            keys.append(Key(column, descending))
        if alias_of_all is not None:
            if keys[0].descending:  # an index is read backwards as well
                keys = [Key(key.column, not key.descending) for key in keys]
            wanted[alias_of_all].order = tuple(keys)

    # --- parameters ---

    def slots(self) -> dict[int, Slot]:
        """Where this SELECT's parameters stand."""
        found = {}
        for literal in self._scope.find_all(self._exp.Literal):
            if literal.is_string and literal.this.startswith(_MARK):
                number = int(literal.this[len(_MARK) : -1])
                found[number] = self._slot(number, literal)
        select = self._scope.expression
        for use in ("limit", "offset"):
            part = select.args.get(use)
            literal = part.expression if part is not None else None
            if literal is not None and literal.is_string and literal.this.startswith(_MARK):
                number = int(literal.this[len(_MARK) : -1])
                found[number] = Slot(number, use)
        return found

    def _slot(self, number: int, literal: Any) -> Slot:
        exp, node = self._exp, literal
        while isinstance(node.parent, exp.Cast | exp.Paren | exp.Lower | exp.Upper):
            node = node.parent
        parent = node.parent
        if isinstance(parent, exp.EQ | exp.NEQ):
            return self._compared(number, "equal", parent.right if node is parent.left else parent.left)
        if isinstance(parent, exp.In) and node is not parent.this:
            alone = len(parent.expressions) == 1
            nth = next(place for place, one in enumerate(parent.expressions) if one is node)
            return self._compared(number, "many" if alone else "equal", parent.this, nth)
        if isinstance(parent, exp.GT | exp.GTE | exp.LT | exp.LTE):
            left = node is parent.left
            above = isinstance(parent, exp.GT | exp.GTE) != left
            return self._compared(number, "low" if above else "high", parent.right if left else parent.left)
        if isinstance(parent, exp.Between):
            return self._compared(number, "low" if node is parent.args.get("low") else "high", parent.this)
        if isinstance(parent, exp.Like | exp.ILike):
            return self._compared(number, "pattern", parent.this)
        return Slot(number)

    def _compared(self, number: int, use: str, other: Any, nth: int = 0) -> Slot:
        select: _Select | None = self
        scope = self._scope
        while isinstance(other, self._exp.Cast | self._exp.Paren | self._exp.Lower | self._exp.Upper):
            other = other.this
        while select is not None:
            place = select._place(other)
            if place is not None:
                return Slot(number, use, select.tables[place[0]], place[1], nth)
            scope = scope.parent
            select = (
                _Select(self._exp, scope, self._names, self._nulls_are_large) if scope is not None else None
            )
        return Slot(number)


def _beginning(node: Any, exp: Any) -> bool:
    """Whether a LIKE's pattern is known and begins with something."""
    return (
        isinstance(node, exp.Literal)
        and node.is_string
        and not node.this.startswith((_MARK, "%", "_"))
        and bool(node.this)
    )
