"""An app with a database for the admin API's tests: one lookup that lacks an index, one page that is an N+1."""

from __future__ import annotations

import logging
import os

import sqlalchemy as sa
from sqlalchemy import orm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from restaurant_otel import instrument
from tests.admin.tokens import ROOT, SECRET

logging.getLogger("restaurant_otel.audit").addHandler(logging.StreamHandler())

BRANCHES = 20
USERS = 20_000


class Base(orm.DeclarativeBase):
    """All tables."""


class Branch(Base):
    __tablename__ = "branches"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]


class User(Base):
    __tablename__ = "users"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    email: orm.Mapped[str]
    branch_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("branches.id"))
    branch: orm.Mapped[Branch] = orm.relationship()


def fill(url: str) -> None:
    """Make the tables and their rows."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
        branches = [{"id": number, "name": f"branch {number}"} for number in range(BRANCHES)]
        connection.execute(sa.insert(Branch), branches)
        users = [{"id": n, "email": f"u{n}@shop.example", "branch_id": n % BRANCHES} for n in range(USERS)]
        connection.execute(sa.insert(User), users)
    engine.dispose()


engine = sa.create_engine(os.environ.get("TEST_DATABASE_URL", "sqlite://"))


def by_email(request: Request) -> JSONResponse:
    with orm.Session(engine) as session:
        user = session.scalars(sa.select(User).where(User.email == request.path_params["email"])).one()
        return JSONResponse({"id": user.id})


def staff(_: Request) -> JSONResponse:
    with orm.Session(engine) as session:
        users = session.scalars(sa.select(User).order_by(User.id).limit(BRANCHES)).all()
        return JSONResponse([user.branch.name for user in users])


app = instrument(
    Starlette(routes=[Route("/users/{email}", by_email), Route("/staff", staff)]),
    admin=ROOT,
    admin_key=SECRET,
    admin_database_url=os.environ.get("TEST_ADVISED_URL", os.environ.get("TEST_DATABASE_URL")),
    sql_slow_seconds=0,
    objectives="database.objective=0.000001,database.limit=0.000002,score.coverage=0",
)
