"""Carrying out the changes of a state one after another, and what each comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from flowstore.change import apply, perform
from flowstore.errors import InvalidStateError
from flowstore.replay.difference import ABSENT, Difference, child, differences

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flowstore.change import Operation

ROOT = "state"
"""What the paths of a state's differences begin with."""


class Folded:
    """A state that is made from its changes, as far as it is asked for.

    Args:
        document: what it is to begin with.
        used: so many changes are in that.
    """

    def __init__(self, document: dict[str, Any] | None = None, used: int = 0) -> None:
        self._document: dict[str, Any] = {} if document is None else document
        self._next = used

    def up_to(self, changes: Sequence[tuple[int, str]], number: int) -> dict[str, Any]:
        """Return the state after the transition of this number; it only ever goes on."""
        while self._next < len(changes) and changes[self._next][0] <= number:
            apply(self._document, changes[self._next][1])
            self._next += 1
        return self._document


def fold(state: dict[str, Any], change: str) -> tuple[Difference, ...]:
    """Carry out a recorded change on a state, in place, and return what is different by it.

    This takes as long as what has changed is large, and not as the state is. What is returned
    shares nothing with the state that later changes touch.

    Raises:
        InvalidStateError: the change does not fit the state.
    """
    found: dict[str, Difference] = {}
    try:
        # Twice, since the values of the one become part of the state.
        for told, done in zip(orjson.loads(change), orjson.loads(change), strict=True):
            for each in _meaning(state, told):
                before = found.pop(each.path, None)
                expected = each.expected if before is None else before.expected
                for rest in differences(expected, each.actual, each.path):
                    found[rest.path] = rest
            perform(state, (done,))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        problem = f"the change {change[:80]} does not fit it ({error!r})"
        raise InvalidStateError("stored state", problem) from error
    return tuple(found.values())


def _meaning(state: dict[str, Any], operation: Operation) -> Iterator[Difference]:
    """Say what an operation, which has not been carried out yet, makes different."""
    code, path = operation[0], operation[1]
    holder: Any = state
    where = ROOT
    for step in path[:-1]:
        holder = holder[step]
        where = _below(where, step)
    key = path[-1]
    where = _below(where, key)
    if code == "=":
        before = holder.get(key, ABSENT) if isinstance(holder, dict) else holder[key]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - JSON
        yield from differences(before, operation[2], where)
    elif code == "-":
        yield Difference(where, holder[key], ABSENT)
    elif code == "+":
        yield from _extended(holder[key], operation[2], where)
    elif code == "~":
        start, count, items = operation[2:]
        yield from _replaced(holder[key][start : start + count], items, where, start)


def _extended(before: Any, more: Any, where: str) -> Iterator[Difference]:
    if isinstance(before, list):
        yield from _replaced([], more, where, len(before))  # pyright: ignore[reportUnknownArgumentType] - JSON
    elif isinstance(before, dict):
        for key, value in more.items():
            yield from differences(before.get(key, ABSENT), value, child(where, key))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] - JSON
    else:
        yield Difference(where, before, before + more)


def _replaced(before: list[Any], items: list[Any], where: str, start: int) -> Iterator[Difference]:
    for index in range(max(len(before), len(items))):
        one = before[index] if index < len(before) else ABSENT
        other = items[index] if index < len(items) else ABSENT
        yield from differences(one, other, f"{where}[{start + index}]")


def _below(where: str, step: str | int) -> str:
    return f"{where}[{step}]" if isinstance(step, int) else child(where, step)
