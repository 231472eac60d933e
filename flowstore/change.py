"""Changes of a state: how they are written, carried out and found.

A change is a JSON list of operations, carried out in order. A path is a list of keys (str)
and indexes (int) from the state down to a value; it is never empty.

==============================  =====================================================
``["=", path, value]``          set the value; a new key goes last
``["+", path, more]``           extend a list, a dict or a str
``["-", path]``                 remove a key
``[">", path]``                 move a key to the end, as removing and adding it does
``["~", path, i, n, items]``    replace n items of a list, from index i on
==============================  =====================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from flowstore.errors import InvalidStateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Operation = list[Any]
Path = list[str | int]

STRICT: Final = (
    orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
)
"""Options under which orjson refuses most of what is not JSON; enums, tuples and NaN pass."""

_LEAVES: Final = frozenset({str, int, float, bool, type(None)})
_CHUNK: Final = 256
_TINY: Final = 64  # bytes of JSON up to which a value is set as a whole
_LONG: Final = 32  # characters from which on a str is extended instead of set


def replay(snapshot: str | None, changes: Iterable[str]) -> dict[str, Any]:
    """Return the state that a snapshot and the changes after it amount to.

    Raises:
        InvalidStateError: they do not fit one another.
    """
    document: object = {} if snapshot is None else _read(snapshot)
    if type(document) is not dict:
        raise _corrupt("the snapshot is not a JSON object")
    state = cast("dict[str, Any]", document)
    for change in changes:
        apply(state, change)
    return state


def apply(document: dict[str, Any], change: str) -> dict[str, Any]:
    """Carry out a change on a state, in place, and return it.

    Raises:
        InvalidStateError: the change does not fit the state.
    """
    operations = _read(change)
    try:
        perform(document, operations)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _corrupt(f"the change {change[:80]} does not fit it ({error!r})") from error
    return document


def perform(document: dict[str, Any], operations: Sequence[Operation]) -> None:
    """Carry out operations; the values in them become part of the document."""
    for operation in operations:
        code, path = operation[0], operation[1]
        holder: Any = document
        for step in path[:-1]:
            holder = holder[step]
        key = path[-1]
        if code == "=":
            holder[key] = operation[2]
        elif code == "+":
            _extend(holder, key, operation[2])
        elif code == "-":
            del holder[key]
        elif code == ">":
            holder[key] = holder.pop(key)
        elif code == "~":
            start, count, items = operation[2:]
            holder[key][start : start + count] = items
        else:
            message = f"unknown operation {code!r}"
            raise ValueError(message)


def copied(value: Any) -> Any:
    """Return a copy of a JSON value that shares nothing with it that can be changed."""
    given: object = value
    kind = type(given)
    if kind is list:
        return [item if type(item) in _LEAVES else copied(item) for item in value]
    if kind is dict:
        return {key: item if type(item) in _LEAVES else copied(item) for key, item in value.items()}
    return value


def reorder(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[list[str], set[str]]:
    """Compare the keys of two dicts.

    Returns:
        The keys that are gone, and those that can stay where they are: every other key of
        ``new`` has to go to the end, in the order of ``new``.
    """
    gone = [key for key in old if key not in new]
    kept = iter([key for key in old if key in new])
    stays: set[str] = set()
    for key in new:
        if key not in kept:  # takes from the iterator up to the key
            break
        stays.add(key)
    return gone, stays


def differ(old: Any, new: Any, path: Path, operations: list[Operation]) -> None:
    """Add the operations that turn one value into another, which is not the same.

    Both must be such that orjson writes them. Values in the operations are parts of ``new``
    and have not been checked; parts that are left out are the same, type by type.
    """
    given: object = new
    kind = type(given)
    alike = kind is type(old)
    if alike:
        if kind is dict and old and len(_dump(new)) > _TINY:
            _differ_in_dict(old, new, path, operations)
            return
        if kind is list and old and len(_dump(new)) > _TINY:
            _differ_in_list(old, new, path, operations)
            return
        if kind is str and len(old) >= _LONG and new.startswith(old):
            operations.append(["+", path, new[len(old) :]])
            return
    operations.append(["=", path, new])


def _differ_in_dict(
    old: dict[str, Any], new: dict[str, Any], path: Path, operations: list[Operation]
) -> None:
    gone, stays = reorder(old, new)
    operations.extend(["-", [*path, key]] for key in gone)
    for key, item in new.items():
        where = [*path, key]
        if key not in old:
            operations.append(["=", where, item])
            continue
        if key not in stays:
            operations.append([">", where])
        if not _same(old[key], item):
            differ(old[key], item, where, operations)


def _differ_in_list(
    old: list[Any], new: list[Any], path: Path, operations: list[Operation]
) -> None:
    head = _common(old, new)
    if head == len(old):
        operations.append(["+", path, new[head:]])
        return
    tail = _common(old[head:][::-1], new[head:][::-1])
    if head == 0 and tail == 0:
        shift = _shift(old, new)
        if shift:
            operations.append(["~", path, 0, shift, []])
            if len(new) > len(old) - shift:
                operations.append(["+", path, new[len(old) - shift :]])
            return
    if len(old) != len(new):
        count = len(old) - head - tail
        operations.append(["~", path, head, count, new[head : len(new) - tail]])
        return
    for index in range(head, len(new) - tail):
        if not _same(old[index], new[index]):
            differ(old[index], new[index], [*path, index], operations)


def _common(old: list[Any], new: list[Any]) -> int:
    """Count the leading items that are the same."""
    end = min(len(old), len(new))
    start = 0
    # Whole chunks are compared at the speed of C, and items only where a chunk differs.
    while start < end and _same(old[start : start + _CHUNK], new[start : start + _CHUNK]):
        start += _CHUNK
    while start < end and _same(old[start], new[start]):
        start += 1
    return min(start, end)


def _shift(old: list[Any], new: list[Any]) -> int:
    """Return how many items were taken from the front of a queue; 0 if it is not like that."""
    if not new:
        return 0
    try:
        shift = old.index(new[0], 1)
    except ValueError:
        return 0
    rest = len(old) - shift
    return shift if rest <= len(new) and _common(old[shift:], new[:rest]) == rest else 0


def _same(old: Any, new: Any) -> bool:
    given: object = new
    kind = type(given)
    if kind is not type(old) or old != new:
        return False
    # Equal values can still differ: 1 and 1.0 and True, 0.0 and -0.0, the order of keys.
    return kind is str or _dump(old) == _dump(new)


def _dump(value: Any) -> bytes:
    return orjson.dumps(value, option=STRICT)


def _extend(holder: Any, key: str | int, more: Any) -> None:
    value = holder[key]
    given: object = value
    kind = type(given)
    if kind is list:
        value.extend(more)
    elif kind is dict:
        value.update(more)
    elif kind is str:
        holder[key] = value + more
    else:
        message = f"{type(value).__name__} cannot be extended"
        raise TypeError(message)


def _read(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _corrupt(f"it is not JSON ({error})") from None


def _corrupt(problem: str) -> InvalidStateError:
    return InvalidStateError("stored state", f"{problem}; something else changed the database")
