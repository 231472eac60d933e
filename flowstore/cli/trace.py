"""The command ``trace``: which event came of which, as a tree or as a Mermaid diagram."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from flowstore.cli import output, terminal
from flowstore.cli.raised import event_error
from flowstore.cli.reading import find_run, read
from flowstore.cli.words import said, span
from flowstore.events import QUIET
from flowstore.printable import mermaid_label
from flowstore.store.base import DEAD, RETRIED
from flowstore.store.causes import read_causes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowstore.cli.terminal import Piece
    from flowstore.store.causes import AttemptMade, CausedEvent, Causes
    from flowstore.store.queries import Queries

_DEEPEST = 20
"""Levels that are indented; a run can be a chain of 100,000 events."""

_EMITTER = re.compile(r"\d+/(.+)/[^/]+", re.DOTALL)
_CLASSES = {
    DEAD: "fill:#fdd,stroke:#c00",
    RETRIED: "fill:#ffd,stroke:#a80",
    "pending": "fill:#def,stroke:#06c",
    "unhandled": "fill:#eee,stroke:#888",
}


class _Node(NamedTuple):
    """An event in the tree.

    Attributes:
        last: for each level from the first one on, whether its ancestor there, and in the end it
            itself, is the last of its siblings; only of levels that are indented.
        depth: how many events it came of, one of another.
    """

    event: CausedEvent
    cause: CausedEvent | None
    last: tuple[bool, ...]
    depth: int


def trace(store: str, correlation_id: str, *, mermaid: bool, as_json: bool) -> int:
    """Print what came of what in a run."""

    async def work(queries: Queries) -> Causes:
        await find_run(queries, correlation_id, store)
        return await queries.read_together(partial(read_causes, correlation_id))

    tree = _Tree(read(store, work))
    if as_json:
        _print_json(tree)
    elif mermaid:
        _print_mermaid(tree)
    else:
        _print_tree(tree)
    return 0


class _Tree:
    """The events by what they came of."""

    def __init__(self, causes: Causes) -> None:
        self._causes = causes
        self.attempts: dict[int, list[AttemptMade]] = {}
        for attempt in causes.attempts:
            self.attempts.setdefault(attempt.position, []).append(attempt)
        ids = {event.id: event for event in causes.events}
        self._cause = {event.position: ids.get(event.causation_id or "") for event in causes.events}
        self._children: dict[int, list[CausedEvent]] = {}
        for event in causes.events:
            cause = self._cause[event.position]
            self._children.setdefault(cause.position if cause else 0, []).append(event)

    def walk(self) -> Iterator[_Node]:
        """Yield every event behind the one that it came of."""
        ahead = list(self._below(None, (), 0))
        while ahead:
            node = ahead.pop()
            yield node
            ahead += self._below(node.event, node.last, node.depth + 1)

    def _below(
        self, cause: CausedEvent | None, last: tuple[bool, ...], depth: int
    ) -> Iterator[_Node]:
        """Yield what came of an event, the last first."""
        children = self._children.get(cause.position if cause else 0, [])
        for number, event in enumerate(reversed(children)):
            flags = (*last, number == 0) if 0 < depth <= _DEEPEST else last
            yield _Node(event, cause, flags, depth)

    def outcome(self, event: CausedEvent) -> str:
        """Say what became of an event."""
        attempts = {each.handler: each for each in self.attempts.get(event.position, ())}
        if attempts:
            return ", ".join(
                f"{said(each.outcome, each.handler, each.attempt)} ({span(each.duration)})"
                for each in attempts.values()
            )
        if event.position > self._causes.cursor:
            return "pending"
        if event.position in self._causes.unhandled:
            return "unhandled"
        return "" if event.name in QUIET else "dropped"

    def worst(self, event: CausedEvent) -> str:
        """Return the outcome by which an event is coloured."""
        last = {each.handler: each.outcome for each in self.attempts.get(event.position, ())}
        for outcome in (DEAD, RETRIED):
            if outcome in last.values():
                return outcome
        return next(iter(last.values()), self.outcome(event))


# --- text ------------------------------------------------------------------------------------


def _print_tree(tree: _Tree) -> None:
    guides = output.guides()
    for node in tree.walk():
        pieces: list[Piece] = [(_indent(node, guides), terminal.QUIET)]
        if node.depth > _DEEPEST:
            pieces.append((f"(level {node.depth}) ", terminal.QUIET))
        outcome = tree.outcome(node.event)
        pieces += [
            (f"{node.event.position} ", terminal.QUIET),
            (output.printable(node.event.name), terminal.STRONG),
        ]
        if outcome:
            style = terminal.style_of(tree.worst(node.event))
            pieces.append((f"  {output.printable(outcome)}", style))
        if node.event.error is not None:
            pieces.append((f"  {output.brief(event_error(node.event))}", terminal.BAD))
        output.print_line(pieces, is_cut=True)


def _indent(node: _Node, guides: tuple[str, ...]) -> str:
    branch, end, line, gap = guides
    lead = "".join(gap if is_last else line for is_last in node.last[:-1])
    return lead + (end if node.last[-1] else branch) if node.last else ""


# --- JSON --------------------------------------------------------------------------------------


def _print_json(tree: _Tree) -> None:
    """Print the events, each behind the one that it came of."""
    array = output.JsonArray()
    for node in tree.walk():
        array.add(_json(tree, node))
    array.end()


def _json(tree: _Tree, node: _Node) -> dict[str, Any]:
    event = node.event
    return {
        "position": event.position,
        "id": event.id,
        "name": event.name,
        "error": event.error,
        "created_at": output.time_text(event.created_at),
        "cause": None if node.cause is None else node.cause.position,
        "depth": node.depth,
        "attempts": [
            {name: cell for name, cell in each._asdict().items() if name != "position"}
            for each in tree.attempts.get(event.position, ())
        ],
    }


# --- Mermaid -----------------------------------------------------------------------------------


def _print_mermaid(tree: _Tree) -> None:
    output.write("flowchart TD\n")
    for node in tree.walk():
        event = node.event
        label = f"{event.position} {event.name}"
        kind = tree.worst(event)
        suffix = f":::{kind}" if kind in _CLASSES else ""
        box = f'e{event.position}["{mermaid_label(label)}"]{suffix}'
        if node.cause is None:
            output.write(f"    {box}\n")
            continue
        by = _EMITTER.fullmatch(event.id)
        arrow = f'-->|"{mermaid_label(by[1])}"|' if by else "-->"
        output.write(f"    e{node.cause.position} {arrow} {box}\n")
    for kind, style in _CLASSES.items():
        output.write(f"    classDef {kind} {style}\n")
