"""The command ``why``: what became of an event, by what, when, and what followed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from flowstore.cli import output, terminal
from flowstore.cli.fate import Fate, Waiter, fate_of, waiters
from flowstore.cli.history import print_transition
from flowstore.cli.raised import event_error
from flowstore.cli.reading import file_of, find_run, read
from flowstore.cli.words import event_json, span, transition_json
from flowstore.errors import EventNotFoundError
from flowstore.replay.history import plain_event, read_history
from flowstore.store.event_traces import find_event, find_pruned

if TYPE_CHECKING:
    from flowstore.replay import Transition
    from flowstore.store.base import DropRow, StoredEvent
    from flowstore.store.event_traces import PrunedEvent, Traces
    from flowstore.store.queries import Queries

_MOST = 50
"""How many attempts are told of, and events that followed: the youngest."""

_DROPS = ("created_at", "reason", "handler", "detail")


@dataclass(slots=True)
class _Answer:
    """What one run has to say of an event."""

    found: Traces
    fate: Fate
    attempts: list[Transition]
    followed: list[StoredEvent]
    waiting: list[Waiter]


def why(store: str, event_id: str, *, run: str | None, as_json: bool) -> int:
    """Say what became of an event, in every run that has one with this id.

    Raises:
        EventNotFoundError: no run has.
    """

    async def work(queries: Queries) -> tuple[list[_Answer], list[PrunedEvent]]:
        if run is not None:
            await find_run(queries, run, store)
        position = int(event_id) if run is not None and event_id.isdecimal() else None
        found = await queries.read_together(partial(find_event, event_id, run, position))
        gone = await queries.read_together(partial(find_pruned, event_id, run))
        return [await _answer(queries, each) for each in found], gone

    answers, gone = read(store, work)
    if not answers and not gone:
        where = "" if run is None else f" in run {run!r}"
        message = (
            f"{file_of(store)}: there is no event {event_id!r}{where}, nor was one refused; "
            "`flowstore grep` searches ids"
        )
        raise EventNotFoundError(message)
    if as_json:
        output.print_json([*map(_json, answers), *map(_pruned_json, gone)])
        return 0
    for number, answer in enumerate(answers):
        if number:
            output.write("\n")
        _print(answer)
    for pruned in gone:
        output.print_fields(_pruned_json(pruned))
    return 0


async def _answer(queries: Queries, found: Traces) -> _Answer:
    answer = _Answer(found, fate_of(found), [], [], waiters(found))
    if found.event is None:
        return answer
    name, place = found.run.correlation_id, found.event.position
    positions = sorted({place, *(row.position for row in found.transitions)})
    for position in positions[-_MOST:]:
        async for each in read_history(queries, name, after=position - 1, until=position):
            if place in (each.origin, each.position):
                answer.attempts.append(each)
    chosen = await queries.read_chosen(name, after=place - 1, until=place)
    excerpt = await queries.read_excerpt(
        name, after=place - 1, until=place, limit=1, also=[own for _, own in chosen]
    )
    answer.followed = excerpt.caused[-_MOST:]
    return answer


# --- JSON ----------------------------------------------------------------------------------


def _json(answer: _Answer) -> dict[str, Any]:
    found = answer.found
    name = found.run.correlation_id
    return {
        "correlation_id": name,
        "workflow": found.run.workflow,
        "status": found.run.status,
        "verdict": answer.fate.word,
        "because": answer.fate.because,
        "event": None if found.event is None else event_json(plain_event(found.event, name)),
        "cause": None if found.cause is None else _brief(found.cause),
        "attempts": [transition_json(each) for each in answer.attempts],
        "followed": [event_json(plain_event(each, name)) for each in answer.followed],
        "waiting": [each._asdict() for each in answer.waiting],
        "refused": [_drop_json(drop) for drop in found.drops],
    }


def _brief(event: StoredEvent) -> dict[str, Any]:
    return {"position": event.position, "id": event.id, "name": event.name}


def _drop_json(drop: DropRow) -> dict[str, Any]:
    return {name: cell for name, cell in output.to_json(drop).items() if name != "run_id"}


def _pruned_json(pruned: PrunedEvent) -> dict[str, Any]:
    return {
        "correlation_id": pruned.correlation_id,
        "status": pruned.status,
        "verdict": "pruned",
        "because": f"its run was removed at {output.time_text(pruned.pruned_at)}; "
        "sent again, it is refused as a duplicate",
        "event": None,
        "position": pruned.position,
        "id": pruned.event_id,
    }


# --- text ----------------------------------------------------------------------------------


def _print(answer: _Answer) -> None:
    found, event = answer.found, answer.found.event
    fields: dict[str, Any] = {
        "verdict": answer.fate.word,
        "because": answer.fate.because,
        "run": f"{found.run.correlation_id} ({found.run.workflow}, {found.run.status})",
    }
    if event is not None:
        fields |= {
            "event": f"{event.position} {event.name}",
            "id": event.id,
            "appended": output.time_text(event.created_at),
            "came of": _origin(found),
        }
        if found.transitions:
            waited = found.transitions[0].started_at - event.created_at
            fields["begun after"] = span(max(0, waited))
        fields["data"] = event.data
        if event.error is not None:
            fields["error"] = event_error(event)
    output.print_fields(fields)
    if answer.attempts:
        output.write("\nattempts\n")
        for each in answer.attempts:
            print_transition(each)
    if answer.waiting:
        output.write("\nhandlers that waited for it\n")
        for waiter in answer.waiting:
            text = f"{waiter.handler}, which began at {waiter.position}, {waiter.text}"
            output.print_line([("    ", ""), (output.printable(text), terminal.PLAIN)])
    if answer.followed:
        output.write("\nwhat followed\n")
        output.print_table(("position", "name", "id"), [_brief(each) for each in answer.followed])
    if found.drops:
        output.write("\nrefused\n")
        output.print_table(_DROPS, [output.to_json(drop) for drop in found.drops])


def _origin(found: Traces) -> str:
    event, cause = found.event, found.cause
    if event is None or event.causation_id is None:
        return "outside: someone sent it"
    if cause is None:
        return event.causation_id
    return f"{cause.position} {cause.name}"
