"""`measure`: functions and blocks that are not endpoints, timed without changing what they do."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from restaurant_otel import measure, telemetry
from tests.support.readings import Readings
from tests.support.spans import Spans

COUNT = "restaurant_operation_duration_seconds_count"

Added = Callable[[], Readings]


@pytest.fixture(autouse=True)
def _tracer(monkeypatch: pytest.MonkeyPatch, spans: Spans) -> None:
    monkeypatch.setattr(telemetry, "tracer", lambda: spans.provider.get_tracer("tests"))


def test_a_function_keeps_its_name_signature_and_result(added: Added, spans: Spans) -> None:
    @measure("price")
    def price(menu: int, *, tax: float = 0.1) -> float:
        """Price it."""
        return menu * (1 + tax)

    assert price(10, tax=0.5) == 15
    assert price.__doc__ == "Price it."
    assert list(inspect.signature(price).parameters) == ["menu", "tax"]
    assert added().total(COUNT, restaurant_operation_name="price") == 1
    assert [span.name for span in spans.all()] == ["price"]


def test_a_coroutine_is_timed_to_its_end(added: Added) -> None:
    @measure("wait")
    async def wait() -> str:
        await asyncio.sleep(0.05)
        return "done"

    assert inspect.iscoroutinefunction(wait)
    assert asyncio.run(wait()) == "done"
    assert (
        added().total("restaurant_operation_duration_seconds_sum", restaurant_operation_name="wait") >= 0.045
    )


def test_a_block_is_timed_in_plain_and_asynchronous_code(added: Added, spans: Spans) -> None:
    async def run() -> None:
        with measure("outer"), measure("inner"):
            await asyncio.sleep(0)

    asyncio.run(run())
    inner, outer = spans.all()
    assert inner.parent is not None
    assert inner.parent.span_id == outer.get_span_context().span_id  # type: ignore[union-attr]
    assert added().total(COUNT) == 2


def test_an_exception_passes_through_and_is_counted_by_type(added: Added, spans: Spans) -> None:
    @measure("fails")
    def fails() -> None:
        raise LookupError("x")

    with pytest.raises(LookupError):
        fails()
    assert added().total(COUNT, restaurant_operation_name="fails", error_type="LookupError") == 1
    assert spans.all()[0].status.status_code is StatusCode.ERROR


def test_a_generator_is_timed_until_it_is_exhausted_or_closed(added: Added) -> None:
    @measure("numbers")
    def numbers() -> Iterator[int]:
        got = yield 1
        yield got

    assert list(numbers()) == [1, None]
    half = numbers()
    assert next(half) == 1
    assert half.send(5) == 5  # type: ignore[attr-defined]
    half.close()  # type: ignore[attr-defined]
    assert added().total(COUNT, restaurant_operation_name="numbers") == 2
    assert added().labels(COUNT, "error_type") == {""}


def test_an_asynchronous_generator_is_refused_with_the_way_out() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(TypeError, match=r"numbers.*with measure"):
        measure("numbers")(numbers)


@pytest.mark.parametrize("name", ["", "  ", None, 5])
def test_a_name_is_needed(name: Any) -> None:
    with pytest.raises(ValueError, match="needs a name"):
        measure(name)


def test_a_decorated_function_may_run_many_times_at_once(added: Added) -> None:
    @measure("many")
    async def many() -> None:
        await asyncio.sleep(0.01)

    async def run() -> None:
        await asyncio.gather(*(many() for _ in range(20)))

    asyncio.run(run())
    assert added().total(COUNT, restaurant_operation_name="many") == 20


def test_broken_telemetry_does_not_reach_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise RuntimeError("no tracer today")

    monkeypatch.setattr(telemetry, "tracer", broken)
    assert measure("works")(lambda: 5)() == 5
