"""The fields of the lines of a file of runs: what a cell of a row is called, and how it is told.

What is None is left out. A JSON text is told as its value, and, if it is not written as flowstore
writes it, as it is as well, under the same name with ``_text`` behind it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import orjson

from flowstore.clock import EPOCH, to_datetime
from flowstore.replay.portable.strict_json import JsonError, dumped, is_canonical, read_line
from flowstore.store.chain import HASH_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_SHOWN: Final = 60
_ABSENT: Final = object()


class FieldError(ValueError):
    """A line does not have the fields that it should have."""


# --- single values ---------------------------------------------------------------------------


def shown(value: Any) -> str:
    """Return a value as messages have it."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def text(value: Any) -> str:
    """Take a text."""
    if type(value) is not str:
        raise FieldError(f"is {shown(value)}, not a text")
    return value


def name(value: Any) -> str:
    """Take a text that is not empty."""
    if type(value) is not str or not value:
        raise FieldError(f"is {shown(value)}, not a text with something in it")
    return value


def count(value: Any) -> int:
    """Take a whole number from 0."""
    if type(value) is not int or value < 0:
        raise FieldError(f"is {shown(value)}, not a whole number from 0")
    return value


def place(value: Any) -> int:
    """Take a whole number from 1."""
    if type(value) is not int or value < 1:
        raise FieldError(f"is {shown(value)}, not a whole number from 1")
    return value


def time(value: Any) -> int:
    """Take a time: ISO 8601 in UTC, or microseconds since 1970 where that has no year for it."""
    if type(value) is int:
        if time_text(value) == value:
            return value
    elif type(value) is str and _has_shape(value):
        try:
            since = datetime.fromisoformat(value) - EPOCH
        except ValueError:
            pass
        else:
            return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    raise FieldError(f"is {shown(value)}, not a time such as 2026-05-01T12:00:00.000000Z")


def _has_shape(value: str) -> bool:
    """Tell which of all that fromisoformat reads a file has; a pattern would take twice as long."""
    return (
        len(value) == len("2026-05-01T12:00:00.000000Z")
        and value[4] == value[7] == "-"
        and value[10] == "T"
        and value[11:13] != "24"
        and value[13] == value[16] == ":"
        and value[19] == "."
        and value[26] == "Z"
    )


def time_text(microseconds: int) -> str | int:
    """Return a time as a file has it."""
    try:
        moment = to_datetime(microseconds)
    except OverflowError:  # beyond the year 9999, which no date can say
        return microseconds
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def number(value: Any) -> int:
    """Take a whole number; a duration can be negative, when clocks are set."""
    if type(value) is not int:
        raise FieldError(f"is {shown(value)}, not a whole number")
    return value


def digest(value: Any) -> bytes:
    """Take a hash: 40 hexadecimal digits."""
    if type(value) is str and len(value) == 2 * HASH_BYTES:
        try:
            made = bytes.fromhex(value)
        except ValueError:
            made = b""
        if made.hex() == value:
            return made
    raise FieldError(f"is {shown(value)}, not a hash of 40 hexadecimal digits")


def a_list(value: Any) -> list[Any]:
    """Take a list."""
    given: object = value
    if type(given) is not list:
        raise FieldError(f"is {shown(value)}, not a list")
    return cast("list[Any]", value)


def an_object(value: Any) -> dict[str, Any]:
    """Take a JSON object."""
    given: object = value
    if type(given) is not dict:
        raise FieldError(f"is {shown(value)}, not an object")
    return cast("dict[str, Any]", value)


def one_of(*words: str) -> Callable[[Any], str]:
    """Return what takes one of these words."""
    known = frozenset(words)

    def take(value: Any) -> str:
        if type(value) is not str or value not in known:
            raise FieldError(f"is {shown(value)}, not one of {', '.join(words)}")
        return value

    return take


# --- JSON ------------------------------------------------------------------------------------


