"""Values that tests store: of types that look alike, and models that have them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic import BaseModel


class Colour(enum.Enum):
    RED = "red"


class Named(enum.StrEnum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Pair(NamedTuple):
    a: int


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Items(list[int]):
    pass


@dataclass
class Point:
    x: int = 1


class Model(BaseModel):
    x: int = 1


async def stream() -> Any:
    yield 1


def exact(value: Any) -> Any:
    """A form in which values are equal only if their types and the order of keys are too."""
    if type(value) is dict:
        return ("dict", [(key, exact(item)) for key, item in value.items()])
    if type(value) is list:
        return ("list", [exact(item) for item in value])
    return (type(value), repr(value))


class Inner(BaseModel):
    tags: set[str] = set()
    by_number: dict[int, frozenset[int]] = {}


NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
