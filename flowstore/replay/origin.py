"""Where each row of a run comes from: the event whose handlers left it there, or from outside."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from flowstore.events import PROGRESS
from flowstore.store.arranged import Told, read_told
from flowstore.store.base import DROPPED, PARKED, POSTPONED, RETRIED

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowstore.store.base import Archive, DropRow, StepRow, StoredEvent, TransitionRow

_EMITTED: Final = re.compile(r"(\d+)/(.+)/([pc])(\d+)", re.DOTALL)
"""Ids of progress events and of events with streams: their number is the handler's own."""

_ARRANGED: Final = re.compile(r"\d+/.+/(?:[sdwl]\d+|t\d+/end)", re.DOTALL)
"""Ids of events that come when a timer is due, or a task has ended."""

NEVER: Final = 2**63
"""Stands for the position of what no event that has been handled has left: it is under way."""


def is_arranged(event_id: str) -> bool:
    """Tell by its id whether an event came from a timer or a task."""
    return _ARRANGED.fullmatch(event_id) is not None


class Origins:
    """Tells at which event a handler left something in the log.

    A handler that waits names what it emits by the event that it began with, wherever it was
    woken; the record of its attempts says which of it came when.
    """

    def __init__(self, archive: Archive) -> None:
        self._places = {event.id: event.position for event in archive.events}
        self._tasks = {task.id for task in archive.tasks}
        self._told: dict[str, int] = {}
        self._attempts: dict[tuple[int, str], list[tuple[TransitionRow, Told | None]]] = {}
        self._dropped: dict[tuple[int, str], int] = {}
        for row in archive.transitions:
            self._note(row)

    def _note(self, row: TransitionRow) -> None:
        handler, _, began = row.handler.rpartition("@")
        key = (int(began), handler) if handler and began.isdecimal() else (row.position, "")
        told = read_told(row.arranged)
        if told is None and not key[1]:
            if row.outcome == DROPPED:
                self._dropped[row.position, row.handler] = row.position
            return
        if not key[1]:
            key = (row.position, row.handler)
        if row.outcome == DROPPED:
            self._dropped[key] = row.position
        if row.outcome != RETRIED:
            self._attempts.setdefault(key, []).append((row, told))
        if told is not None:
            self._told |= dict.fromkeys(told.events, row.position)

    def of_event(self, event: StoredEvent) -> int | None:
        """Return the position at which a handler emitted an event, None for one from outside."""
        if event.causation_id is None or is_arranged(event.id):
            return None
        place = self._told.get(event.id)
        if place is not None:
            return place
        found = _EMITTED.fullmatch(event.id)
        if found is not None:
            began, handler, kind, number = found.groups()
            field = "progress" if kind == "p" else "streams"
            return self._reached(
                (int(began), handler), lambda told: getattr(told, field) >= int(number)
            )
        if event.name == PROGRESS and self._is_of_task(event):
            return None
        return self._places.get(event.causation_id)

    def _is_of_task(self, event: StoredEvent) -> bool:
        """Tell whether a task reports its progress: under an id like that of a sender."""
        data: object = orjson.loads(event.data) if event.data else None
        return type(data) is dict and cast("dict[str, Any]", data).get("task_id") in self._tasks

    def of_step(self, step: StepRow) -> int:
        """Return the position at which a step was made."""
        return self._reached(
            (step.position, step.handler), lambda told: told.steps.get(step.name, 0) >= step.number
        )

    def _reached(self, key: tuple[int, str], has: Callable[[Told], bool]) -> int:
        attempts = self._attempts.get(key)
        if not attempts:
            return key[0]
        for row, told in attempts:
            if told is not None and has(told):
                return row.position
        last = attempts[-1][0]
        return NEVER if last.outcome in {PARKED, POSTPONED} else last.position

    def of_verdict(self, drop: DropRow) -> int:
        """Return the position at which a handler refused its event."""
        place = drop.position or 0
        return self._dropped.get((place, drop.handler or ""), place)
