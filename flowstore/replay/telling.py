"""Saying in lines of text how a run diverged; nothing in them can steer a terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from flowstore.printable import printable
from flowstore.replay.difference import shown

if TYPE_CHECKING:
    from flowstore.replay.report import Divergence

_MOST: Final = 50
_LONGEST: Final = 2000


def divergence_lines(divergence: Divergence) -> list[str]:
    """Return the sentence, and below it each value that differs, as it was and as it is."""
    lines = [printable(divergence.message)]
    for each in divergence.differences[:_MOST]:
        lines.append(f"  {printable(each.path)}")
        lines += _sides(shown(each.expected), shown(each.actual))
    more = len(divergence.differences) - _MOST
    if more > 0:
        lines.append(f"  and {more} more")
    if not divergence.differences and divergence.expected is not None:
        lines += _sides(_json(divergence.expected), _json(divergence.actual))
    return lines


def _sides(expected: str, actual: str) -> list[str]:
    return [f"    recorded: {_short(expected)}", f"    now:      {_short(actual)}"]


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=repr)
