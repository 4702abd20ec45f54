"""N+1 is named, with its route, its count and its fix; what works in batches on purpose is left in peace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncAttrs, AsyncSession, create_async_engine

from restaurant_otel import sql
from restaurant_otel.sql import repeats
from restaurant_otel.sql.book import RepeatedQuery, repeated_queries
from tests.sql.conftest import Request, Told, fresh_words
from tests.support.spans import Spans

REPEATS = 10


class Base(AsyncAttrs, orm.DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "authors"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    books: orm.Mapped[list[Book]] = orm.relationship(back_populates="author", order_by="Book.id")


class Book(Base):
    __tablename__ = "books"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    author_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("authors.id"))
    author: orm.Mapped[Author] = orm.relationship(back_populates="books")


@pytest.fixture
def shop(told: Told, tmp_path) -> Iterator[sa.Engine]:
    """Thirty authors with two books each."""
    fresh_words()
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db")
    fill(engine)
    told.clear()
    yield engine
    engine.dispose()


def fill(engine: sa.Engine) -> None:
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add_all(Author(id=n, books=[Book(), Book()]) for n in range(1, 31))
        session.commit()


def found(route: str) -> list[RepeatedQuery]:
    return [each for each in repeated_queries() if each.route == route]


def lazily(engine: sa.Engine, *options, most: int = 30) -> int:
    with orm.Session(engine) as session:
        authors = session.scalars(sa.select(Author).limit(most).options(*options)).unique()
        return sum(len(author.books) for author in authors)


def test_a_statement_that_fails_is_repeated_too(shop: sa.Engine, told: Told):
    with Request("/failing"), shop.connect() as connection:
        for _ in range(REPEATS + 2):
            with pytest.raises(sa.exc.DBAPIError):
                connection.execute(sa.text("SELECT nothing FROM authors"))
    (each,) = found("/failing")
    assert (each.requests, each.queries) == (1, REPEATS + 2)


def test_a_lazy_collection_is_named_with_route_count_and_fix(shop: sa.Engine, told: Told):
    for _ in range(2):
        with Request("/named"):
            lazily(shop)
    (each,) = found("/named")
    assert (each.relationship, each.requests, each.queries) == ("Author.books", 2, 60)
    assert each.fix == "selectinload(Author.books)"
    assert each.location is not None
    assert each.location.startswith("tests.sql.test_repeats:lazily")
    assert told.total("restaurant_db_n_plus_one_total", http_route="/named") == 2
    assert told.total("restaurant_db_n_plus_one_queries_total", http_route="/named") == 60


def test_a_lazy_parent_is_named(shop: sa.Engine, told: Told):
    with Request("/parents"), orm.Session(shop) as session:
        assert len({book.author.id for book in session.scalars(sa.select(Book))}) == 30
    (each,) = found("/parents")
    assert (each.relationship, each.queries) == ("Book.author", 30)


def test_an_async_lazy_load_is_named(told: Told, tmp_path):
    fresh_words()
    plain = sa.create_engine(f"sqlite:///{tmp_path}/shop.db")
    fill(plain)
    plain.dispose()

    async def ask() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/shop.db")
        async with AsyncSession(engine) as session:
            for author in await session.scalars(sa.select(Author)):
                await author.awaitable_attrs.books
        await engine.dispose()

    with Request("/async"):
        asyncio.run(ask())
    (each,) = found("/async")
    assert (each.relationship, each.queries) == ("Author.books", 30)
    assert "ask" in str(each.location)


def test_the_request_s_span_has_an_event(shop: sa.Engine, told: Told, spans: Spans):
    with spans.provider.get_tracer("tests").start_as_current_span("request"), Request("/event"):
        lazily(shop)
    (request,) = spans.named("request")
    (event,) = [event for event in request.events if event.name == repeats.EVENT]
    assert event.attributes["restaurant.db.relationship"] == "Author.books"
    assert event.attributes["restaurant.db.fix"] == "selectinload(Author.books)"
    assert event.attributes["restaurant.db.queries"] == REPEATS


def test_it_is_found_when_nothing_is_sampled(shop: sa.Engine, told: Told):
    sql.uninstall()
    sql.install(tracer=lambda: Spans(ALWAYS_OFF).provider.get_tracer("tests"))
    with Request("/unsampled"):
        lazily(shop)
    assert [each.relationship for each in found("/unsampled")] == ["Author.books"]


def test_a_loop_over_one_statement_is_a_repetition_by_its_summary(shop: sa.Engine, told: Told):
    with Request("/loop"), shop.connect() as connection:
        for n in range(1, 21):
            connection.execute(sa.select(Book).where(Book.id == n)).all()
    (each,) = found("/loop")
    assert (each.relationship, each.requests, each.queries) == ("SELECT books", 1, 20)
    assert "IN" in str(each.fix)


def test_the_threshold_is_a_setting(shop: sa.Engine, told: Told, spans: Spans):
    for repeats_allowed, expected in ((0, 0), (31, 0), (3, 1)):
        sql.uninstall()
        sql.install(
            tracer=lambda: spans.provider.get_tracer("tests"), options=sql.Options(repeats=repeats_allowed)
        )
        with Request(f"/threshold/{repeats_allowed}"):
            lazily(shop)
        assert len(found(f"/threshold/{repeats_allowed}")) == expected


# --- no false alarm ----------------------------------------------------------------------------------


def selectin(engine):
    lazily(engine, orm.selectinload(Author.books))


def joined(engine):
    lazily(engine, orm.joinedload(Author.books))


def subquery(engine):
    lazily(engine, orm.subqueryload(Author.books))


def selectin_in_many_parts(engine):
    # Twelve pages of one result, for each of which selectin asks once more: as it should.
    with orm.Session(engine) as session:
        query = sa.select(Author).options(orm.selectinload(Author.books)).execution_options(yield_per=2)
        for part in session.scalars(query).partitions():
            assert all(len(author.books) == 2 for author in part)


def few(engine):
    lazily(engine, most=REPEATS - 1)


def a_stream(engine):
    with engine.connect() as connection:
        rows = connection.execution_options(stream_results=True, yield_per=1).execute(sa.select(Book))
        assert len([row for part in rows.partitions(1) for row in part]) == 60


def a_batch(engine):
    with engine.begin() as connection:
        connection.execute(sa.insert(Book), [{"author_id": 1}] * 50)


def many_inserts(engine):
    with orm.Session(engine) as session:
        session.add_all(Author() for _ in range(50))
        session.commit()


def different_statements(engine):
    with engine.connect() as connection:
        for n in range(30):
            connection.execute(sa.text(f"SELECT id AS a{n} FROM books")).all()


@pytest.mark.parametrize(
    "work",
    [
        selectin,
        joined,
        subquery,
        selectin_in_many_parts,
        few,
        a_stream,
        a_batch,
        many_inserts,
        different_statements,
    ],
    ids=lambda work: work.__name__,
)
def test_no_false_alarm(shop: sa.Engine, told: Told, work: Callable):
    with Request("/fine") as request:
        work(shop)
    assert told.total("restaurant_db_n_plus_one_total", http_route="/fine") == 0
    assert hasattr(request, "queries") or work in (a_batch, many_inserts)


def test_polling_is_no_repetition(shop: sa.Engine, told: Told, monkeypatch):
    monkeypatch.setattr(repeats, "PAUSE", -1.0)  # as if more than that had passed before each query
    with Request("/poll"):
        lazily(shop)
    assert found("/poll") == []


def test_outside_of_a_request_nothing_is_counted(shop: sa.Engine, told: Told):
    lazily(shop)
    assert told.total("restaurant_db_n_plus_one_total") == 0


def test_sqlalchemy_still_keeps_what_names_a_relationship(shop: sa.Engine, told: Told, added):
    with Request("/internals"):
        lazily(shop)
    assert added().total("restaurant_telemetry_errors_total", restaurant_telemetry_part="n plus one") == 0


@pytest.mark.parametrize("missing", ["compiled", "execution_options"])
def test_a_sqlalchemy_that_keeps_it_elsewhere_costs_the_name_only(
    shop: sa.Engine, told: Told, monkeypatch, missing
):
    def loaded(context):
        raise AttributeError(missing)

    monkeypatch.setattr(repeats, "loaded", loaded)
    with Request(f"/unnamed/{missing}"):
        assert lazily(shop) == 60
    assert [each.relationship for each in found(f"/unnamed/{missing}")] == ["SELECT books"]