def put_json(said: dict[str, Any], name: str, cell: str, beside: str) -> None:
    """Put a JSON text into a line, as its value; beside it as it is if need be."""
    if is_canonical(cell, name):
        said[name] = orjson.Fragment(cell)
    else:
        said[name] = orjson.loads(cell)
        said[beside] = cell


def take_json(value: Any, beside: Any) -> str:
    """Take the text that stands beside its value."""
    try:
        same = type(beside) is str and dumped(read_line(beside.encode())) == dumped(value)
    except JsonError as error:
        raise FieldError(f"has a text beside it that {error}") from error
    if not same:
        raise FieldError("is not the value of the text beside it")
    return str(beside)


# --- rows ------------------------------------------------------------------------------------


class Field(NamedTuple):
    """A cell of a row, as lines have it.

    Attributes:
        take: turns what a line has into the cell; None for a JSON text.
        tell: turns the cell into what a line has; None if that is the same.
        is_optional: the cell may be None.
        shape: refuses a JSON value that is not what such a cell has.
    """

    name: str
    take: Callable[[Any], Any] | None
    tell: Callable[[Any], Any] | None = None
    is_optional: bool = False
    shape: Callable[[Any], object] | None = None


def a(name: str, take: Callable[[Any], Any]) -> Field:
    """Return a field that each line has."""
    return Field(name, take, time_text if take is time else None)


def maybe(name: str, take: Callable[[Any], Any]) -> Field:
    """Return a field that is left out where the cell is None."""
    return Field(name, take, time_text if take is time else None, is_optional=True)


def json(
    name: str, *, is_optional: bool = False, shape: Callable[[Any], object] | None = None
) -> Field:
    """Return a field for a cell that holds JSON."""
    return Field(name, None, None, is_optional, shape)


class Fields:
    """The fields of a kind of row.

    Args:
        what: what the row is, as messages name it.
        fields: one for each cell, in their order.

    Attributes:
        all_fields: these.
    """

    def __init__(self, what: str, fields: Sequence[Field]) -> None:
        self.what = what
        self.all_fields = tuple(fields)
        self._taken = [
            (
                each.name,
                each.take,
                "" if each.take else f"{each.name}_text",
                each.is_optional,
                each.shape,
            )
            for each in fields
        ]
        self._names = {name for each in self._taken for name in (each[0], each[2]) if name}

    def tell(self, cells: Sequence[Any], said: dict[str, Any]) -> dict[str, Any]:
        """Add the cells to what a line says, and return that."""
        for (name, take, tell, *_), cell in zip(self.all_fields, cells, strict=True):
            if cell is None:
                continue
            if take is None:
                put_json(said, name, cell, f"{name}_text")
            else:
                said[name] = cell if tell is None else tell(cell)
        return said

    def take(self, said: Mapping[str, Any], known: int) -> list[Any]:
        """Return the cells that a line says.

        Args:
            said: the line.
            known: how many of its fields are not of the row.

        Raises:
            FieldError: a field is missing, unknown or not what it should be.
        """
        cells: list[Any] = []
        for name, take, beside, is_optional, shape in self._taken:
            value = said.get(name, _ABSENT)
            if value is _ABSENT:
                if not is_optional:
                    raise FieldError(f"a {self.what} without {name!r}")
                cells.append(None)
                continue
            known += 1
            try:
                if shape is not None:
                    shape(value)
                if take is not None:
                    cells.append(take(value))
                elif beside in said:
                    known += 1
                    cells.append(take_json(value, said[beside]))
                else:
                    cells.append(dumped(value))
            except FieldError as error:
                raise FieldError(f"{name!r} of a {self.what} {error}") from None
        if known != len(said):
            self._refuse_unknown(said)
        return cells

    def _refuse_unknown(self, said: Mapping[str, Any]) -> None:
        unknown = [key for key in said if key not in self._names and key != "line"]
        missed = unknown[0] if unknown else "…_text"
        raise FieldError(f"a {self.what} has no field {missed[:_SHOWN]!r}")
