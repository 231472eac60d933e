"""How commands put what a run did into words, and into JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from flowstore.cli import output
from flowstore.cli.raised import type_of
from flowstore.clock import to_microseconds
from flowstore.store.base import DEADLINE_KEY

if TYPE_CHECKING:
    from datetime import timedelta

    from flowstore.events import WorkflowEvent
    from flowstore.replay import Step, Transition
    from flowstore.replay.begun import Arranged, TimerSet, WaitBegun

_MILLISECOND = 1_000
_SECOND = 1_000_000
_MINUTE = 60


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


def arranged_json(arranged: Arranged) -> dict[str, Any]:
    """Return what began and ended as JSON has it; what is empty is left out."""
    return {part: each for part, each in _plain(asdict(arranged)).items() if each}


def _plain(value: Any) -> Any:
    """Return a value with its times as texts."""
    match value:
        case dict():
            return {key: _plain(each) for key, each in cast("dict[str, Any]", value).items()}
        case list() | tuple():
            return [_plain(each) for each in cast("list[Any]", value)]
        case datetime():
            return output.time_text(to_microseconds(value))
        case _:
            return value


def arranged_words(arranged: Arranged) -> list[str]:
    """Say what began and ended, each in a few words."""
    found = [f"goes on at {each.position} with {each.handler}" for each in arranged.ended]
    found += [f"began task {each.name} ({each.kind}, {each.id})" for each in arranged.tasks]
    found += map(_timer_words, arranged.timers)
    for wait in arranged.waits:
        until = None if wait.until is None else output.time_text(to_microseconds(wait.until))
        found.append(wait_words(wait) + ("" if until is None else f", until {until}"))
    found += [
        "removed the deadline" if key == DEADLINE_KEY else f"removed timer {key}"
        for key in arranged.removed
    ]
    found += [f"kept event {each.event_id} under {each.key}" for each in arranged.kept]
    found += [f"used event {each.event_id} kept under {each.key}" for each in arranged.used]
    return found


def _timer_words(timer: TimerSet) -> str:
    due = f"due {output.time_text(to_microseconds(timer.due_at))}"
    if timer.kind == "deadline":
        return f"set the deadline, {due}"
    if timer.kind == "limit":
        return f"set the time limit of task {timer.task_id}, {due}"
    return f"set timer {timer.key}: {timer.name}, {due}"


def wait_words(wait: WaitBegun) -> str:
    """Say what a parked handler waits for."""
    verb = "waits for" if wait.kind == "wait" else "put its event off until"
    return f"{verb} {wait.name or 'its time'}{where_words(wait.where)}"


def where_words(where: dict[str, Any]) -> str:
    """Say what an event must have in its data."""
    if not where:
        return ""
    return " where " + " and ".join(
        f"{key} is {json.dumps(value, ensure_ascii=False)}" for key, value in where.items()
    )
