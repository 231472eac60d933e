"""The command ``graph``: which handlers listen to and emit what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowstore.cli import output, terminal
from flowstore.cli.loading import load
from flowstore.cli.reading import read
from flowstore.graph import build, mermaid, tree
from flowstore.graph.tree import EVENT, HANDLER, MARK

if TYPE_CHECKING:
    from flowstore.graph import Line
    from flowstore.graph.build import Does, Event, Graph, Key
    from flowstore.store.flow import Flow
    from flowstore.store.queries import Queries

_STYLES = {EVENT: terminal.STRONG, HANDLER: terminal.BUSY, MARK: terminal.HELD}


def draw(app: str, *, store: str | None, as_mermaid: bool, as_json: bool) -> int:
    """Print the graph of a workflow."""
    program = load(app).program
    flow: Flow | None = None
    if store is not None:

        async def work(queries: Queries) -> Flow:
            return await queries.count_flow(program.name)

        flow = read(store, work)
    graph = build(program, flow)
    if as_json:
        output.print_json(_as_json(graph))
    elif as_mermaid:
        for line in mermaid(graph):
            output.write(f"{line}\n")
    else:
        _print(graph)
    return 0


def _print(graph: Graph) -> None:
    lines = list(tree(graph))
    for line, lead in zip(lines, _leads(lines), strict=True):
        pieces = [
            (output.printable(text), _STYLES.get(kind, terminal.QUIET)) for text, kind in line.parts
        ]
        output.print_line([(lead, terminal.QUIET), *pieces])
    if not graph.handlers:
        output.note("no handlers")
    if not graph.is_complete:
        output.note("? stands for what only running the code would tell; --store shows what it did")


def _leads(lines: list[Line]) -> list[str]:
    """Return what leads from each line to those that it belongs to."""
    branch, end, bar, gap = output.guides()
    leads: list[str] = []
    below: set[int] = set()  # levels at which another line follows
    for line in reversed(lines):
        own = "" if not line.depth else branch if line.depth in below else end
        leads.append("".join(bar if each in below else gap for each in range(1, line.depth)) + own)
        below = {each for each in below if each < line.depth} | {line.depth}
    return leads[::-1]


def _as_json(graph: Graph) -> dict[str, Any]:
    return {
        "workflow": graph.workflow,
        "complete": graph.is_complete,
        "handlers": [
            {
                "name": node.name,
                "place": node.place,
                "listens": node.listens,
                "gets": [_key(key) for key in node.gets],
                "does": [_does(does) for does in node.does],
                "fed": node.is_fed,
                "recorded": node.recorded,
            }
            for node in graph.handlers
        ],
        "events": [_event(graph, event) for event in graph.events.values()],
    }


def _event(graph: Graph, event: Event) -> dict[str, Any]:
    def names(numbers: list[int]) -> list[str]:
        return [graph.handlers[number - 1].name for number in numbers]

    return {
        **_key(event.key),
        "emitted_by": names(event.makers),
        "listeners": names(event.listeners),
        "waited_for_by": names(event.waiters),
        "crons": event.crons,
        "sent": event.sent,
        "unheard": event.is_unheard,
        "only_logged": event.is_only_logged,
    }


def _does(does: Does) -> dict[str, Any]:
    known = {"event": None, "task": None} if does.event is None else _key(does.event)
    return {"how": does.how, **known, "in_code": does.is_in_code, "recorded": does.recorded}


def _key(key: Key) -> dict[str, Any]:
    return {"event": key[0], "task": key[1]}
