"""What JSON must be like that the engine itself reads: workers trust what their store has."""

from __future__ import annotations

from typing import Any, Final

from flowstore.replay.portable.fields import (
    FieldError,
    a_list,
    an_object,
    count,
    place,
    shown,
    text,
)

_PLAIN: Final = frozenset({str, int, float, bool, type(None)})


def answers(value: Any) -> None:
    """Check what a parked handler has behind it: see `flowstore.store.behind.Behind`."""
    parts = a_list(value)
    if len(parts) != 3:  # noqa: PLR2004 - waits, collected, times
        raise FieldError(f"is {shown(value)}, not three things")
    for wait in a_list(parts[0]):
        pair = a_list(wait)
        if len(pair) != 2:  # noqa: PLR2004 - position and transition
            raise FieldError(f"has a wait that is {shown(wait)}, not a pair")
        place(pair[0])
        if pair[1] is not None:
            count(pair[1])
    for collected in a_list(parts[1]):
        for position in a_list(collected) if collected is not None else ():
            place(position)
    count(parts[2])


def condition(value: Any) -> None:
    """Check what else is asked of the event that a parked handler waits for."""
    said = an_object(value)
    if type(said.get("class", False)) is not bool or set(said) - {"class", "where"}:
        raise FieldError(f"is {shown(value)}, not a condition")
    an_object(said.get("where", {}))


def raised(value: Any) -> None:
    """Check what a step's function raised: see `flowstore.engine.raised`."""
    said = an_object(value)
    for key in ("type", "message"):
        text(said.get(key))
    if any(type(each) not in _PLAIN for each in a_list(said.get("args", []))):
        raise FieldError(f"is {shown(value)}, with arguments that are not plain")


def arguments(value: Any) -> None:
    """Check the arguments of a task."""
    said = an_object(value)
    a_list(said.get("args"))
    an_object(said.get("kwargs"))
