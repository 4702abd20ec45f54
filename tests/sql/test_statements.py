"""What is read from a statement's text: operation, table, summary, and the text without its values."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restaurant_otel.sql import lexing, statements
from restaurant_otel.sql.lexing import quoting
from restaurant_otel.sql.statements import MOST_READ, MOST_SHOWN, MOST_SUMMARY, Statement

DIALECTS = ["postgresql", "mysql", "sqlite", "mssql", "oracle", "trino", "something_else"]


def read(text: str, dialect: str = "postgresql") -> Statement:
    return statements.read(text, quoting(dialect))


@pytest.mark.parametrize(
    ("text", "operation", "collection", "summary"),
    [
        ("SELECT 1", "SELECT", None, "SELECT"),
        ("select id from users where id = 3", "SELECT", "users", "SELECT users"),
        ("/* why */ -- who\n SELECT * FROM users", "SELECT", "users", "SELECT users"),
        ("/* one /* two */ DELETE FROM x */ SELECT * FROM users", "SELECT", "users", "SELECT users"),
        ("SELECT * FROM users AS u, orders o", "SELECT", None, "SELECT users orders"),
        ("SELECT * FROM users LEFT JOIN orders USING (id)", "SELECT", None, "SELECT users orders"),
        ("SELECT * FROM users a JOIN users b ON a.id = b.id", "SELECT", "users", "SELECT users"),
        ("SELECT * FROM (a JOIN b ON a.x = b.x) JOIN c ON true", "SELECT", None, "SELECT a b c"),
        ("SELECT * FROM (SELECT * FROM orders) AS o", "SELECT", "orders", "SELECT orders"),
        ('SELECT * FROM public."Users"', "SELECT", "public.Users", "SELECT public.Users"),
        ('SELECT * FROM "odd ""one"""', "SELECT", 'odd "one"', 'SELECT odd "one"'),
        ("SELECT * FROM generate_series(1, 9) g JOIN users ON true", "SELECT", "users", "SELECT users"),
        ("SELECT extract(year FROM at), trim(both FROM x) FROM t", "SELECT", "t", "SELECT t"),
        ("SELECT a IS DISTINCT FROM b FROM t FOR UPDATE", "SELECT", "t", "SELECT t"),
        ("(SELECT 1 FROM a) UNION (SELECT 1 FROM b)", "SELECT", None, "SELECT a SELECT b"),
        ("SELECT * FROM a WHERE x IN (SELECT x FROM b)", "SELECT", None, "SELECT a SELECT b"),
        ("WITH r AS (SELECT * FROM users) SELECT * FROM r", "SELECT", "users", "SELECT users"),
        (
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION SELECT n FROM r), q AS (SELECT 1) DELETE FROM users USING r",
            "DELETE",
            "users",
            "DELETE users",
        ),
        (
            "WITH d AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM d",
            "INSERT",
            None,
            "DELETE a INSERT b",
        ),
        (
            "INSERT INTO users(id) VALUES (1) ON CONFLICT DO UPDATE SET id = 2",
            "INSERT",
            "users",
            "INSERT users",
        ),
        ("INSERT OR REPLACE INTO users VALUES (1)", "INSERT", "users", "INSERT users"),
        ("INSERT INTO a SELECT * FROM b", "INSERT", None, "INSERT a SELECT b"),
        ("UPDATE ONLY users SET a = 1 WHERE x = 2", "UPDATE", "users", "UPDATE users"),
        ("UPDATE a SET x = b.x FROM b", "UPDATE", None, "UPDATE a b"),
        ("DELETE FROM users", "DELETE", "users", "DELETE users"),
        ("MERGE INTO a USING b ON a.x = b.x WHEN MATCHED THEN DELETE", "MERGE", None, "MERGE a b"),
        (
            "CREATE TABLE IF NOT EXISTS t (a INT REFERENCES u ON DELETE CASCADE)",
            "CREATE",
            "t",
            "CREATE TABLE t",
        ),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", "CREATE", "t", "CREATE INDEX t"),
        ("DROP TABLE t", "DROP", "t", "DROP TABLE t"),
        ("TRUNCATE t", "TRUNCATE", "t", "TRUNCATE t"),
        ("ALTER TABLE t ADD COLUMN a INT", "ALTER", "t", "ALTER TABLE t"),
        ("PRAGMA table_info(users)", "PRAGMA", None, "PRAGMA"),
        ("EXPLAIN (ANALYZE) SELECT * FROM users", "EXPLAIN", "users", "EXPLAIN SELECT users"),
        ("BEGIN", "BEGIN", None, "BEGIN"),
        ("SAVEPOINT sa_savepoint_1", "SAVEPOINT", None, "SAVEPOINT"),
        ("ROLLBACK TO SAVEPOINT sa_savepoint_1", "ROLLBACK", None, "ROLLBACK"),
        ("GRANT SELECT ON users TO ada", "GRANT", None, "GRANT"),
        ("SELECT 1; DELETE FROM users", "SELECT", None, "SELECT DELETE users"),
        ("LIGHTS ON", None, None, ""),
        ("", None, None, ""),
        ("-- nothing", None, None, ""),
        ("((((", None, None, ""),
    ],
)
def test_operation_table_and_summary(text, operation, collection, summary):
    statement = read(text)
    assert (statement.operation, statement.collection, statement.summary) == (operation, collection, summary)


