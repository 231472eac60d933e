"""What became of an event, in a word and a sentence, from what the store has of it. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from flowstore.cli.output import counted, time_text
from flowstore.cli.raised import error_text
from flowstore.cli.words import said, wait_words
from flowstore.door import decode_json
from flowstore.events import QUIET
from flowstore.replay.begun import wait_of
from flowstore.replay.origins import origin_of
from flowstore.replay.record import EDITED
from flowstore.store.arranged import read as read_arranged
from flowstore.store.base import (
    CLOSED,
    CONFLICT,
    DEAD,
    DISCARDED,
    DROPPED,
    DUPLICATE,
    LEASE_LOST,
    PARKED,
    POSTPONED,
    RETRIED,
)
from flowstore.store.keys import retry_id

if TYPE_CHECKING:
    from flowstore.store.base import ParkedRow, RunRow, StoredEvent, TransitionRow
    from flowstore.store.event_traces import Traces

_OF_OTHERS = frozenset({DUPLICATE, CONFLICT, LEASE_LOST, DISCARDED})
"""Reasons of drops that say nothing of the event that is in the log."""


class Fate(NamedTuple):
    """What became of an event.

    Attributes:
        word: ``handled``, ``dead``, ``stale``, ``expired``, ``conflict``, ``early``, ``waiting``,
            ``retried``, ``accepted``, ``unhandled`` or ``scheduled``.
        because: a sentence that says by what, or why.
    """

    word: str
    because: str


def fate_of(found: Traces) -> Fate:
    """Say what became of an event, and who might have been expected to take it and did not."""
    fate = _fate(found)
    missed = [f"{each.handler} {each.text}" for each in waiters(found) if not each.is_woken]
    if not missed:
        return fate
    return fate._replace(because=f"{fate.because}; but {', and '.join(missed)}")


def _fate(found: Traces) -> Fate:
    event = found.event
    if event is None:
        return _fate_unlogged(found)
    last = {origin_of(row): row for row in found.transitions if row.outcome != EDITED}
    for outcome, tell in ((DEAD, _tell_dead), (RETRIED, _tell_retried)):
        rows = [row for row in last.values() if row.outcome == outcome]
        # One that is called again is told of if no other is left as it is.
        rows.sort(key=lambda row: _retry_of(found, row) is None)
        if rows:
            return tell(found, rows[-1])
    early = _fate_early(found)
    if early is not None:
        return early
    refused = [drop for drop in found.drops if drop.reason not in _OF_OTHERS]
    dropped = [row for row in last.values() if row.outcome == DROPPED]
    if refused and (dropped or not last):
        drop = refused[-1]
        by = f"{drop.handler} said: " if drop.handler else ""
        return Fate(drop.reason, f"{by}{drop.detail or drop.reason}")
    if last:
        told = (_tell(row, event.position) for row in last.values())
        return Fate("handled", ", ".join(told))
    return _fate_untouched(found, event)


def _tell(row: TransitionRow, place: int) -> str:
    """Say how an attempt ended at the event at a place, or at another where it went on."""
    origin, handler = origin_of(row)
    text = said(row.outcome, handler, row.attempt)
    if origin != place:
        return f"{text}, which began at {origin}"
    return text if row.position == place else f"{text}, which went on at {row.position}"


def _fate_unlogged(found: Traces) -> Fate:
    if found.drops:
        drop = found.drops[-1]
        text = f"it was refused and is not in the log: {drop.detail or drop.reason}"
        return Fate(drop.reason, text)
    timer = found.timers[0]
    return Fate("scheduled", f"timer {timer.key} sends it at {time_text(timer.due_at)}")


def _tell_dead(found: Traces, row: TransitionRow) -> Fate:
    text = f"{row.handler} failed for good at attempt {row.attempt}: {error_text(row)}"
    retry = _retry_of(found, row)
    is_open = found.run.status not in CLOSED
    if retry is not None and retry.position > found.run.cursor and is_open:
        text += (
            f"; it is called again at position {retry.position}, which is "
            f"{_pending(found.run, retry.position)}; whoever serves the workflow, or resumes the "
            "run, calls it"
        )
        return Fate(RETRIED, text)
    if retry is not None:
        text += f"; it was to be called again at position {retry.position}"
    for drop in found.drops:
        if drop.reason == DISCARDED and drop.handler in (row.handler, origin_of(row)[1]):
            text += f"; discarded: {drop.detail}"
    return Fate(DEAD, text)


def _retry_of(found: Traces, row: TransitionRow) -> StoredEvent | None:
    """Return the event at which the handler of a dead letter is called again."""
    return found.retries.get(retry_id(row.position, row.handler, row.number))


def _pending(run: RunRow, position: int) -> str:
    """Say what a position waits for that the run has not come to."""
    behind = counted(position - run.cursor - 1, "event is", "events are")
    owner = "no worker has the run" if run.owner is None else f"worker {run.owner} has the run"
    text = f"pending; {behind} before it and {owner}"
    return text if run.ready_at is None else f"{text}; not before {time_text(run.ready_at)}"


def _tell_retried(found: Traces, row: TransitionRow) -> Fate:
    text = f"{row.handler} failed at attempt {row.attempt} and is tried again: {error_text(row)}"
    if found.run.ready_at is not None:
        text += f"; not before {time_text(found.run.ready_at)}"
    return Fate(RETRIED, text)


def _fate_early(found: Traces) -> Fate | None:
    for row in found.parked:
        if row.kind != "wait":
            return Fate("early", f"{row.handler} {wait_words(wait_of(row))}")
    for kept in found.collected:
        return Fate("early", f"it is kept under {kept.key} until the others are there")
    for row in found.parked:
        return Fate("waiting", f"{row.handler} {wait_words(wait_of(row))}")
    return None


def _fate_untouched(found: Traces, event: StoredEvent) -> Fate:
    run = found.run
    if event.position > run.cursor:
        return Fate("accepted", f"it is {_pending(run, event.position)}")
    if event.name in QUIET:
        return Fate("accepted", f"{event.name} events are shown and need no handler")
    return Fate("unhandled", f"nothing was registered for {event.name} when its turn came")


# --- who waited, and for what -------------------------------------------------------------


class Waiter(NamedTuple):
    """A handler that waited for an event of this name, and whether this one was it.

    Attributes:
        handler: its name.
        position: the event that it handles.
        text: what it waits for, and what of it does not fit.
        is_woken: this was the event.
    """

    handler: str
    position: int
    text: str
    is_woken: bool


def waiters(found: Traces) -> list[Waiter]:
    """Return the handlers that waited for an event of this name when it came."""
    event = found.event
    if event is None:
        return []
    waiting: dict[tuple[int, str], tuple[int, ParkedRow]] = {}
    for row in found.waits:
        for parked in read_arranged(row.arranged, row.run_id).parked:
            waiting[parked.position, parked.handler] = (row.number, parked)
    woken: set[tuple[int, str]] = set()
    for row in found.resumed:
        place = origin_of(row)
        began = waiting.get(place)
        if began is None or row.number <= began[0]:
            continue
        if row.position == event.position:
            woken.add(place)
        elif row.outcome not in (PARKED, POSTPONED, RETRIED):
            del waiting[place]
    return [
        Waiter(parked.handler, parked.position, _fit(parked, event, place in woken), place in woken)
        for place, (_, parked) in waiting.items()
        if place in woken or parked.name == event.name
    ]


def _fit(parked: ParkedRow, event: StoredEvent, is_woken: bool) -> str:
    wait = wait_of(parked)
    text = wait_words(wait)
    if is_woken:
        return f"{text}: this was it"
    data: Any = decode_json(event.data)
    held = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
    misfits = [
        f"{key} {json.dumps(held[key], ensure_ascii=False)}" if key in held else f"no {key}"
        for key, value in wait.where.items()
        if key not in held or json.dumps(held[key]) != json.dumps(value)
    ]
    if misfits:
        return f"{text}, and this has {', '.join(misfits)}"
    return f"{text}, and its own condition, or its class, said no"
