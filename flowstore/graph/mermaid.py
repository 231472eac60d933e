"""A graph as Mermaid draws it: events are rounded, handlers are boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowstore.graph.build import key_text
from flowstore.graph.mention import SCHEDULES, WAITS
from flowstore.graph.tree import how_text
from flowstore.printable import mermaid_label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowstore.graph.build import Graph, Node


def mermaid(graph: Graph) -> Iterator[str]:
    """Yield the lines of a flowchart."""
    yield "flowchart LR"
    numbers = {key: number for number, key in enumerate(graph.events, 1)}
    for key, event in graph.events.items():
        shape = f'e{numbers[key]}(["{mermaid_label(key_text(key))}"])'
        mark = ":::unheard" if event.is_unheard else ""
        yield f"    {shape}{mark}"
        yield from (
            f"    c{numbers[key]}>{_quoted(cron)}] --> e{numbers[key]}" for cron in event.crons
        )
        if event.sent or graph.is_unfed(event):
            yield f"    outside((outside)) --> e{numbers[key]}"
    for node in graph.handlers:
        yield f"    h{node.number}[{_quoted(node.name)}]{'' if node.is_fed else ':::unfed'}"
        for key, event in graph.events.items():
            if node.number in event.listeners:
                yield f"    e{numbers[key]} --> h{node.number}"
        yield from _edges(graph, node)
    yield "    classDef unheard stroke:#b00,stroke-dasharray:4"
    yield "    classDef unfed stroke:#b80,stroke-dasharray:4"


def _edges(graph: Graph, node: Node) -> Iterator[str]:
    numbers = {key: number for number, key in enumerate(graph.events, 1)}
    for does in node.does:
        if does.event is None:
            yield f"    h{node.number} -.-> unknown{{{{?}}}}"
            continue
        its_task = [does.event]
        if does.how not in (WAITS, SCHEDULES) and does.event[1] is not None:
            its_task = [key for key in graph.events if key[1] == does.event[1]]
        words = how_text(does)
        for key in its_task:
            ends = (f"e{numbers[key]}", f"h{node.number}")
            source, target = ends if does.how == WAITS else ends[::-1]
            arrow = "-.->" if does.how in (WAITS, SCHEDULES) else "-->"
            yield f"    {source} {arrow}{f'|{_quoted(words)}|' if words else ''} {target}"


def _quoted(text: str) -> str:
    return f'"{mermaid_label(text)}"'
