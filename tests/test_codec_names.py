"""The names by which types are known, and the classes that stand behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel
from values import Model, Named

from flowstore.codec import Codec
from flowstore.errors import EventTypeError
from flowstore.events import WorkflowEvent


class Base(BaseModel):
    pass


class Middle(Base):
    pass


class Leaf(Middle):
    event_name: ClassVar[str] = "leaf"


@dataclass
class WithField:
    event_name: str = "not the name"


@dataclass
class Renamed:
    event_name: ClassVar[str] = "renamed"


def test_names_of_types() -> None:
    types = Codec().types
    assert types.register(Base) == "Base"
    assert types.register(Leaf) == "leaf"
    assert types.register(WithField) == "WithField"
    assert types.register(Renamed) == "renamed"
    assert types.name_of(Middle()) == types.name_of(Middle) == "Middle"
    assert types.register(Base) == "Base", "again is no conflict"


@pytest.mark.parametrize("thing", [int, dict, "x", 1, None, Model(), WorkflowEvent, Named])
def test_other_things_are_no_types(thing: Any) -> None:
    with pytest.raises(EventTypeError, match="cannot be an event type"):
        Codec().types.register(thing)


def test_two_classes_with_one_name_are_refused() -> None:
    codec = Codec()

    def make() -> type:
        class Twin(Base):
            pass

        return Twin

    first, second = make(), make()
    codec.types.register(first)
    for act in (codec.types.register, codec.types.name_of):
        with pytest.raises(EventTypeError, match="two classes have the event name 'Twin'"):
            act(second)
    with pytest.raises(EventTypeError, match="two classes"):
        codec.encode(second())


def test_lineage_knows_subclasses_whenever_they_are_defined() -> None:
    types = Codec().types
    assert types.lineage("leaf") == ()
    types.register(Base)
    assert types.lineage("leaf") == (Leaf, Base)
    assert types.lineage("Middle") == (Middle, Base)
    assert types.lineage("Base") == (Base,)
    types.register(Middle)
    assert types.lineage("leaf") == (Leaf, Middle, Base)
    assert types.lineage("Late") == ()

    @dataclass
    class Root:
        pass

    types.register(Root)
    assert types.type_for("Late") is None

    @dataclass(slots=True)
    class Late(Root):
        x: int = 1

    assert types.lineage("Late") == (Late, Root), "the class with slots, not its first draft"
    assert types.type_for("Unknown") is None


def test_subclasses_of_one_name_must_be_told_apart() -> None:
    @dataclass
    class Root:
        pass

    def one() -> type:
        return dataclass(type("Same", (Root,), {"__qualname__": "one.Same"}))

    def two() -> type:
        return dataclass(type("Same", (Root,), {"__qualname__": "two.Same"}))

    first, _second = one(), two()
    types = Codec().types
    types.register(Root)
    with pytest.raises(EventTypeError, match="several classes"):
        types.type_for("Same")
    types.register(first)
    assert types.type_for("Same") is first