@pytest.mark.parametrize(
    ("dialect", "text", "shown"),
    [
        ("postgresql", "SELECT 'it''s' || E'it\\'s', $$a 'b$$, $t$ $$ $t$", "SELECT ? || ?, ?, ?"),
        ("postgresql", "SELECT 'C:\\', x", "SELECT ?, x"),
        ("postgresql", "SELECT -1.5e-3, .5, 0x1F, TRUE, NULL, t1.c2", "SELECT -?, ?, ?, ?, NULL, t1.c2"),
        (
            "postgresql",
            "SELECT a::int, $1::int, %(x)s, :y FROM t",
            "SELECT a::int, $1::int, %(x)s, :y FROM t",
        ),
        ("postgresql", 'SELECT "a 1" FROM "b"', 'SELECT "a 1" FROM "b"'),
        ("postgresql", "SELECT a[1:5]", "SELECT a[?:?]"),
        ("postgresql", "CREATE ROLE ada PASSWORD 'x'", "CREATE ROLE ada PASSWORD ?"),
        ("mysql", "SELECT 'it\\'s', \"x\", `a` # 'c'", "SELECT ?, ?, `a`"),
        ("sqlite", 'SELECT a FROM "t" WHERE b = "x" OR "y" = c', 'SELECT a FROM "t" WHERE b = ? OR ? = c'),
        ("sqlite", "PRAGMA key = hunter2", "PRAGMA key = ?"),
        ("mssql", "SELECT [a 1] FROM t WHERE m = $5.50", "SELECT [a 1] FROM t WHERE m = $?"),
        ("oracle", "SELECT q'[it's]', :1 FROM t", "SELECT ?, :1 FROM t"),
        ("oracle", "CREATE USER ada IDENTIFIED BY tiger", "CREATE USER ada IDENTIFIED BY ?"),
        ("something_else", "SELECT a, 'b\\', secret, '", "SELECT a, ?"),
    ],
)
def test_literals_are_replaced_by_the_rules_of_each_database(dialect, text, shown):
    assert read(text, dialect).text == shown


@pytest.mark.parametrize(
    "listed", ["(1)", "(1, 2, 3)", "(%(a_1)s, %(a_2)s)", "($1::INTEGER, $2::VARCHAR(9))", "((?, ?), (?, ?))"]
)
def test_in_lists_of_any_length_are_told_as_one(listed):
    assert read(f"SELECT * FROM t WHERE a IN {listed} AND b").text == "SELECT * FROM t WHERE a IN (?) AND b"


def test_rows_of_any_number_are_told_as_one():
    rows = ", ".join(f"(%(a__{n})s, coalesce(%(b__{n})s, 0))" for n in range(50))
    shown = read(f"INSERT INTO t (a, b) VALUES {rows} RETURNING id").text
    assert shown == "INSERT INTO t (a, b) VALUES (%(a__0)s, coalesce(%(b__0)s, ?)), ... RETURNING id"


def test_comments_are_left_out():
    assert read("SELECT 1 /* traceparent='00-ab' */ -- x\nFROM t").text == "SELECT ? FROM t"


