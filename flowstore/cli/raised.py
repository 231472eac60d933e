"""What was raised, as text for people: the error, behind the type of the exception.

An error is recorded as what the exception says, which for a KeyError is no more than ``'spoon'``.
Its type stands in the traceback, and for an event of the engine's in the event's data.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol, cast

from flowstore.door import decode_json
from flowstore.errors import InvalidValueError
from flowstore.events import ERROR, TASK_FAILED

if TYPE_CHECKING:
    from collections.abc import Mapping

_GROUP = re.compile(r"^  \| ", re.MULTILINE)
"""What stands before the lines of an exception group, but of none of the exceptions in it."""

_NAME = re.compile(r"[\w.<>]+")
_ENDING = re.compile(r"^([\w.<>]+)(: |$)", re.MULTILINE)
_PLACE = re.compile(r" \([^\n]*line \d+\)")
"""What a SyntaxError says beside its message; in its traceback that stands elsewhere."""

_ADVICE = re.compile(r"\. Did you (?:mean|forget)")
"""How Python 3.12 and later go on behind the names that they do not know."""

_END = re.compile(rf"\Z|\n|{_ADVICE.pattern}")

_COMPARED = 1000
"""Characters of an error that are looked at; tracebacks are cut off at some length."""


class _Failed(Protocol):
    """An attempt, a dead letter: anything with an error and its traceback."""

    @property
    def error(self) -> str | None: ...
    @property
    def traceback(self) -> str | None: ...


class _Event(Protocol):
    """An event, with its data as JSON text."""

    @property
    def name(self) -> str: ...
    @property
    def data(self) -> str | None: ...
    @property
    def error(self) -> str | None: ...


def type_of(failed: _Failed) -> str | None:
    """Return the type of the exception with its module, as Python names it: ``shop.NoSpoon``.

    None if nothing failed, or the traceback does not have it.
    """
    if failed.error is None or not failed.traceback:
        return None
    text = _GROUP.sub("", failed.traceback)
    found: str | None = None
    for ending in _ENDING.finditer(text):
        before = text[: ending.start()].rstrip("\n").rpartition("\n")[2]
        # It stands behind frames, or alone. A message can have such a line too, and so can notes.
        if (not before or before.startswith((" ", "Traceback ", "The ", "During "))) and _is_told(
            ending[1], text[ending.end() :] if ending[2] else None, failed.error
        ):
            found = ending[1]
    return found


def _is_told(kind: str, rest: str | None, error: str) -> bool:
    """Tell whether this type, and what follows it, is how the traceback of an error ends."""
    if rest is None:
        return error == _short(kind)
    start = error[:_COMPARED]
    if rest.startswith(start) and (len(error) > _COMPARED or _END.match(rest, len(start))):
        return True
    message = _ADVICE.split(rest, maxsplit=1)[0].split("\n", 1)[0]
    return error.startswith(message) and _PLACE.fullmatch(error, len(message)) is not None


def error_text(failed: _Failed) -> str | None:
    """Return an error behind its type, without the module: ``KeyError: 'spoon'``.

    Errors that begin with it, and those whose type is not known, are as they were recorded.
    """
    return None if failed.error is None else with_type(type_of(failed), failed.error)


def typed(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row that has ``error`` and ``error_type`` with the error as text for people."""
    error: str | None = row["error"]
    return {**row, "error": None if error is None else with_type(row["error_type"], error)}


def event_error(event: _Event) -> str | None:
    """Return an event's error likewise: the engine's have the type in their data."""
    return None if event.error is None else with_type(event_type(event), event.error)


def event_type(event: _Event) -> str | None:
    """Return the type of the exception that an event tells of; None if it tells of none."""
    if event.error is None or event.name not in {ERROR, TASK_FAILED}:
        return None
    try:
        data: object = decode_json(event.data)
    except InvalidValueError:
        return None
    kind: object = cast("dict[str, Any]", data).get("exception") if type(data) is dict else None
    return kind if type(kind) is str and _NAME.fullmatch(kind) is not None else None


def step_error(stored: str | None) -> str | None:
    """Return what a step's function raised, from the JSON text that is recorded."""
    if stored is None:
        return None
    said: dict[str, Any] = decode_json(stored)
    return f"{said['type']}: {said['message']}"


def with_type(kind: str | None, error: str) -> str:
    """Return an error behind its type, if that is known, and not there already."""
    if kind is None:
        return error
    short = _short(kind)
    is_there = any(error == name or error.startswith(f"{name}: ") for name in (short, kind))
    return error if is_there else f"{short}: {error}"


def _short(kind: str) -> str:
    return kind.rpartition(".")[2]
