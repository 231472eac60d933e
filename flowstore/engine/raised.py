"""What a step's function raised, as the record has it, and how it is raised again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from flowstore.engine.words import storable, told
from flowstore.errors import StepFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_ARGUMENTS = 4096
"""How long the recorded arguments of an exception are at most, in bytes of JSON."""


def raised_text(error: BaseException) -> str:
    """Return a JSON text with the ``type`` and ``message`` of an exception.

    Its arguments come along, as ``args``, if they are plain values.
    """
    said: dict[str, Any] = {"type": _name(type(error)), "message": storable(told(error), 4096)}
    arguments = error.args
    if all(type(each) in {str, int, float, bool, type(None)} for each in arguments):
        try:
            text = orjson.dumps(arguments)
        except TypeError:  # a lone surrogate, or a number that is too large
            text = b""
        if 0 < len(text) <= _MOST_ARGUMENTS and b"\\u0000" not in text:
            said["args"] = arguments
    return orjson.dumps(said).decode()


def raised_again(text: str) -> Exception:
    """Return what was raised, as an object of its class if a module that has it is loaded.

    Its own ``__init__`` is not called: ``args`` and message are as they were, other attributes
    are not there.
    """
    said: dict[str, Any] = orjson.loads(text)
    arguments = tuple(said.get("args", (said["message"],)))
    for kind in _subclasses(Exception):
        if _name(kind) == said["type"]:
            try:
                error = kind.__new__(kind, *arguments)
                error.args = arguments
            except Exception:  # noqa: BLE001, S112 - a class with a __new__ of its own
                continue
            return error
    return StepFailedError(f"{said['type']}: {said['message']}")


def _name(kind: type[BaseException]) -> str:
    name = kind.__qualname__
    return name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"


def _subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
    seen: set[type[Exception]] = set()
    left = [kind]
    while left:
        each = left.pop()
        if each not in seen:
            seen.add(each)
            yield each
            left.extend(each.__subclasses__())
