"""Changes of a state without what is hidden in it.

A change says where it belongs and what comes there, so most operations can be redacted one by one.
Texts that are extended cannot: what is hidden may have come in two pieces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from flowstore import change
from flowstore.replay.portable.paths import below, reached
from flowstore.replay.portable.strict_json import dumped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowstore.replay.portable.hiding import Hiding, Tokens
    from flowstore.replay.portable.paths import Pattern, Walk
    from flowstore.store.base import TransitionRow


def visit(rows: Sequence[TransitionRow], walk: Walk, patterns: Sequence[Pattern]) -> None:
    """Show a walk the values that a state has had; a text that grew, piece by piece and at last."""
    state: dict[str, Any] = {}
    for row in rows:
        for operation in _operations(row.change):
            _redacted(operation, walk, patterns)
        change.perform(state, _operations(row.change))
    walk.value(state, patterns, is_exact=False)


class Means(NamedTuple):
    """What changes are redacted with.

    Attributes:
        patterns: what is to be hidden of a state.
    """

    walk: Walk
    patterns: Sequence[Pattern]
    hiding: Hiding
    tokens: Tokens


def redacted(rows: Sequence[TransitionRow], means: Means) -> list[str | None]:
    """Return the changes of transitions without what is hidden."""
    walk, patterns, hiding, _ = means
    state: dict[str, Any] = {}
    has_growing = any(row.change is not None and '["+",' in row.change for row in rows)
    results: list[str | None] = []
    for row in rows:
        if row.change is None:
            results.append(None)
            continue
        is_touched = bool(patterns) or has_growing or hiding.occurs_in(row.change)
        kept: list[Any] = []
        for operation in _operations(row.change) if is_touched else ():
            if operation[0] == "+" and type(operation[2]) is str:
                kept.append(_grown(operation, state, means))
            else:
                kept.append(_redacted(operation, walk, patterns))
            if has_growing:
                change.perform(state, [orjson.loads(orjson.dumps(operation))])
        results.append(dumped(kept) if is_touched else row.change)
    return results


def _operations(text: str | None) -> list[Any]:
    operations: list[Any] = [] if text is None else orjson.loads(text)
    return operations


def _redacted(operation: list[Any], walk: Walk, patterns: Sequence[Pattern]) -> list[Any]:
    code, path, *rest = operation
    kept = [code, [walk.key(step) if type(step) is str else step for step in path]]
    if not rest:
        return kept
    left, is_hidden = _followed(patterns, path)
    value = walk.value(rest[-1], left, is_hidden=is_hidden, is_exact=False)
    return [*kept, *rest[:-1], value]


def _followed(
    patterns: Sequence[Pattern], path: Sequence[str | int]
) -> tuple[Sequence[Pattern], bool]:
    """Return what is left of patterns at the end of a path, and whether one ended before it."""
    is_hidden = False
    for step in path:
        is_hidden = is_hidden or bool(reached(patterns))
        patterns = below(patterns, step, is_exact=False)
    return patterns, is_hidden


def _grown(operation: list[Any], state: dict[str, Any], means: Means) -> list[Any]:
    """Return what stands for the extension of a text."""
    walk, patterns, hiding, tokens = means
    _, path, more = operation
    old: Any = state
    for step in path:
        old = old[step]
    where = [walk.key(step) if type(step) is str else step for step in path]
    left, is_hidden = _followed(patterns, path)
    if is_hidden or reached(left):
        return ["=", where, tokens.of(old + more)]
    end = old[-hiding.longest :]
    if hiding.text(end + more) == hiding.text(end) + hiding.text(more):
        return ["+", where, hiding.text(more)]
    return ["=", where, hiding.text(old + more)]
