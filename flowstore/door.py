"""The door: what comes in is plain JSON that reads back exactly the same, or is refused (G10).

The check is made twice as fast as it could be by not knowing where it is: only when it
fails is the value walked again, to name the place and the remedy.
"""

from __future__ import annotations

import enum
import inspect
import uuid
from collections.abc import AsyncIterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from flowstore.errors import ConfigurationError, InvalidValueError, ValueTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable

_KIB: Final = 1024
_MIB: Final = 1024 * 1024
_DEEPEST: Final = 200  # orjson writes no deeper than 254, pydantic reads no deeper than 200
_SMALLEST_INT: Final = -(2**63)
_LARGEST_INT: Final = 2**63 - 1
_ATOMS: Final = frozenset({str, bool, NoneType})
_PLAIN: Final = (str, int, float, list, dict)
_ESCAPED_NUL: Final = "\\u0000"
_SHOWN: Final = 60  # characters of a key that a path shows


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How large the things may be that a store accepts.

    Attributes:
        data_bytes: an event's data, in bytes of JSON (UTF-8).
        metadata_bytes: an event's metadata, in bytes of JSON.
        state_bytes: the whole state of a run, in bytes of JSON.
        result_bytes: the result of a step or of a run, in bytes of JSON.
        depth: lists and dicts inside one another, in levels; 200 at most.
        name_length: the name of an event or of a step, in characters.
        id_length: an event's id or a correlation_id, in characters.

    Raises:
        ConfigurationError: a limit is not a whole number of at least 1, or too high.
    """

    data_bytes: int = _MIB
    metadata_bytes: int = 64 * _KIB
    state_bytes: int = 16 * _MIB
    result_bytes: int = _MIB
    depth: int = 64
    name_length: int = 255
    id_length: int = 255

    def __post_init__(self) -> None:
        for field in fields(self):
            value: object = getattr(self, field.name)
            if type(value) is not int or value < 1:
                message = f"Limits.{field.name} is {value!r}; it must be a whole number from 1 up"
                raise ConfigurationError(message)
        if self.depth > _DEEPEST:
            message = f"Limits.depth is {self.depth}; it must be {_DEEPEST} at most"
            raise ConfigurationError(message)


def encode_json(value: object, path: str, *, max_bytes: int, max_depth: int) -> str:
    """Turn a value into JSON that `decode_json` turns back into exactly the same value.

    Args:
        value: None, a bool, a 64-bit int, a finite float, a str without NUL and lone
            surrogates, or a list or a dict (keys as str) of these; no subclasses.
        path: where the value is, for messages: ``data``, ``metadata``.
        max_bytes: the most bytes that the JSON may have, in UTF-8.
        max_depth: the most levels of lists and dicts inside one another.

    Raises:
        InvalidValueError: something in the value is not JSON; says where and what to do.
        ValueTooLargeError: the value is too deep (as one that contains itself is) or too large.
    """
    if not is_plain(value, max_depth):
        raise explain(value, path, max_depth)
    try:
        text = orjson.dumps(value)
    except TypeError:
        raise explain(value, path, max_depth) from None
    if len(text) > max_bytes:
        problem = (
            f"is {len(text)} bytes of JSON and the limit is {max_bytes}; "
            "store it elsewhere and keep a reference, or raise the limit (limits=Limits(…))"
        )
        raise ValueTooLargeError(path, problem)
    decoded = text.decode()
    if _ESCAPED_NUL in decoded:  # in bytes this takes several times as long
        refuse_nul(value, path, max_depth)
    return decoded


def short_text(value: str, max_bytes: int) -> str | None:
    """Return what `encode_json` does for a short str; None if it needs a closer look."""
    if value.isascii() and "\0" not in value:
        text = orjson.dumps(value).decode()
        if len(text) <= max_bytes:
            return text
    return None


def decode_json(text: str | None) -> Any:
    """Read a JSON text that `encode_json` wrote; None stands for None.

    Raises:
        InvalidValueError: the text is not JSON, so it was not written by flowstore.
    """
    if text is None:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        problem = f"is not JSON ({error}); the database was changed by something else"
        raise InvalidValueError("stored value", problem) from None


def is_plain(value: Any, depth: int) -> bool:  # noqa: C901, PLR0911, PLR0912 - the hottest loop
    """Tell whether a value is made of JSON's own types only, at most ``depth`` levels deep.

    Strings are left to the encoder, which finds lone surrogates, and to `refuse_nul`.
    """
    kind = type(value)  # pyright: ignore[reportUnknownVariableType] - a cast would cost a call
    if kind in _ATOMS:
        return True
    if kind is int:
        return bool(_SMALLEST_INT <= value <= _LARGEST_INT)
    if kind is float:
        return bool(value - value == 0.0)  # not so for inf and nan
    if depth <= 0:
        return False
    depth -= 1
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                return False
            sort = type(item)  # pyright: ignore[reportUnknownVariableType] - likewise
            if sort is int:  # not by a call: most are these
                if not _SMALLEST_INT <= item <= _LARGEST_INT:
                    return False
            elif sort not in _ATOMS and not is_plain(item, depth):
                return False
        return True
    if kind is list:
        for item in value:  # noqa: SIM110 - all() with a generator costs twice as much
            if type(item) not in _ATOMS and not is_plain(item, depth):
                return False
        return True
    return False


def refuse_nul(value: object, path: str, depth: int) -> None:
    """Raise InvalidValueError if a string in the value holds a NUL character."""
    # The six characters that stand for a NUL may also be in a text as they are.
    problem = _find(value, path, depth)
    if problem is not None:
        raise problem


def explain(value: object, path: str, depth: int) -> InvalidValueError:
    """Return the error for the first thing in the value that cannot be stored."""
    problem = _find(value, path, depth)
    if problem is None:  # the value changed under our hands
        problem = InvalidValueError(path, "was changed while it was being stored; pass a copy")
    return problem


def child(path: str, key: object) -> str:
    """Return the path to an item: ``data.docs``, ``data.docs[3]``, ``data['two words']``."""
    if type(key) is int:
        return f"{path}[{key}]"
    if type(key) is str and len(key) <= _SHOWN and key.isidentifier():
        return f"{path}.{key}"
    shown = ascii(key) if type(key) is not str else ascii(key[:_SHOWN])
    return f"{path}[{shown}]"


def _find(value: object, path: str, depth: int) -> InvalidValueError | None:
    kind = type(value)
    if kind is not dict and kind is not list:
        flaw = _text_problem(cast("str", value)) if kind is str else None
        if not is_plain(value, 0):
            flaw = describe(value)
        return None if flaw is None else InvalidValueError(path, flaw)
    if depth <= 0:
        problem = (
            "is nested too deeply, or contains itself; "
            "make it flatter, or raise the limit (limits=Limits(depth=…))"
        )
        return ValueTooLargeError(_shorten(path), problem)
    if kind is list:
        for index, item in enumerate(cast("list[object]", value)):
            found = _find(item, f"{path}[{index}]", depth - 1)
            if found is not None:
                return found
        return None
    return _find_in_dict(cast("dict[object, object]", value), path, depth)


def _find_in_dict(value: dict[object, object], path: str, depth: int) -> InvalidValueError | None:
    for key, item in value.items():
        if type(key) is not str:
            problem = (
                f"has a key of type {type(key).__name__}; "
                "the keys of JSON are str: use str(key), or key.value for an enum"
            )
            return InvalidValueError(path, problem)
        flaw = _text_problem(key)
        if flaw is not None:
            return InvalidValueError(child(path, key), f"is under a key that {flaw}")
        found = _find(item, child(path, key), depth - 1)
        if found is not None:
            return found
    return None


def _text_problem(text: str) -> str | None:
    if "\0" in text:
        return "has a NUL character, which databases refuse; remove it: .replace('\\0', '')"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return (
            f"has a lone surrogate at character {error.start}, which is not text; "
            "decode it properly, or clean it: .encode(errors='replace').decode()"
        )
    return None


def _shorten(path: str) -> str:
    return path if len(path) <= 2 * _SHOWN else f"{path[:_SHOWN]}…{path[-_SHOWN:]}"


def describe(value: object) -> str:
    """Say why a single value is not JSON, and what to use in its place."""
    name = type(value).__name__
    if type(value) is int:
        return (
            f"is an integer of {value.bit_length()} bits; numbers are signed 64-bit: use str(value)"
        )
    if type(value) is float:
        return f"is {value}, which is not JSON; use None or a str"
    if isinstance(value, type):
        return f"is the class {name if name != 'type' else value.__name__}; store its name"
    for matches, remedy in _REMEDIES:
        if matches(value):
            return f"{name} is not JSON; {remedy}"
    return (
        f"{name} is not JSON; store what it takes to make it again, "
        "and share live objects through the manager's ctx={…}"
    )


_TYPED: Final = "send a typed event (Pydantic model or dataclass), or use"


def _is(*kinds: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, kinds)


def _is_object(value: object) -> bool:
    return is_dataclass(value) or hasattr(type(value), "model_dump")


# The first that matches counts, so an enum comes before the str that it may also be.
_REMEDIES: Final[tuple[tuple[Callable[[object], bool], str], ...]] = (
    (_is(enum.Enum), f"{_TYPED} .value"),
    (_is(tuple), "use a list"),
    (_is(set, frozenset), f"{_TYPED} sorted(…), a list"),
    (_is(bytes, bytearray, memoryview), f"{_TYPED} base64.b64encode(…).decode()"),
    (_is(date, time), f"{_TYPED} .isoformat()"),
    (_is(timedelta), f"{_TYPED} .total_seconds()"),
    (_is(Decimal, uuid.UUID), f"{_TYPED} str(…)"),
    (_is_object, "make it the event itself, or use model_dump(mode='json') or asdict(…)"),
    (_is(*_PLAIN), "only the plain types come back the same: use dict(…), list(…), str(…)"),
    (
        _is(AsyncIterable),
        (
            "collect it first: [item async for item in …]; a handler can emit it as a stream, "
            "at the top level of data"
        ),
    ),
    (
        _is(Iterator),
        (
            "collect it first: list(…); a handler can emit it as a stream, at the top level of "
            "data, if it is wrapped: async def chunks(): for item in items: yield item"
        ),
    ),
    (inspect.isawaitable, "await it first"),
    (callable, "functions cannot be stored; store a name"),
)
