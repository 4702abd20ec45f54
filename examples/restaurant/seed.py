"""Fills an empty database with the same data every time.

``python -m examples.restaurant.seed [--scale N]``: N = 1 gives some 4,000 rows in about a second; the
number of branches, and of what hangs on them, grows with N. A database that holds data is left alone.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from examples.restaurant.database import make_engine
from examples.restaurant.models import Base, Branch, MenuItem, Order, OrderItem, Schedule, User

FIRST_DAY = date(2025, 6, 2)
"""The Monday of the week that schedules and orders are in; fixed, so that every run is the same."""
DAYS = 7
BRANCHES, USERS_A_BRANCH, ORDERS_A_BRANCH = 6, 40, 100
MENU = {
    "starter": ("Bruschetta", "Tomato soup", "Burrata", "Carpaccio", "Olives", "Focaccia"),
    "pasta": ("Carbonara", "Cacio e pepe", "Lasagne", "Ravioli", "Gnocchi", "Pesto trofie"),
    "pizza": ("Margherita", "Marinara", "Diavola", "Quattro formaggi", "Capricciosa", "Bianca"),
    "dessert": ("Tiramisu", "Panna cotta", "Gelato", "Cannoli", "Affogato", "Torta caprese"),
    "drink": ("Still water", "Sparkling water", "House red", "House white", "Espresso", "Lemonade"),
}
CITIES = ("Turin", "Bologna", "Naples", "Verona", "Palermo", "Lecce")
FIRST_NAMES = ("Ada", "Bruno", "Carla", "Dario", "Elena", "Fabio", "Gaia", "Hugo", "Ines", "Luca", "Mara")
LAST_NAMES = ("Bianchi", "Conti", "Costa", "Ferri", "Gallo", "Greco", "Leone", "Marini", "Moretti", "Ricci")
SHIFTS = (("08:00", "16:00"), ("11:00", "19:00"), ("16:00", "24:00"))

Row = dict[str, Any]


def rows(scale: int = 1) -> Iterator[tuple[type[Base], list[Row]]]:
    """All rows, table by table in an order that foreign keys allow; equal for equal `scale`."""
    chance = random.Random(4)
    branches = [
        {"id": number, "name": f"Trattoria {number}", "city": CITIES[number % len(CITIES)]}
        for number in range(1, BRANCHES * scale + 1)
    ]
    users = [_user(chance, number, branches) for number in range(len(branches) * USERS_A_BRANCH)]
    menu = [
        {"id": number, "name": name, "section": section, "price_cents": chance.randrange(250, 2400, 50)}
        for number, (section, name) in enumerate(((s, n) for s in MENU for n in MENU[s]), start=1)
    ]
    orders, lines = [], []
    for number in range(1, ORDERS_A_BRANCH * len(branches) + 1):
        ordered = [_line(chance, number, dish) for dish in chance.sample(menu, chance.randint(1, 5))]
        lines.extend(ordered)
        orders.append(_order(chance, number, branches, ordered))
    yield Branch, branches
    yield User, users
    yield Schedule, [shift for user in users for shift in _week(chance, user)]
    yield MenuItem, menu
    yield Order, orders
    yield OrderItem, lines


def _user(chance: random.Random, number: int, branches: list[Row]) -> Row:
    name = _name(chance)
    return {
        "id": number + 1,
        "email": f"{name.lower().replace(' ', '.')}.{number + 1}@trattoria.example",
        "full_name": name,
        "role": chance.choices(("waiter", "cook", "manager", "admin"), (55, 35, 8, 2))[0],
        "branch_id": branches[number // USERS_A_BRANCH]["id"],
        "created_at": _moment(chance) - timedelta(days=chance.randrange(30, 900)),
    }


def _week(chance: random.Random, user: Row) -> Iterator[Row]:
    for day in sorted(chance.sample(range(DAYS), 5)):
        starts, ends = chance.choice(SHIFTS)
        yield {"user_id": user["id"], "date": FIRST_DAY + timedelta(day), "starts": starts, "ends": ends}


def _line(chance: random.Random, order_id: int, dish: Row) -> Row:
    return {
        "order_id": order_id,
        "menu_item_id": dish["id"],
        "quantity": chance.randint(1, 3),
        "price_cents": dish["price_cents"],
    }


def _order(chance: random.Random, number: int, branches: list[Row], lines: list[Row]) -> Row:
    return {
        "id": number,
        "branch_id": chance.choice(branches)["id"],
        "guest_name": _name(chance),
        "status": chance.choices(("open", "ready", "paid"), (5, 5, 90))[0],
        "total_cents": sum(line["quantity"] * line["price_cents"] for line in lines),
        "created_at": _moment(chance),
    }


def _name(chance: random.Random) -> str:
    return f"{chance.choice(FIRST_NAMES)} {chance.choice(LAST_NAMES)}"


def _moment(chance: random.Random) -> datetime:
    """A minute in the opening hours of the week."""
    opening = datetime.combine(FIRST_DAY, time(11))
    return opening + timedelta(days=chance.randrange(DAYS), minutes=chance.randrange(12 * 60))


async def seed(engine: AsyncEngine, scale: int = 1) -> int:
    """Make the tables and fill them, in one transaction; returns the rows written, 0 where data was found."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        if await connection.scalar(select(func.count()).select_from(Branch)):
            return 0
        written = 0
        for table, values in rows(scale):
            await connection.execute(insert(table), values)
            written += len(values)
        if connection.dialect.name == "postgresql":
            await _advance_sequences(connection)
    return written


async def _advance_sequences(connection: AsyncConnection) -> None:
    """PostgreSQL hands out ids from sequences, which rows inserted with their ids did not move."""
    for table in Base.metadata.sorted_tables:
        name = table.name
        await connection.execute(
            text(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), (SELECT max(id) FROM {name}))")
        )


async def _main(scale: int) -> None:
    engine = make_engine()
    try:
        written = await seed(engine, scale)
    finally:
        await engine.dispose()
    where = engine.url.render_as_string(hide_password=True)
    print(f"{written} rows written to {where}" if written else f"{where} holds data already: left as it is")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fill an empty database with the example restaurants' data.")
    parser.add_argument("--scale", type=int, default=1, help="times the data of one small chain (default 1)")
    asyncio.run(_main(parser.parse_args().scale))
