"""How commands put what a run did into words, and into JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from flowstore.cli import output
from flowstore.cli.raised import type_of
from flowstore.clock import to_microseconds
from flowstore.store.base import DEADLINE_KEY, OURS

if TYPE_CHECKING:
    from datetime import timedelta

    from flowstore.events import WorkflowEvent
    from flowstore.replay import Step, Transition
    from flowstore.store.base import Outstanding, ParkedRow, TimerRow

_MILLISECOND = 1_000
_SECOND = 1_000_000
_MINUTE = 60
_ROWS = ("tasks", "timers", "parked", "collected")


def span(microseconds: int) -> str:
    """Return a span of time in the unit that suits it."""
    if microseconds < _SECOND:
        return f"{microseconds / _MILLISECOND:.3g} ms" if microseconds else "0 ms"
    seconds = microseconds / _SECOND
    if seconds < _MINUTE:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def micros(length: timedelta) -> int:
    """Return a span of time in microseconds."""
    return round(length.total_seconds() * _SECOND)


def said(outcome: str, handler: str, attempt: int) -> str:
    """Say what an attempt came to: ``handled by pay at attempt 2``."""
    return f"{outcome} by {handler}" + (f" at attempt {attempt}" if attempt > 1 else "")


def forked_from(lineage: str) -> str | None:
    """Say where a fork comes from: ``forked from order-7 at 3 in other.db``."""
    told: object = json.loads(lineage)
    found: object = cast("dict[str, Any]", told).get("forked_from") if type(told) is dict else None
    if type(found) is not dict:
        return None
    origin = cast("dict[str, Any]", found)
    where = f" in {origin['store']}" if "store" in origin else ""
    edits = " and ".join(origin.get("edits", ()))
    edited = f", with its {edits} edited" if edits else ""
    return f"forked from {origin.get('correlation_id')} at {origin.get('position')}{where}{edited}"


def event_json(event: WorkflowEvent) -> dict[str, Any]:
    """Return an event as JSON has it."""
    created = event.created_at
    return {
        "position": event.position,
        "id": event.id,
        "name": event.name,
        "data": event.data,
        "metadata": event.metadata,
        "error": event.error,
        "causation_id": event.causation_id,
        "created_at": None if created is None else output.time_text(to_microseconds(created)),
    }


def transition_json(transition: Transition) -> dict[str, Any]:
    """Return a transition as JSON has it; durations are in microseconds."""
    return {
        "position": transition.position,
        "number": transition.number,
        "event": event_json(transition.event),
        "origin": transition.origin,
        "handler": transition.handler,
        "attempt": transition.attempt,
        "outcome": transition.outcome,
        "differences": [each.to_json() for each in transition.differences],
        "emitted": [event_json(event) for event in transition.emitted],
        "steps": [_step_json(step) for step in transition.steps],
        "arranged": arranged_json(transition.arranged),
        "started_at": output.time_text(to_microseconds(transition.started_at)),
        "duration": micros(transition.duration),
        "error": transition.error,
        "error_type": type_of(transition),
        "traceback": transition.traceback,
        "code": transition.code,
    }


def _step_json(step: Step) -> dict[str, Any]:
    return {
        "name": step.name,
        "number": step.number,
        "result": step.result,
        "error": step.error,
        "started_at": output.time_text(to_microseconds(step.started_at)),
        "duration": micros(step.duration),
    }


def arranged_json(arranged: Outstanding) -> dict[str, Any]:
    """Return what began and ended as JSON has it; what is empty is left out."""
    found: dict[str, Any] = {}
    for part in _ROWS:
        rows = [output.to_json(row) for row in getattr(arranged, part)]
        if rows:
            found[part] = [
                {name: value for name, value in row.items() if name != "run_id"} for row in rows
            ]
    for part in ("cancelled", "woken", "spent"):
        if getattr(arranged, part):
            found[part] = getattr(arranged, part)
    return found


def arranged_words(arranged: Outstanding) -> list[str]:
    """Say what began and ended, each in a few words."""
    found = [f"goes on at {position} with {handler}" for position, handler in arranged.woken]
    found += [f"began task {row.name} ({row.kind}, {row.id})" for row in arranged.tasks]
    found += [
        _timer_words(row) for row in arranged.timers if not row.key.startswith(f"{OURS}wait/")
    ]
    ends = {row.key: row.due_at for row in arranged.timers}
    for row in arranged.parked:
        due_at = ends.get(f"{OURS}wait/{row.position}/{row.handler}")
        until = "" if due_at is None else f", until {output.time_text(due_at)}"
        found.append(wait_words(row) + until)
    found += [f"removed timer {key}" for key in arranged.cancelled if not key.startswith(OURS)]
    found += [f"kept event {row.event_id} under {row.key}" for row in arranged.collected]
    found += [f"used event {event_id} kept under {key}" for key, event_id in arranged.spent]
    return found


def _timer_words(row: TimerRow) -> str:
    due = f"due {output.time_text(row.due_at)}"
    if row.key == DEADLINE_KEY:
        return f"set the deadline, {due}"
    if row.task_id is not None:
        return f"set the time limit of task {row.task_id}, {due}"
    return f"set timer {row.key}: {row.name}, {due}"


def wait_words(row: ParkedRow) -> str:
    """Say what a parked handler waits for."""
    verb = "waits for" if row.kind == "wait" else "put its event off until"
    return f"{verb} {row.name or 'its time'}{where_words(where_of(row))}"


def where_of(row: ParkedRow) -> dict[str, Any]:
    """Return what an event must have in its data that a parked handler waits for."""
    return (json.loads(row.condition).get("where") or {}) if row.condition else {}


def where_words(where: dict[str, Any]) -> str:
    """Say what an event must have in its data."""
    if not where:
        return ""
    return " where " + " and ".join(
        f"{key} is {json.dumps(value, ensure_ascii=False)}" for key, value in where.items()
    )
