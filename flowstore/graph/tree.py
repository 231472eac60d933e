"""A graph as lines of text: events, below each who gets it, below those what they do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from flowstore.events import QUIET
from flowstore.graph.build import ENGINE, key_text
from flowstore.graph.mention import EMITS, SCHEDULES, SUBMITS, WAITS
from flowstore.routing import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowstore.graph.build import Does, Event, Graph, Key, Node

EVENT: Final = "event"
HANDLER: Final = "handler"
NOTE: Final = "note"
MARK: Final = "mark"


class Line(NamedTuple):
    """One line of a tree.

    Attributes:
        depth: how far in it is, from 0.
        parts: texts, each with what it is: `EVENT`, `HANDLER`, `NOTE` or `MARK`.
    """

    depth: int
    parts: tuple[tuple[str, str], ...]


def tree(graph: Graph) -> Iterator[Line]:
    """Yield a graph's lines; what lies below an event is said the first time that it comes."""
    drawing = _Drawing(graph)
    for event in _beginnings(graph):
        yield from drawing.of_event(event, 0)
    for event in graph.events.values():
        if event.key not in drawing.said and (event.listeners or event.is_unheard):
            yield from drawing.of_event(event, 0)


def _beginnings(graph: Graph) -> list[Event]:
    """Return the events with which it begins: those from outside, then those of the engine."""
    found = [event for event in graph.events.values() if not event.makers]
    return sorted(found, key=_order)


def _order(event: Event) -> int:
    if event.key[0] == EVERYTHING:
        return 3
    return 2 if event.key[0] in ENGINE else 1


class _Drawing:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.said: set[Key] = set()

    def of_event(
        self, event: Event, depth: int, notes: tuple[tuple[str, str], ...] = ()
    ) -> Iterator[Line]:
        """Yield an event and what lies below it."""
        name = (key_text(event.key), EVENT)
        listeners = [self._graph.handlers[number - 1] for number in event.listeners]
        # Who gets everything, or every subclass, is said once and not with every event.
        own = [node for node in listeners if _is_own(node, event)]
        if event.key in self.said:
            yield Line(depth, (name, *notes, *([(" (see above)", NOTE)] if own else [])))
            return
        self.said.add(event.key)
        yield Line(depth, (name, *notes, *self._notes_on(event, depth)))
        for node in own:
            yield from self._of_handler(node, depth + 1)

    def _of_handler(self, node: Node, depth: int) -> Iterator[Line]:
        count = [] if node.recorded is None else [(f" ({node.recorded}x)", NOTE)]
        yield Line(depth, ((node.name, HANDLER), *count))
        for does in node.does:
            yield from self._of_doing(does, depth + 1)

    def _of_doing(self, does: Does, depth: int) -> Iterator[Line]:
        count = () if does.recorded is None else ((f" ({does.recorded}x)", NOTE),)
        if does.how == WAITS:
            what = "?" if does.event is None else key_text(does.event)
            yield Line(depth, (("waits for ", NOTE), (what, EVENT)))
            return
        if does.how == SUBMITS:
            task = "?" if does.event is None else str(does.event[1])
            yield Line(depth, (("task ", NOTE), (task, HANDLER), *count))
            for event in self._graph.events.values():
                if does.event is not None and event.key[1] == does.event[1]:
                    yield from self.of_event(event, depth + 1)
            return
        notes: tuple[tuple[str, str], ...] = count
        if does.how == SCHEDULES:
            notes = ((" scheduled", NOTE), *notes)
        if not does.is_in_code:
            notes = (*notes, (" (recorded; not found in the code)", NOTE))
        if does.event is None:
            yield Line(depth, (("?", MARK), (" only running the code would tell", NOTE), *notes))
        else:
            yield from self.of_event(self._graph.events[does.event], depth, notes)

    def _notes_on(self, event: Event, depth: int) -> Iterator[tuple[str, str]]:
        name = event.key[0]
        if name == EVERYTHING:
            yield " every event", NOTE
        elif event.has_subclasses and not event.is_made:
            yield " and its subclasses", NOTE
        for cron in event.crons:
            yield f" by cron {cron!r}", NOTE
        if depth == 0 and name in ENGINE:
            yield " by flowstore itself", NOTE
        elif event.sent:
            yield f" from outside ({event.sent}x)", NOTE
        elif self._graph.is_unfed(event):
            yield (
                " from outside, or never" if event.sent is None else " no recorded run has it",
                MARK,
            )
        if event.is_unheard:
            yield " nobody listens", MARK
        elif event.is_only_logged and name not in QUIET:
            names = (self._graph.handlers[number - 1].name for number in event.listeners)
            yield f" nobody but {', '.join(names)} listens", MARK


def _is_own(node: Node, event: Event) -> bool:
    """Tell whether a handler is registered for this very event."""
    return node.listens in (key_text(event.key), event.key[0], f"class {event.key[0]}")


def how_text(does: Does) -> str:
    """Return what is written at an edge: nothing for what is simply emitted."""
    words = {EMITS: "", SCHEDULES: "scheduled", SUBMITS: "task"}.get(does.how, does.how)
    return words if does.recorded is None else f"{words} {does.recorded}x".strip()
