"""Which handlers get an event, in what order, and how long a failed one waits."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from pydantic import BaseModel

from flowstore import Retry, WorkflowEvent
from flowstore.codec import Codec
from flowstore.errors import ConfigurationError, DuplicateHandlerError, HandlerSignatureError
from flowstore.routing import Routes


class Base(BaseModel):
    key: str = ""


class Derived(Base):
    pass


class Mixed(Derived):
    pass


@dataclass
class Data:
    number: int = 0


async def handle(event): ...


@pytest.fixture
def routes():
    return Routes(Codec())


def found(routes, name):
    return [handler.name for handler in routes.handlers(name)]


# --- who gets what -----------------------------------------------------------------------


def test_handlers_come_in_the_order_of_registration_whatever_their_key(routes):
    for number, key in enumerate((Mixed, "*", Base, "Mixed", Derived)):
        routes.add(key, handle, name=str(number))
    assert found(routes, "Mixed") == ["0", "1", "2", "3", "4"]
    assert found(routes, "Derived") == ["1", "2", "4"]
    assert found(routes, "Base") == ["1", "2"]
    assert found(routes, "anything") == ["1"]


def test_a_name_is_matched_whole(routes):
    routes.add("order", handle)
    for name in ("orders", "Order", "order ", "order.paid"):
        assert found(routes, name) == []


def test_a_class_that_is_defined_later_is_caught_by_its_base(routes):
    routes.add(Base, handle)
    assert found(routes, "Base") == ["handle"]

    class Later(Base):
        pass

    assert found(routes, "Later") == ["handle"]
    assert Later().key == ""


def test_what_is_registered_later_is_found(routes):
    assert found(routes, "Data") == []
    routes.add(Data, handle)
    assert found(routes, "Data") == ["handle"]
    routes.add("*", handle, name="all")
    assert found(routes, "Data") == ["handle", "all"]


def test_names_that_can_meet_are_refused_and_others_are_not(routes):
    routes.add("a", handle)
    routes.add("b", handle)
    routes.add(Data, handle)
    routes.add(Derived, handle)
    for key in ("a", "*", Data, "Data", Derived, Base, Mixed):
        with pytest.raises(DuplicateHandlerError, match=r"'handle'.*name="):
            routes.add(key, handle)
    assert found(routes, "a") == ["handle"]


# --- what a handler is given -----------------------------------------------------------------


async def _one(event): ...


async def _ctx(event, ctx): ...


async def _anything(event, whatever): ...


async def _state(event, state): ...


async def _optional(event, option=None): ...


async def _optional_ctx(event, ctx=None): ...


async def _optional_state(event, state=None): ...


async def _rest(*arguments): ...


async def _positional(event, ctx, /): ...


async def _keywords(event, *, option=1, **more): ...


class _Object:
    async def method(self, event, ctx): ...

    @classmethod
    async def of_class(cls, event): ...

    @staticmethod
    async def static(event, state): ...


@pytest.mark.parametrize(
    ("function", "second"),
    [
        (_one, "nothing"),
        (_ctx, "context"),
        (_anything, "context"),
        (_state, "state"),
        (_optional, "nothing"),
        (_optional_ctx, "context"),
        (_optional_state, "state"),
        (_rest, "context"),
        (_positional, "context"),
        (_keywords, "nothing"),
        (_Object().method, "context"),
        (_Object.of_class, "nothing"),
        (_Object.static, "state"),
    ],
)
def test_the_second_parameter(routes, function, second):
    routes.add("go", function)
    (handler,) = routes.handlers("go")
    assert handler.second == second
    assert handler.runs_on_loop


def test_a_class_is_refused_unless_it_can_be_called_with_an_event(routes):
    with pytest.raises(HandlerSignatureError):
        routes.add("go", object())


# --- waiting ---------------------------------------------------------------------------------


class _Chance(random.Random):
    def __init__(self, value):
        super().__init__()
        self._value = value

    def random(self):
        return self._value


@pytest.mark.parametrize(("value", "factor"), [(0.0, 0.8), (0.5, 1.0), (1.0, 1.2)])
def test_jitter_reaches_from_below_to_above(value, factor):
    retry = Retry(attempts=9, delay=2, factor=3, jitter=0.2, max_delay=100)
    for attempt, plain in enumerate((2, 6, 18, 54, 100, 100), start=1):
        waited = retry.seconds_after(attempt, ValueError(), _Chance(value))
        assert waited == pytest.approx(plain * factor)


def test_the_last_attempt_is_the_last():
    retry = Retry(attempts=3)
    assert [retry.seconds_after(n, ValueError(), _Chance(0.5)) for n in (1, 2, 3, 4)] == [
        1,
        2,
        None,
        None,
    ]
    assert Retry(attempts=1).seconds_after(1, ValueError(), _Chance(0.5)) is None


def test_a_million_attempts_are_no_overflow():
    retry = Retry(attempts=10**9, delay=1, factor=10, max_delay=300, jitter=0)
    assert retry.seconds_after(10**6, ValueError(), _Chance(0.5)) == 300


def test_only_what_is_named_is_tried_again():
    retry = Retry(on=(OSError, ValueError))
    assert retry.seconds_after(1, ConnectionError(), _Chance(0.5)) == 1
    assert retry.seconds_after(1, UnicodeError(), _Chance(0.5)) == 1
    assert retry.seconds_after(1, KeyError(), _Chance(0.5)) is None


def test_a_correlation_that_gives_nothing_is_refused(make):
    workflow = make()
    workflow.register("lost", print, name="lost", correlate=lambda data: data.get("case"))
    with pytest.raises(ConfigurationError, match="correlation_id="):
        workflow._runtime.append(WorkflowEvent("lost", {}), None, None, None)


async def test_a_correlation_for_everything_counts_for_everything(workflow):
    workflow.register("*", print, name="all", correlate="case")
    receipt = await workflow.send(WorkflowEvent("any", {"case": "c-1"}))
    assert receipt.correlation_id == "c-1"


def test_retry_on_something_that_is_no_exception_is_refused():
    with pytest.raises(ConfigurationError, match="exception class"):
        Retry(on="x")
