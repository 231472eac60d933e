"""Says in few words what went wrong and where in the user's code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flowstore.replay.difference import ABSENT, shown

if TYPE_CHECKING:
    from flowstore.replay.difference import Difference
    from flowstore.store.base import TransitionRow

_OURS: Final = str(Path(__file__).parent.parent)
_FRAME: Final = re.compile(r'^\s*File "(?P<file>.+)", line (?P<line>\d+), in (?P<function>.+)$')
_ERROR: Final = re.compile(r"^(?P<name>[A-Za-z_][\w.]*)(:|$)")
_LONGEST: Final = 80


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


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
