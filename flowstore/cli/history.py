"""The command ``history``: what every attempt of every handler found and did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowstore.cli import output, terminal
from flowstore.cli.raised import error_text
from flowstore.cli.reading import find_run, read
from flowstore.cli.words import arranged_words, forked_from, micros, said, span, transition_json
from flowstore.clock import to_microseconds
from flowstore.replay.difference import shown
from flowstore.replay.history import read_history

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flowstore.replay import Difference, Transition
    from flowstore.store.queries import Queries

_MOST_LINES = 20
"""How many differences of one attempt are printed; JSON has all of them."""


def print_history(
    store: str,
    correlation_id: str,
    *,
    after: int,
    until: int | None,
    handler: str | None,
    as_json: bool,
) -> int:
    """Print transitions, page by page, so that a long run needs no memory."""

    async def work(queries: Queries) -> None:
        run = await find_run(queries, correlation_id, store)
        found = read_history(queries, correlation_id, after=after, until=until)
        wanted = _of(found, handler)
        if as_json:
            await _print_json(wanted)
        else:
            await _print_text(wanted)
            origin = None if run.lineage is None else forked_from(run.lineage)
            if origin is not None:
                output.note(origin)

    read(store, work)
    return 0


async def _of(
    transitions: AsyncIterator[Transition], handler: str | None
) -> AsyncIterator[Transition]:
    async for transition in transitions:
        if handler is None or transition.handler == handler:
            yield transition


async def _print_json(transitions: AsyncIterator[Transition]) -> None:
    array = output.JsonArray()
    async for transition in transitions:
        array.add(transition_json(transition))
    array.end()


async def _print_text(transitions: AsyncIterator[Transition]) -> None:
    empty = True
    async for transition in transitions:
        print_transition(transition)
        empty = False
    if empty:
        output.note("no transitions")


def print_transition(transition: Transition) -> None:
    """Print one attempt: a line for itself, and one for each thing that it did."""
    each = transition
    outcome = said(each.outcome, each.handler, each.attempt)
    if each.origin != each.position:
        outcome += f", which began at {each.origin}"
    time = output.time_text(to_microseconds(each.started_at))
    output.print_line([
        (f"{each.position} ", terminal.QUIET),
        (output.printable(each.event.name), terminal.STRONG),
        ("  ", ""),
        (output.printable(outcome), terminal.style_of(each.outcome)),
        (f"  {time}  {span(micros(each.duration))}", terminal.QUIET),
    ])  # fmt: skip
    for line, style in _lines(each):
        output.print_line([("    ", ""), (output.printable(line), style)])


def told(difference: Difference) -> str:
    """Return a difference as one short line."""
    before, after = difference.expected, difference.actual
    if isinstance(before, str) and isinstance(after, str) and before and after.startswith(before):
        return f"{difference.path}: … + {output.brief(shown(after[len(before) :]))}"
    values = (output.brief(shown(value)) for value in (before, after))
    return f"{difference.path}: {' -> '.join(values)}"


def _lines(transition: Transition) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    if transition.error is not None:
        lines.append((f"error: {error_text(transition)}", terminal.BAD))
    early = [step for step in transition.steps if step.started_at < transition.started_at]
    if early:
        lines.append(("an earlier attempt was cut off; it left steps behind", terminal.HELD))
    for step in transition.steps:
        what = f"step {step.name}" + (f" ({step.number})" if step.number > 1 else "")
        result = step.error or output.brief(shown(step.result))
        style = terminal.PLAIN if step.error is None else terminal.BAD
        lines.append((f"{what}: {result}  {span(micros(step.duration))}", style))
    some = transition.differences[:_MOST_LINES]
    lines += [(told(difference), terminal.PLAIN) for difference in some]
    rest = len(transition.differences) - _MOST_LINES
    if rest > 0:
        lines.append((f"… and {rest} more; --json has them all", terminal.QUIET))
    if transition.emitted:
        names = ", ".join(f"{event.position} {event.name}" for event in transition.emitted)
        lines.append((f"emitted {names}", terminal.PLAIN))
    return lines + [(words, terminal.PLAIN) for words in arranged_words(transition.arranged)]
