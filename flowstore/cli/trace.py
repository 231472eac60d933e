"""The command ``trace``: which event came of which, as a tree or as a Mermaid diagram."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from flowstore.cli import output, terminal
from flowstore.cli.raised import event_error, event_type
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

_NAMED = 3
"""How many events that came of themselves are named."""

_EMITTER = re.compile(r"\d+/(.+)/[^/]+", re.DOTALL)
_CIRCULAR = "circular"
_CLASSES = {
    _CIRCULAR: "fill:#fdf,stroke:#808",
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
        is_circular: it came of what came of it, which is so only if the log was changed.
    """

    event: CausedEvent
    cause: CausedEvent | None
    last: tuple[bool, ...]
    depth: int
    is_circular: bool = False


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
    if tree.circular and not as_json:
        places = ", ".join(map(str, tree.circular[:_NAMED]))
        output.note(
            f"at position {places} causes go round in a circle: the log was changed; "
            "`flowstore verify` says where"
        )
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
        self.circular: list[int] = []

    def walk(self) -> Iterator[_Node]:
        """Yield every event behind the one that it came of; a circle is begun somewhere."""
        seen: set[int] = set()
        self.circular.clear()
        yield from self._walk(list(self._below(None, (), 0)), seen)
        for event in self._causes.events:
            if event.position not in seen:
                first, cause = self._circle_of(event)
                self.circular.append(first.position)
                start = _Node(first, cause, (), 0, is_circular=True)
                yield from self._walk([start], seen)

    def _walk(self, ahead: list[_Node], seen: set[int]) -> Iterator[_Node]:
        while ahead:
            node = ahead.pop()
            if node.event.position not in seen:
                seen.add(node.event.position)
                yield node
                ahead += self._below(node.event, node.last, node.depth + 1)

    def _circle_of(self, event: CausedEvent) -> tuple[CausedEvent, CausedEvent | None]:
        """Return an event that came of itself, and its cause, of those that this one came of."""
        passed: set[int] = set()
        cause = self._cause[event.position]
        while cause is not None and event.position not in passed:
            passed.add(event.position)
            event, cause = cause, self._cause[cause.position]
        return event, cause

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
        if node.is_circular:
            cause = node.cause.position if node.cause else "-"
            pieces.append((f"  came of {cause}, which came of it", terminal.BAD))
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
        "error_type": event_type(event),
        "created_at": output.time_text(event.created_at),
        "cause": None if node.cause is None else node.cause.position,
        "depth": node.depth,
        "circular": node.is_circular,
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
        kind = _CIRCULAR if node.is_circular else tree.worst(event)
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
