"""JSON as files of runs have it: strict, and byte for byte what it was.

A text that orjson would write again as it is has no key twice, no number that loses anything and
nothing that is not JSON: so lines that flowstore wrote are checked at the speed of orjson, and
only others are read again, by the slower parser that tells.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, Final, NoReturn

import orjson

from flowstore import door
from flowstore.door import refuse_nul
from flowstore.errors import InvalidValueError, StoreCorruptError

DEEPEST: Final = 210
"""Levels of a line: 200 are the most that a value has at the door, and what is around it."""

_PLAIN: Final = orjson.OPT_STRICT_INTEGER | orjson.OPT_APPEND_NEWLINE
_NUL: Final = b"\\u0000"


class JsonError(ValueError):
    """A text is not the JSON that a file of runs may have."""


def read_line(line: bytes) -> Any:
    """Return the value of a line.

    Raises:
        JsonError: it is not JSON, or says something that a store cannot keep as it is.
    """
    try:
        value = orjson.loads(line)
        # Numbers beyond 53 bits are looked at more closely.
        is_plain = orjson.dumps(value, option=_PLAIN) == line
    except (orjson.JSONDecodeError, TypeError):
        value, is_plain = None, False
    if not is_plain:
        value = _read_slowly(line)
        _check(value)
    elif len(line) > 2 * DEEPEST and line.count(b"[") + line.count(b"{") > DEEPEST:
        _check(value)
    if _NUL in line:
        _refuse_nul(value)
    return value


def _read_slowly(line: bytes) -> Any:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise JsonError(f"is not UTF-8 at byte {error.start + 1}") from error
    try:
        return json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_without_repeats,
        )
    except json.JSONDecodeError as error:
        raise JsonError(f"is not JSON: {error.msg} at character {error.colno}") from error
    except RecursionError as error:
        raise JsonError("is nested too deeply") from error
    except JsonError:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise JsonError("has a number beyond 64 bits") from error


def _check(value: Any) -> None:
    if not door.is_plain(value, DEEPEST):
        raise JsonError(f"has a number beyond 64 bits, or more than {DEEPEST} levels")
    try:
        orjson.dumps(value)
    except TypeError as error:
        raise JsonError("has a lone surrogate, which is not text") from error
    _refuse_nul(value)


def _refuse_nul(value: Any) -> None:
    try:
        refuse_nul(value, "line", DEEPEST)
    except InvalidValueError as error:
        raise JsonError("has a NUL character, which databases refuse") from error


def _refuse_constant(constant: str) -> NoReturn:
    raise JsonError(f"has {constant}, which is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise JsonError(f"has the number {text[:40]}, which is beyond a double")
    return number


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((repeated, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise JsonError(f"has the key {repeated[:80]!r} twice in one object")
    return found


def dumped(value: Any) -> str:
    """Return a value as the store has it."""
    return orjson.dumps(value).decode()


def is_canonical(text: str, what: str) -> bool:
    """Tell whether a stored text is what `dumped` makes of its value.

    Raises:
        StoreCorruptError: it is not JSON.
    """
    try:
        return orjson.dumps(orjson.loads(text)) == text.encode()
    except (orjson.JSONDecodeError, TypeError, UnicodeEncodeError) as error:
        message = f"{what} holds no JSON but {text[:40]!r}: restore a backup"
        raise StoreCorruptError(message) from error
