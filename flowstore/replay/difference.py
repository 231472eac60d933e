"""Where two JSON values differ, value by value, each with the path to it."""

from __future__ import annotations

import ast
import enum
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from flowstore.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class Absent(enum.Enum):
    """What stands in a `Difference` for a value that is not there, which None would be."""

    ABSENT = "absent"

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent.ABSENT

_BEGINNINGS: Final = (
    *("state", "emitted", "event", "arranged", "result"),
    *("outcome", "error", "completed", "handler", "steps"),
)

_WORD: Final = re.compile(
    r"""\[ (?P<index>\d+) \]
    | \[ (?P<quoted> '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" ) \]
    | (?P<name> [^.\[\]]+ )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One place at which two values differ.

    Attributes:
        path: where it is, as in ``state.docs[3].client``; empty for the values themselves.
        expected: what the one has there, `ABSENT` for nothing.
        actual: what the other has there, `ABSENT` for nothing.
    """

    path: str
    expected: Any
    actual: Any

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it; what is absent is left out."""
        found: dict[str, Any] = {"path": self.path}
        if self.expected is not ABSENT:
            found["expected"] = self.expected
        if self.actual is not ABSENT:
            found["actual"] = self.actual
        return found

    def __str__(self) -> str:
        return f"{self.path or 'value'}: {shown(self.expected)} -> {shown(self.actual)}"


def shown(value: Any) -> str:
    """Return a value as one line of text: JSON, or ``(nothing)``."""
    return "(nothing)" if value is ABSENT else json.dumps(value, ensure_ascii=False)


def differences(expected: Any, actual: Any, path: str = "") -> Iterator[Difference]:
    """Compare two JSON values.

    Values of two types differ: 1, 1.0 and true are three. The order of keys does not count, that
    of items does. Items of two lists are compared by index; where the lists are of unequal
    length, what they have in common at the beginning and at the end is left out first, so that
    an item put in or taken out is one difference.

    Args:
        expected: the one value.
        actual: the other value.
        path: where the two are, for the paths of what is found.
    """
    if expected is actual:
        return
    kind = _kind(expected, actual)
    if kind is dict:
        yield from _in_dicts(expected, actual, path)
    elif kind is list:
        yield from _in_lists(expected, actual, path)
    elif not _alike(expected, actual):
        yield Difference(path, expected, actual)


def child(path: str, key: str) -> str:
    """Return the path to what a dict has under a key: ``data.docs``, ``data['two words']``."""
    if key.isidentifier():
        return f"{path}.{key}" if path else key
    return f"{path}[{key!r}]"


def covers(pattern: str, path: str) -> bool:
    """Tell whether a path is one of those that a pattern names, or lies within one.

    Args:
        pattern: a path, in which ``*`` stands for any one key or index: ``emitted.*.data.at``
            covers ``emitted[2].data.at`` and ``emitted[2].data.at.year``. An index can be
            written ``[2]`` or ``.2``.
        path: the path of a `Difference`.
    """
    wanted, given = words(pattern), words(path)
    return len(wanted) <= len(given) and all(
        one in ("*", other) for one, other in zip(wanted, given, strict=False)
    )


def ignorable(paths: Sequence[str]) -> Sequence[str]:
    """Return paths that are not to count, if a `Difference` can have them.

    Raises:
        InvalidValueError: one of them would cover everything, or nothing.
    """
    for path in paths:
        if (words(path) or [""])[0] not in _BEGINNINGS:
            problem = f"{path!r} is no path that can differ, such as state.updated; they begin with"
            raise InvalidValueError("ignore", f"{problem} {', '.join(_BEGINNINGS)}")
    return paths


class Ignored:
    """Paths that do not count in a comparison.

    Args:
        paths: as `ignorable` takes them.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        # What is emitted has the path of its name; `event` stands for whatever name.
        self._patterns = [
            f"emitted.*{path[5:]}" if path.startswith("event.") else path for path in paths
        ]

    def covers(self, path: str) -> bool:
        """Tell whether differences at this path do not count."""
        return any(covers(pattern, path) for pattern in self._patterns)

    def kept(self, found: Iterable[Difference]) -> tuple[Difference, ...]:
        """Return those differences that count."""
        return tuple(each for each in found if not self.covers(each.path))


def words(path: str) -> list[str]:
    """Return the keys and indexes that a path consists of."""
    return [
        ast.literal_eval(found["quoted"]) if found["quoted"] else found["index"] or found["name"]
        for found in _WORD.finditer(path)
    ]


def _in_dicts(one: dict[str, Any], other: dict[str, Any], path: str) -> Iterator[Difference]:
    for key, value in one.items():
        yield from differences(value, other.get(key, ABSENT), child(path, key))
    for key, value in other.items():
        if key not in one:
            yield Difference(child(path, key), ABSENT, value)


def _in_lists(one: list[Any], other: list[Any], path: str) -> Iterator[Difference]:
    start, ends = 0, (len(one), len(other))
    if len(one) != len(other):
        while start < min(ends) and _same(one[start], other[start]):
            start += 1
        while start < min(ends) and _same(one[ends[0] - 1], other[ends[1] - 1]):
            ends = (ends[0] - 1, ends[1] - 1)
    common = min(ends)
    for index in range(start, common):
        yield from differences(one[index], other[index], f"{path}[{index}]")
    for index in range(common, ends[0]):
        yield Difference(f"{path}[{index}]", one[index], ABSENT)
    for index in range(common, ends[1]):
        yield Difference(f"{path}[{index}]", ABSENT, other[index])


def _same(one: Any, other: Any) -> bool:
    """Tell whether two values do not differ, going through each of them once at most."""
    kind = _kind(one, other)
    if kind is dict:
        return len(one) == len(other) and all(
            key in other and _same(value, other[key]) for key, value in one.items()
        )
    if kind is list:
        return len(one) == len(other) and all(map(_same, one, other))
    return _alike(one, other)


def _kind(one: object, other: object) -> type | None:
    """Return the type of both, None if they have two."""
    return type(one) if type(one) is type(other) else None


def _alike(one: Any, other: Any) -> bool:
    kind = _kind(one, other)
    if kind is None or one != other:
        return False
    # 0.0 and -0.0 are equal, and not the same.
    return kind is not float or math.copysign(1, one) == math.copysign(1, other)
