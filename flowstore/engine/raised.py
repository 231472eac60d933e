"""What a step's function raised, as the record has it, and how it is raised again."""

from __future__ import annotations

import sys
from pathlib import Path
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
    for kind in _named(said["type"]):
        try:
            error = kind.__new__(kind, *arguments)
            error.args = arguments
        except Exception:  # noqa: BLE001, S112 - a class with a __new__ of its own
            continue
        return error
    return StepFailedError(f"{said['type']}: {said['message']}")


def _named(name: str) -> Iterator[type[Exception]]:
    """Yield the classes of this name, then those in a package: a program knows of none around it.

    ``python examples/shop.py`` calls ``shop`` what others import as ``examples.shop``.
    """
    kinds = [(_name(kind), kind) for kind in _subclasses(Exception)]
    yield from (kind for found, kind in kinds if found == name)
    if "." in name:
        yield from (kind for found, kind in kinds if found.endswith(f".{name}"))


def _name(kind: type[BaseException]) -> str:
    module, name = kind.__module__, kind.__qualname__
    if module == "__main__":
        module = _program()
    return name if module == "builtins" else f"{module}.{name}"


def _program() -> str:
    """Return the name under which the program at work would be imported."""
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return str(spec.name)
    return main.__name__ if file is None else Path(file).stem


def _subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
    seen: set[type[Exception]] = set()
    left = [kind]
    while left:
        each = left.pop()
        if each not in seen:
            seen.add(each)
            yield each
            left.extend(each.__subclasses__())
