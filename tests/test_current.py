"""The current context: through the API's own variable where that is where we know it, else through the API."""

from __future__ import annotations

import contextvars
from types import ModuleType
from typing import Any

import opentelemetry.context as api
import pytest
from opentelemetry.context.context import Context

from restaurant_otel import current
from tests.support import modules


def test_the_variable_that_the_api_keeps_the_context_in_is_where_we_know_it() -> None:
    """Private names of another package: when they change, all still works, each request costs a little more."""
    assert current.enter == api._RUNTIME_CONTEXT._current_context.set  # type: ignore[attr-defined]


def test_what_is_entered_is_the_apis_current_context() -> None:
    before = api.get_current()
    token = current.enter(Context({"k": 1}))
    assert api.get_current() == current.present() == {"k": 1}
    current.leave(token)
    assert api.get_current() == before


class Elsewhere:
    """An implementation of the API's context that is not its usual one."""

    def __init__(self) -> None:
        self.stack = [Context()]

    def get_current(self) -> Context:
        return self.stack[-1]

    def attach(self, context: Context) -> Any:
        self.stack.append(context)
        return len(self.stack)

    def detach(self, token: Any) -> None:
        assert token == len(self.stack)
        self.stack.pop()


@pytest.fixture
def with_another_runtime(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as it is where OTEL_PYTHON_CONTEXT names another implementation."""
    monkeypatch.setattr(api, "_RUNTIME_CONTEXT", Elsewhere())
    return modules.load(current.__file__)


def test_another_implementation_of_the_context_is_used(with_another_runtime: ModuleType) -> None:
    token = with_another_runtime.enter(Context({"k": 1}))
    assert api.get_current() == with_another_runtime.present() == {"k": 1}
    with_another_runtime.leave(token)
    assert api.get_current() == {}


def test_leaving_from_elsewhere_or_twice_does_not_raise() -> None:
    token = contextvars.copy_context().run(current.enter, Context({"k": 1}))
    before = api.get_current()
    current.leave(token)
    assert api.get_current() == before
    own = current.enter(Context({"k": 2}))
    current.leave(own)
    current.leave(own)
    assert api.get_current() == before