def test_what_is_shown_is_bounded():
    columns = ", ".join(f"a_long_name_for_column_{n}" for n in range(100_000))
    tables = ", ".join(f"table_{n}" for n in range(1_000))
    assert len(read(f"SELECT {columns} FROM t").text) <= MOST_SHOWN
    assert len(read(f"SELECT * FROM {tables}").summary) <= MOST_SUMMARY
    assert len(read(f"SELECT * FROM {'x' * 10_000}").collection or "") <= statements.MOST_NAME


SECRET = "5ecret"
words = st.text(alphabet=string.ascii_letters + " '\"\\$/*-;:%()[]`\n{}é", max_size=12)


@st.composite
def literals(draw: st.DrawFn, dialect: str) -> str:
    """A literal of `dialect` that holds SECRET, spelled as the database requires."""
    text = draw(words) + SECRET + draw(words)
    kinds = ["quoted", "number"]
    kinds += {"postgresql": ["dollar", "escaped"], "mysql": ["double"], "oracle": ["q"]}.get(dialect, [])
    kind = draw(st.sampled_from(kinds))
    if kind == "number":
        return f"0x{SECRET.encode().hex()}"
    if kind == "dollar":
        return f"$q${text.replace('$', '')}$q$"
    if kind == "q":
        return f"q'[{text.replace(']', '')}]'"
    if kind in {"double", "escaped"} or dialect == "mysql":
        escaped = text.replace("\\", "\\\\")
        quote = '"' if kind == "double" else "'"
        backslashed = draw(st.booleans())
        escaped = escaped.replace(quote, "\\" + quote if backslashed else quote * 2)
        return ("E" if kind == "escaped" else "") + quote + escaped + quote
    return "'" + text.replace("'", "''") + "'"


@st.composite
def statements_with_secrets(draw: st.DrawFn) -> tuple[str, str]:
    dialect = draw(st.sampled_from(["postgresql", "mysql", "sqlite", "mssql", "oracle", "trino"]))
    one = literals(dialect)
    template = draw(
        st.sampled_from(
            [
                "SELECT {} FROM t WHERE a = {} OR b LIKE {}",
                "INSERT INTO t (a) VALUES ({}),({}), ({})",
                "UPDATE t SET a={},b={} WHERE c IN ({}, 1)",
                "SELECT * FROM t WHERE a IN ({},{}) -- done\n AND b={}",
                "/* x */ DELETE FROM t WHERE a>{}AND b<{}/* y */OR {}=c",
            ]
        )
    )
    return dialect, template.format(draw(one), draw(one), draw(one))


@given(statements_with_secrets())
def test_no_literal_survives(case):
    dialect, text = case
    told = read(text, dialect)
    assert SECRET not in f"{told}"
    assert SECRET.encode().hex() not in f"{told}"
    assert told.collection == "t", "quotes within a literal must not hide the table behind it"


@given(statements_with_secrets(), st.integers(min_value=0, max_value=300))
def test_no_literal_survives_being_cut(case, length):
    dialect, text = case
    assert SECRET not in f"{read(text[:length], dialect)}"


@given(st.text(), st.sampled_from(DIALECTS))
def test_no_text_raises(text, dialect):
    read(text, dialect)


JUMBLE = "SELECT FROM WITH AS ( ) , ; . JOIN t 'x' \" ` [ ] INSERT INTO /* */ IN ? 1 $1 $$"


@given(
    st.lists(st.sampled_from(JUMBLE.split())),
    st.sampled_from(DIALECTS),
)
def test_no_jumble_of_keywords_raises(jumble, dialect):
    read(" ".join(jumble), dialect)


@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "sqlite", "oracle"])
@pytest.mark.parametrize(
    "piece", ["'a''", "$a$b$c$ ", "[a", "/* ", '"', "`a", "%(", "a . ", "q'a ", "IN (?,"]
)
def test_a_megabyte_takes_linear_time(piece, dialect):
    # Were any of these quadratic, a megabyte would take minutes: the test's own time limit tells.
    text = piece * (1_000_000 // len(piece) // 4)
    assert sum(1 for _ in lexing.tokens(text, quoting(dialect))) > 0
    read(text, dialect)


def test_only_the_beginning_of_a_long_statement_is_read():
    one, other = (f"SELECT * FROM t WHERE a = '{'x' * MOST_READ}{n}'" for n in range(2))
    assert read(one) == read(other)
    assert read(one).collection == "t"
