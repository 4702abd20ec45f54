"""An app with a large schema for the admin API's tests: 300 tables of 20 columns, and a page of 500 statements."""

from __future__ import annotations

import os

import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from restaurant_otel import instrument
from tests.admin import lag
from tests.admin.tokens import ROOT, SECRET

TABLES = 300
COLUMNS = 20
STATEMENTS = 500
OFTEN = 10
"""Of these, how many are asked twenty times as often as the rest."""

ROWS = 5_000
"""Of each table that is asked often, so that what an index saves is many times what SQLite's trial may be wrong by; the
others have a few."""

metadata = sa.MetaData()
TABLE = [
    sa.Table(
        f"goods_{number}",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        *(sa.Column(f"c{column}", sa.Integer) for column in range(1, COLUMNS)),
    )
    for number in range(TABLES)
]


def fill(url: str) -> None:
    """Make the tables and their rows."""
    engine = sa.create_engine(url)
    rows = [
        {"id": row, **{f"c{column}": (row * column) % ROWS for column in range(1, COLUMNS)}}
        for row in range(ROWS)
    ]
    with engine.begin() as connection:
        metadata.drop_all(connection)  # what another test has left
        metadata.create_all(connection, checkfirst=False)
        for number, table in enumerate(TABLE):
            connection.execute(sa.insert(table), rows if number < OFTEN else rows[:3])
    engine.dispose()


def statement(number: int) -> sa.Select[tuple[int]]:
    """One of `STATEMENTS`, each another: a look by one column or by two."""
    table, turn = TABLE[number % TABLES], number // TABLES
    first, second = table.c[1 + number % (COLUMNS - 1)], table.c[1 + (number + 7) % (COLUMNS - 1)]
    found = sa.select(table.c.id).where(first == 7)
    return found.where(second > 3).order_by(second) if turn else found


engine = sa.create_engine(os.environ.get("TEST_DATABASE_URL", "sqlite://"))


def ask(_: Request) -> PlainTextResponse:
    """All statements."""
    with engine.connect() as connection:
        for number in range(STATEMENTS):
            for _ in range(20 if number < OFTEN else 1):
                connection.execute(statement(number)).all()
    return PlainTextResponse(str(os.getpid()))


app = instrument(
    Starlette(routes=[Route("/ask", ask)], lifespan=lag.watched),
    admin=ROOT,
    admin_key=SECRET,
    admin_database_url=os.environ.get("TEST_DATABASE_URL"),
)
