"""Says in few words what went wrong and where in the user's code."""

from __future__ import annotations

import functools
import inspect
import re
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flowstore.replay.difference import ABSENT, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType

    from flowstore.replay.difference import Difference
    from flowstore.store.base import TransitionRow

_OURS: Final = str(Path(__file__).parent.parent)
_FRAME: Final = re.compile(r'^\s*File "(?P<file>.+)", line (?P<line>\d+), in (?P<function>.+)$')
_ERROR: Final = re.compile(r"^(?P<name>[A-Za-z_][\w.]*)(:|$)")
_LONGEST: Final = 80
_NOT_THE_USERS: Final = (_OURS, "<frozen", sysconfig.get_paths()["stdlib"])


def code_of(function: Callable[..., Any]) -> CodeType | None:
    """Return the code of the user's own function, behind decorators; None if there is none."""
    while isinstance(function, functools.partial):
        function = function.func
    found: Any = inspect.unwrap(function)
    found = getattr(found, "__func__", found)
    if not hasattr(found, "__code__"):
        kind: type[Any] = found.__class__
        found = getattr(kind, "__call__", None)  # noqa: B004 - the method itself is wanted
    return getattr(found, "__code__", None)


def reached_from(function: Callable[..., Any] | None) -> str:
    """Return where the user's code is at this moment, as ``file.py:12 in name``; "" if nowhere.

    Args:
        function: the handler; its own file is what is asked for first.
    """
    code = None if function is None else code_of(function)
    mine = None if code is None else code.co_filename
    frame, nearest = inspect.currentframe(), ""
    while frame is not None:
        file = frame.f_code.co_filename
        place = f"{Path(file).name}:{frame.f_lineno} in {frame.f_code.co_name}"
        if file == mine:
            return place
        if not nearest and not file.startswith(_NOT_THE_USERS):
            nearest = place
        frame = frame.f_back
    return nearest


def described(row: TransitionRow) -> str:
    """Return the exception of a failed attempt, and the last line of the user's code."""
    name, where = "", ""
    for line in (row.traceback or "").splitlines():
        if frame := _FRAME.match(line):
            if not frame["file"].startswith((_OURS, "<frozen")):
                where = f" ({Path(frame['file']).name}:{frame['line']} in {frame['function']})"
        elif (error := _ERROR.match(line)) and not line.startswith("Traceback"):
            name = error["name"].rpartition(".")[2]
    text = row.error or ""
    return (f"{name}: {text}" if name and name != text else text) + where


def shortened(difference: Difference) -> str:
    """Return a difference as part of a sentence."""
    was, now = difference.expected, difference.actual
    if was is ABSENT:
        return f"{difference.path} is new: {_cut(shown(now))}"
    if now is ABSENT:
        return f"{difference.path} is gone, it was {_cut(shown(was))}"
    return f"{difference.path} was {_cut(shown(was))} and is {_cut(shown(now))}"


def first_of(found: Sequence[Difference]) -> str:
    """Name the first difference, and say how many there are."""
    if not found:
        return ""
    more = len(found) - 1
    return shortened(found[0]) + (f" (and {more} more)" if more else "")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
