"""The tables: branches, their users, who works when, what is on the menu, and what guests ordered.

Works on SQLite and PostgreSQL, SQLAlchemy 2.0 and 2.1. The indexes are those a restaurant product came
to need in practice. `users.full_name` and `orders.guest_name` have none, on purpose: the search page
goes over whole tables, and telemetry should tell.
"""

from __future__ import annotations

import datetime as dt

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

ROLES = ("waiter", "cook", "manager", "admin")
STATUSES = ("open", "ready", "paid")


class Base(AsyncAttrs, DeclarativeBase):
    """The tables of this app."""


class Branch(Base):
    """One restaurant of the chain."""

    __tablename__ = "branches"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    city: Mapped[str] = mapped_column(String(80))


class User(Base):
    """Somebody who works at a branch."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(120), unique=True, index=True)
    full_name: Mapped[str] = mapped_column(String(80))
    role: Mapped[str] = mapped_column(String(20), index=True)
    branch_id: Mapped[int] = mapped_column(ForeignKey("branches.id"), index=True)
    created_at: Mapped[dt.datetime] = mapped_column(index=True)


class Schedule(Base):
    """One user's shift on one day."""

    __tablename__ = "schedules"
    __table_args__ = (Index("ix_schedules_date_user_id", "date", "user_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    date: Mapped[dt.date] = mapped_column(index=True)
    starts: Mapped[str] = mapped_column(String(5))
    ends: Mapped[str] = mapped_column(String(5))

    user: Mapped[User] = relationship()


class MenuItem(Base):
    """A dish and its price."""

    __tablename__ = "menu_items"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    section: Mapped[str] = mapped_column(String(20), index=True)
    price_cents: Mapped[int]


class Order(Base):
    """What one table of guests ordered."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    branch_id: Mapped[int] = mapped_column(ForeignKey("branches.id"), index=True)
    guest_name: Mapped[str] = mapped_column(String(80))
    status: Mapped[str] = mapped_column(String(10), index=True)
    total_cents: Mapped[int]
    created_at: Mapped[dt.datetime] = mapped_column(index=True)

    items: Mapped[list[OrderItem]] = relationship(order_by="OrderItem.id")


class OrderItem(Base):
    """One line of an order, at the price of its day."""

    __tablename__ = "order_items"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), index=True)
    menu_item_id: Mapped[int] = mapped_column(ForeignKey("menu_items.id"))
    quantity: Mapped[int]
    price_cents: Mapped[int]

    menu_item: Mapped[MenuItem] = relationship()
