"""The seeded data: always the same, whole, and with the indexes that the README names."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, select

from examples.restaurant import seed
from examples.restaurant.database import database_url, make_engine
from examples.restaurant.models import Base, Order, OrderItem, Schedule, User


def by_table(scale: int = 1) -> dict[str, list[dict[str, Any]]]:
    return {table.__tablename__: rows for table, rows in seed.rows(scale)}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"DATABASE_URL": f"sqlite:///{tmp_path / 'restaurant.sqlite3'}"}


def test_rows_are_the_same_every_time() -> None:
    assert by_table() == by_table()


def test_a_few_thousand_rows_and_in_proportion_to_the_scale() -> None:
    small, large = by_table(), by_table(scale=3)
    assert 3_000 < sum(map(len, small.values())) < 6_000
    for table in ("branches", "users", "schedules", "orders"):
        assert len(large[table]) == 3 * len(small[table])
    assert len(large["menu_items"]) == len(small["menu_items"]) == 30


def test_every_reference_leads_somewhere() -> None:
    data = by_table()
    for table in Base.metadata.sorted_tables:
        for key in table.foreign_keys:
            known = {row["id"] for row in data[key.column.table.name]}
            assert {row[key.parent.name] for row in data[table.name]} <= known


def test_an_order_costs_what_its_lines_cost() -> None:
    data = by_table()
    totals = dict.fromkeys((order["id"] for order in data["orders"]), 0)
    for line in data["order_items"]:
        totals[line["order_id"]] += line["quantity"] * line["price_cents"]
    assert totals == {order["id"]: order["total_cents"] for order in data["orders"]}


def test_a_database_is_filled_once_and_then_left_alone(env: dict[str, str]) -> None:
    async def fill_twice() -> tuple[int, int, int]:
        engine = make_engine(env)
        try:
            first, second = await seed.seed(engine), await seed.seed(engine)
            async with engine.connect() as connection:
                total = 0
                for table in Base.metadata.sorted_tables:
                    total += len((await connection.execute(select(table))).all())
            return first, second, total
        finally:
            await engine.dispose()

    first, second, found = asyncio.run(fill_twice())
    assert first == found == sum(map(len, by_table().values()))
    assert second == 0


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        (User, ["email"]),
        (User, ["role"]),
        (User, ["branch_id"]),
        (User, ["created_at"]),
        (Schedule, ["user_id"]),
        (Schedule, ["date"]),
        (Schedule, ["date", "user_id"]),
        (Order, ["branch_id"]),
        (OrderItem, ["order_id"]),
    ],
)
def test_the_hot_columns_have_their_indexes(
    env: dict[str, str], table: type[Base], columns: list[str]
) -> None:
    async def indexes() -> list[list[str | None]]:
        engine = make_engine(env)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
                return await connection.run_sync(
                    lambda c: [index["column_names"] for index in inspect(c).get_indexes(table.__tablename__)]
                )
        finally:
            await engine.dispose()

    assert columns in asyncio.run(indexes())


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgresql://u@h/d", "postgresql+asyncpg"),
        ("postgres://u@h/d", "postgresql+asyncpg"),
        ("postgresql+psycopg://u@h/d", "postgresql+asyncpg"),
        ("sqlite:////tmp/x", "sqlite+aiosqlite"),
    ],
)
def test_a_database_url_gets_an_async_driver(given: str, used: str) -> None:
    assert database_url({"DATABASE_URL": given}).drivername == used


def test_a_database_it_does_not_speak_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="mysql"):
        database_url({"DATABASE_URL": "mysql://u@h/d"})
