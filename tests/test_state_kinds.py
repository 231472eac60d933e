"""States that are models and dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from pydantic import BaseModel, Field, RootModel
from values import Colour

from flowstore.errors import ConfigurationError, InvalidStateError
from flowstore.kind import StateKind
from flowstore.state import State


class Line(BaseModel):
    price: Decimal = Decimal(0)
    tags: set[str] = set()


class Order(BaseModel):
    total: int = 0
    lines: list[Line] = []
    seen: datetime | None = None
    colour: Colour = Colour.RED
    by: str = Field(default="me", alias="By")


@dataclass(slots=True)
class Count:
    total: int = 0
    names: set[str] = field(default_factory=set)


def test_model_state_round_trips() -> None:
    kind = StateKind(Order)
    state = State(kind)
    assert state.value == Order()
    first = state.change()
    assert first is not None
    state.value.lines.append(Line(price=Decimal("1.50"), tags={"b", "a"}))
    state.value.seen = datetime(2024, 5, 1, 12, tzinfo=UTC)
    second = state.change()
    assert second is not None
    assert '"tags":["a","b"]' in second
    assert state.change() is None
    again = State(kind, None, [first, second])
    assert again.value == state.value
    assert type(again.value.lines[0].price) is Decimal
    assert again.change() is None


def test_dataclass_state_round_trips_and_restores() -> None:
    state = State(StateKind(Count))
    state.value.names |= {"b", "a"}
    assert state.change() == '[["=",["total"],0],["=",["names"],["a","b"]]]'
    state.value.total = 5
    state.restore()
    assert state.value == Count(0, {"a", "b"})
    state = State(StateKind(Count), state.document())
    assert state.value == Count(0, {"a", "b"})


def test_unsaved_new_state_is_restored_to_new() -> None:
    state = State(StateKind(Count))
    state.value.total = 5
    state.restore()
    assert state.value == Count()


def test_model_state_is_validated_when_saved() -> None:
    state = State(StateKind(Order))
    state.change()
    saved = state.document()
    state.value.total = "many"
    with pytest.raises(InvalidStateError, match=r"^state\.total: .*valid integer"):
        state.change()
    assert state.document() == saved
    state.restore()
    assert state.value.total == 0


def test_state_that_would_lose_something_is_refused() -> None:
    class Special(Line):
        extra: int = 1

    state = State(StateKind(Order))
    state.value.lines.append(Special())
    with pytest.raises(InvalidStateError, match=r"^state\.lines\[0\]: is Special"):
        state.change()


def test_stored_state_that_no_longer_fits_is_reported() -> None:
    with pytest.raises(InvalidStateError, match=r"^state\.total: the stored value does not fit"):
        State(StateKind(Order), '{"total":"many"}')


def test_new_needs_defaults() -> None:
    class Needy(BaseModel):
        name: str

    with pytest.raises(InvalidStateError, match="give every field a default"):
        State(StateKind(Needy))


def test_kinds_that_cannot_be_a_state() -> None:
    for kind in (list, int, "dict", None, object):
        with pytest.raises(ConfigurationError, match="state="):
            StateKind(kind)  # type: ignore[arg-type]


def test_model_that_is_not_an_object_is_refused() -> None:
    class Names(RootModel[list[str]]):
        root: list[str] = []

    state = State(StateKind(Names))
    with pytest.raises(InvalidStateError, match="JSON object"):
        state.change()


def test_another_class_than_the_kind_is_refused() -> None:
    state = State(StateKind(Order))
    state.value = {"total": 1}
    with pytest.raises(InvalidStateError, match="is dict; it must be Order"):
        state.change()
