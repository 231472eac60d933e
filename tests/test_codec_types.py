"""Typed events: what is sent comes back equal, or is refused."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import uuid
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar
from zoneinfo import ZoneInfo

import pydantic.dataclasses
import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    SecretStr,
    computed_field,
    field_serializer,
    field_validator,
)
from values import NOON, Colour, Inner, Named, Point

from flowstore.codec import Codec, decode_json
from flowstore.door import Limits
from flowstore.errors import EventTypeError, InvalidValueError, ValueTooLargeError

T = TypeVar("T")


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    tricks: set[str] = set()


class Everything(BaseModel):
    text: str = ""
    number: int | float = 1
    ratio: float = 0.5
    raw: bytes = b"abc"
    when: datetime = datetime(2024, 1, 1, tzinfo=UTC)
    naive: datetime = datetime(2024, 1, 1)  # noqa: DTZ001 - naive on purpose
    day: date = date(2024, 1, 1)
    hour: time = time(12, 30)
    span: timedelta = timedelta(days=1, microseconds=5)
    amount: Decimal = Decimal("1.50")
    id: uuid.UUID = uuid.UUID(int=5)
    colour: Colour = Colour.RED
    named: Named = Named.RED
    inner: list[Inner] = []
    pair: tuple[int, str] = (1, "a")
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] = Cat()
    point: Point = Field(default_factory=Point)
    anything: Any = None
    keys: dict[Colour, set[int]] = {}


class Aliased(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)
    value: int = Field(alias="theValue")
    other: int = Field(default=1, validation_alias="in", serialization_alias="out")
    inner: Annotated[list[int], Field(alias="List")] = []


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)
    when: datetime
    tags: frozenset[Named] = frozenset()


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    x: int = 2
    _cache: int = PrivateAttr(default=0)

    @computed_field
    def double(self) -> int:
        return self.x * 2


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    x: int = 1


class Box(BaseModel, Generic[T]):
    content: T


class Names(RootModel[list[str]]):
    pass


@dataclass(slots=True, frozen=True, kw_only=True)
class Slotted:
    tags: set[str] = field(default_factory=set)
    when: datetime | None = None


@dataclass(eq=False)
class Unequal:
    x: int
    inner: Inner


@dataclass
class Derived:
    x: int
    double: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.double = self.x * 2


@pydantic.dataclasses.dataclass
class Pydantic:
    x: int
    when: datetime


class Kinds(BaseModel):
    type: str = "function"
    fields: dict[str, int] = {}
    schema_: frozenset[str] = frozenset()


GOOD: list[Any] = [
    Everything(),
    Everything(number=1.0, when=datetime(2024, 7, 1, 12, tzinfo=timezone(timedelta(hours=5.5)))),
    Everything(when=datetime(2024, 7, 1, tzinfo=ZoneInfo("Europe/Amsterdam"))),
    Everything(when=datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Amsterdam"), fold=1)),
    Everything(pet=Dog(tricks={"sit", "roll"}), keys={Colour.RED: {3, 1, 2}}),
    Everything(inner=[Inner(tags={"b", "a"}, by_number={1: frozenset({2, 1})})]),
    Everything(anything={"a": [1, 2.0, None]}, ratio=-0.0),
    Aliased(theValue=1, List=[1]),
    Frozen(when=NOON, tags=frozenset({Named.RED})),
    Computed(),
    Open.model_validate({"x": 1, "more": [1, {"a": None}]}),
    Box[int](content=1),
    Box[Inner](content=Inner(tags={"x"})),
    Names(["a"]),
    Slotted(tags={"c", "b", "a"}, when=NOON),
    Derived(4),
    Pydantic(1, NOON),
    Kinds(fields={"type": 1}, schema_=frozenset("ab")),
]


@pytest.mark.parametrize("event", GOOD, ids=lambda event: type(event).__name__)
def test_typed_events_come_back_equal(event: Any) -> None:
    """G10."""
    codec = Codec()
    codec.types.register(type(event))
    encoded = codec.encode(event)
    again = codec.typed(encoded.name, codec.decode(encoded.name, encoded.version, encoded.data))
    assert type(again) is type(event)
    if not (isinstance(event, Everything) and event.when.fold):  # == is never true in that hour
        assert again == event
    assert codec.encode(again) == encoded


def test_dataclasses_without_equality_are_compared_by_field() -> None:
    codec = Codec()
    codec.types.register(Unequal)
    again = codec.typed("Unequal", decode_json(codec.encode(Unequal(1, Inner(tags={"a"}))).data))
    assert isinstance(again, Unequal)
    assert (again.x, again.inner) == (1, Inner(tags={"a"}))


def test_unregistered_types_are_events_too() -> None:
    assert Codec().encode(Point(3)) == ("Point", 1, '{"x":3}', None, None)


def test_sets_have_one_order_in_every_process() -> None:
    """G5: a repeat of an event has the same bytes."""
    program = (
        "from flowstore.codec import Codec\n"
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Tagged:\n"
        "    tags: dict[str, list[set[str]]]\n"
        "print(Codec().encode(Tagged({'a': [set('flowstore')]})).data)\n"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert seen == {'{"tags":{"a":[["e","f","l","o","r","s","t","w"]]}}\n'}


class Special(Inner):
    extra: int = 1


class Growing(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def grow(cls, name: str) -> str:
        return name + "!"


class Silent(BaseModel):
    x: int = 1

    @field_serializer("x")
    def hide(self, _: int) -> int:
        return 7


class Failing(BaseModel):
    x: int = 1

    @field_serializer("x")
    def fail(self, _: int) -> int:
        message = "no"
        raise RuntimeError(message)


class Secret(BaseModel):
    user: str = "me"
    password: SecretStr = SecretStr("hunter2")


class Hidden(BaseModel):
    x: int = Field(default=1, exclude=True)


class Optional(BaseModel):
    ratio: float | None = None


@dataclass
class Started:
    x: int
    start: InitVar[int]
    y: int = field(init=False, default=0)

    def __post_init__(self, start: int) -> None:
        self.y = start


def changed(model: Any, **fields: Any) -> Any:
    """A copy with fields that nobody validated."""
    return model.model_copy(update=fields)


@pytest.mark.parametrize(
    ("event", "path"),
    [
        (Everything(anything={1}), "data.anything"),
        (Everything(anything=[{"a": (1,)}]), "data.anything[0].a"),
        (Everything(anything=Point()), "data.anything"),
        (Everything(anything=object()), "data.anything"),
        (Everything(anything=NOON), "data.anything"),
        (Everything(anything=math.nan), "data.anything"),
        (Everything(ratio=math.nan), "data.ratio"),
        (Optional(ratio=math.inf), "data.ratio"),
        (Everything(raw=b"\xff"), "data.raw"),
        (Everything(text="\0"), "data.text"),
        (Everything(inner=[Inner(), Special()]), "data.inner[1]"),
        (changed(Everything(), text=5), "data.text"),
        (changed(Everything(), ratio=1), "data.ratio"),
        (changed(Everything(), amount=Decimal("NaN")), "data.amount"),
        (changed(Everything(), colour="red"), "data.colour"),
        (changed(Everything(), inner=[{"tags": 5}]), "data.inner[0].tags"),
        (changed(Everything(), inner=(Inner(),)), "data.inner"),
        (changed(Everything(), day=NOON), "data.day"),
        (Open.model_validate({"more": {1}}), "data.more"),
        (Growing(name="x"), "data.name"),
        (Silent(), "data.x"),
        (Failing(), "data.x"),
        (Secret(), "data.password"),
        (Hidden(x=2), "data.x"),
        (Started(1, 2), "data.start"),
        (Point("one"), "data.x"),  # type: ignore[arg-type]
        (Point(1.0), "data.x"),  # type: ignore[arg-type]
        (Point(x=True), "data.x"),
        (Slotted(when=NOON.replace(tzinfo=None, fold=1)), "data.when"),
    ],
    ids=lambda item: item if isinstance(item, str) else type(item).__name__,
)
def test_what_would_not_come_back_is_refused(event: Any, path: str) -> None:
    """G10: the round trip is proved before anything is written."""
    with pytest.raises(InvalidValueError) as caught:
        Codec().encode(event)
    assert caught.value.path == path
    assert len(caught.value.problem) < 400


def test_bytes_that_are_not_text_need_base64() -> None:
    class Binary(BaseModel):
        model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
        raw: bytes

    codec = Codec()
    codec.types.register(Binary)
    encoded = codec.encode(Binary(raw=b"\xff"))
    assert codec.typed("Binary", decode_json(encoded.data)) == Binary(raw=b"\xff")
    with pytest.raises(InvalidValueError, match=r"^data\.raw: .*ser_json_bytes"):
        codec.encode(Everything(raw=b"\xff"))


def test_secrets_are_not_shown() -> None:
    with pytest.raises(InvalidValueError) as caught:
        Codec().encode(Secret())
    assert "hunter2" not in repr(caught.getrepr())


def test_cyclic_objects_are_refused() -> None:
    event = Everything(anything=[])
    event.anything.append(event.anything)
    with pytest.raises(InvalidValueError, match=r"^data\.anything"):
        Codec().encode(event)


def test_typed_events_have_limits() -> None:
    with pytest.raises(ValueTooLargeError, match=r"^data: is .* bytes"):
        Codec(Limits(data_bytes=10)).encode(Slotted(tags={"a" * 20}))


def test_types_that_pydantic_does_not_know_are_refused() -> None:
    @dataclass
    class Odd:
        lock: asyncio.Lock

    with pytest.raises(EventTypeError, match="Odd cannot be an event type"):
        Codec().encode(Odd(asyncio.Lock()))


def test_stored_data_that_no_longer_fits_is_reported() -> None:
    codec = Codec()
    codec.types.register(Everything)
    with pytest.raises(InvalidValueError, match=r"^data\.inner\[0\]\.tags: .*add an upcaster"):
        codec.typed("Everything", {"inner": [{"tags": 5}]})
    with pytest.raises(EventTypeError, match="no class is registered"):
        codec.typed("Unknown", {})
