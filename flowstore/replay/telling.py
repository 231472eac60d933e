"""Saying in lines of text how a run diverged; nothing in them can steer a terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from flowstore.printable import printable
from flowstore.replay.difference import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowstore.replay.accepted import Trait
    from flowstore.replay.report import Divergence

_MOST: Final = 50
_MOST_PATHS: Final = 3
_LONGEST: Final = 2000
_HANDLERS: Final = {"added": "it was not there then", "moved": "it is called before others"}


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


def trait_text(trait: Trait, paths: Sequence[str]) -> str:
    """Say what divergences have in common: ``in sell: state.total, +state.vat``."""
    where = ", ".join(paths[:_MOST_PATHS]) + (", …" if len(paths) > _MOST_PATHS else "")
    texts = {
        "outcome": trait.detail or where,
        "step": f"it reaches for step {trait.detail!r}" if trait.detail else where,
        "reach": "it reaches outside of the process",
        "handler": _HANDLERS.get(trait.detail or "", "it is gone"),
        "error": "what is recorded does not fit the code",
    }
    what = texts.get(trait.kind, where) or trait.kind
    return printable(what if trait.handler is None else f"in {trait.handler}: {what}")


def _sides(expected: str, actual: str) -> list[str]:
    return [f"    recorded: {_short(expected)}", f"    now:      {_short(actual)}"]


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=repr)
