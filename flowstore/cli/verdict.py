"""What became of an event, in a word and a sentence, from what the store has of it. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from flowstore.cli.output import time_text
from flowstore.cli.words import said, wait_words, where_of
from flowstore.door import decode_json
from flowstore.events import QUIET
from flowstore.replay.origins import origin_of
from flowstore.replay.record import EDITED
from flowstore.store.arranged import read as read_arranged
from flowstore.store.base import (
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

if TYPE_CHECKING:
    from flowstore.store.base import ParkedRow, StoredEvent, TransitionRow
    from flowstore.store.event_traces import Traces

_OF_OTHERS = frozenset({DUPLICATE, CONFLICT, LEASE_LOST, DISCARDED})
"""Reasons of drops that say nothing of the event that is in the log."""


class Verdict(NamedTuple):
    """What became of an event.

    Attributes:
        word: ``handled``, ``dead``, ``stale``, ``expired``, ``conflict``, ``early``, ``waiting``,
            ``retried``, ``accepted``, ``unhandled`` or ``scheduled``.
        because: a sentence that says by what, or why.
    """

    word: str
    because: str


def judge(found: Traces) -> Verdict:
    """Say what became of an event, and who might have been expected to take it and did not."""
    verdict = _judge(found)
    missed = [f"{each.handler} {each.text}" for each in waiters(found) if not each.is_woken]
    if not missed:
        return verdict
    return verdict._replace(because=f"{verdict.because}; but {', and '.join(missed)}")


def _judge(found: Traces) -> Verdict:
    event = found.event
    if event is None:
        return _judge_unlogged(found)
    last = {origin_of(row): row for row in found.transitions if row.outcome != EDITED}
    for outcome, tell in ((DEAD, _tell_dead), (RETRIED, _tell_retried)):
        rows = [row for row in last.values() if row.outcome == outcome]
        if rows:
            return tell(found, rows[-1])
    early = _judge_early(found)
    if early is not None:
        return early
    refused = [drop for drop in found.drops if drop.reason not in _OF_OTHERS]
    dropped = [row for row in last.values() if row.outcome == DROPPED]
    if refused and (dropped or not last):
        drop = refused[-1]
        by = f"{drop.handler} said: " if drop.handler else ""
        return Verdict(drop.reason, f"{by}{drop.detail or drop.reason}")
    if last:
        told = (_tell(row, event.position) for row in last.values())
        return Verdict("handled", ", ".join(told))
    return _judge_untouched(found, event)


def _tell(row: TransitionRow, place: int) -> str:
    """Say how an attempt ended at the event at a place, or at another where it went on."""
    origin, handler = origin_of(row)
    text = said(row.outcome, handler, row.attempt)
    if origin != place:
        return f"{text}, which began at {origin}"
    return text if row.position == place else f"{text}, which went on at {row.position}"


def _judge_unlogged(found: Traces) -> Verdict:
    if found.drops:
        drop = found.drops[-1]
        text = f"it was refused and is not in the log: {drop.detail or drop.reason}"
        return Verdict(drop.reason, text)
    timer = found.timers[0]
    return Verdict("scheduled", f"timer {timer.key} sends it at {time_text(timer.due_at)}")


def _tell_dead(found: Traces, row: TransitionRow) -> Verdict:
    text = f"{row.handler} failed for good at attempt {row.attempt}: {row.error}"
    for drop in found.drops:
        if drop.reason == DISCARDED and drop.handler in (row.handler, origin_of(row)[1]):
            text += f"; discarded: {drop.detail}"
    return Verdict(DEAD, text)


def _tell_retried(found: Traces, row: TransitionRow) -> Verdict:
    text = f"{row.handler} failed at attempt {row.attempt} and is tried again: {row.error}"
    if found.run.ready_at is not None:
        text += f"; not before {time_text(found.run.ready_at)}"
    return Verdict(RETRIED, text)


def _judge_early(found: Traces) -> Verdict | None:
    for row in found.parked:
        if row.kind != "wait":
            return Verdict("early", f"{row.handler} {wait_words(row)}")
    for kept in found.collected:
        return Verdict("early", f"it is kept under {kept.key} until the others are there")
    for row in found.parked:
        return Verdict("waiting", f"{row.handler} {wait_words(row)}")
    return None


def _judge_untouched(found: Traces, event: StoredEvent) -> Verdict:
    run = found.run
    if event.position > run.cursor:
        behind = event.position - run.cursor - 1
        owner = "no worker has the run" if run.owner is None else f"worker {run.owner} has the run"
        text = f"it is pending; {behind} events are before it and {owner}"
        if run.ready_at is not None:
            text += f"; not before {time_text(run.ready_at)}"
        return Verdict("accepted", text)
    if event.name in QUIET:
        return Verdict("accepted", f"{event.name} events are shown and need no handler")
    return Verdict("unhandled", f"nothing was registered for {event.name} when its turn came")


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
    text = wait_words(parked)
    if is_woken:
        return f"{text}: this was it"
    data: Any = decode_json(event.data)
    held = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
    misfits = [
        f"{key} {json.dumps(held[key], ensure_ascii=False)}" if key in held else f"no {key}"
        for key, value in where_of(parked).items()
        if key not in held or json.dumps(held[key]) != json.dumps(value)
    ]
    if misfits:
        return f"{text}, and this has {', '.join(misfits)}"
    return f"{text}, and its own condition, or its class, said no"
