"""Comments for the database's own logs: off unless asked for, the same for each execution, and harmless."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from restaurant_otel import sql
from tests.sql.conftest import Database, Request, Told, users
from tests.sql.test_queries import insert_batch, select_in_chunks, select_rows
from tests.support.spans import Spans


@pytest.fixture
def seen(database: Database, told: Told, spans: Spans):
    """What the dialect was asked to execute, with comments on."""
    texts: list[str] = []
    sql.uninstall()

    def listener(cursor, statement, *rest):
        texts.append(statement)

    sql.install(
        tracer=lambda: spans.provider.get_tracer("tests"),
        options=sql.Options(comments=frozenset({"route", "application"})),
    )
    for name in ("do_execute", "do_executemany"):
        sa.event.listen(sa.Engine, name, listener)  # behind ours: it sees what the driver is given
    yield texts
    for name in ("do_execute", "do_executemany"):
        sa.event.remove(sa.Engine, name, listener)


def test_the_route_is_in_a_comment_that_stays_the_same(database: Database, told: Told, seen):
    with Request("/guests/{id}"):
        database.run(insert_batch)
        assert len(database.run(select_rows)) == 1
        database.run(select_rows)
        assert len(database.run(select_in_chunks)) == 3
    mine = [text for text in seen if "WHERE users.name" in text]
    assert len(set(mine)) == 1, "a text that differs each time would defeat caches of prepared statements"
    assert mine[0].replace("%%", "%").endswith("route='%2Fguests%2F%7Bid%7D'*/")
    assert "traceparent" not in "".join(seen)
    assert all("/*" not in span.attributes["db.query.text"] for span in told.spans)


def test_a_route_cannot_end_the_comment(database: Database, told: Told, seen):
    with Request("/*/ DROP TABLE users; --'"):
        database.run(insert_batch)
        assert len(database.run(lambda c: c.execute(sa.select(users)).all())) == 3
    assert all(text.count("*/") <= 1 for text in seen)


def test_there_is_none_by_default(database: Database, told: Told, spans: Spans):
    texts: list[str] = []

    def listener(cursor, statement, *rest):
        texts.append(statement)

    sa.event.listen(sa.Engine, "do_execute", listener)
    try:
        with Request("/guests"):
            database.run(select_rows)
    finally:
        sa.event.remove(sa.Engine, "do_execute", listener)
    assert texts
    assert not any("/*" in text for text in texts)
