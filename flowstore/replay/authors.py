"""At which event a handler left something in the record, or that it came from outside."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from flowstore.events import PROGRESS
from flowstore.replay.origins import origin_of
from flowstore.store.arranged import Told, read_told
from flowstore.store.base import DEAD, DROPPED, PARKED, POSTPONED, RETRIED

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowstore.store.archive import Archive
    from flowstore.store.base import DropRow, StepRow, StoredEvent, TransitionRow

    Place = tuple[int, str]

_NUMBERED: Final = re.compile(r"(\d+)/(.+)/([pc])(\d+)", re.DOTALL)
"""Ids of progress events and of events with streams: sent off before their handler's commit."""

_ARRANGED: Final = re.compile(r"(\d+)/(.+)/(?:[sdwlr]\d+|t\d+/end)", re.DOTALL)
"""Ids of events that come when a timer is due, a task has ended, a dead letter is retried."""

NEVER: Final = 2**63
"""Stands for the position of what no commit has brought: its handler is still at work."""


def is_arranged(event_id: str) -> bool:
    """Tell by its id whether an event came from a timer, a task or a retry."""
    return _ARRANGED.fullmatch(event_id) is not None


def arranged_at(event_id: str) -> Place | None:
    """Return the event and the handler whose timer, task or retry an id names."""
    found = _ARRANGED.fullmatch(event_id)
    return None if found is None else (int(found[1]), found[2])


class Authors:
    """Tells at which event a handler left something.

    A handler that waits names what it emits, and its steps, by the event that it began with,
    wherever it was woken; the record of its attempts tells which of it came when.
    """

    def __init__(self, archive: Archive) -> None:
        self._places = {event.id: event.position for event in archive.events}
        self._tasks = {task.id for task in archive.tasks}
        self._told: dict[str, int] = {}
        self._attempts: dict[Place, list[tuple[TransitionRow, Told | None]]] = {}
        self._dropped: dict[Place, int] = {}
        for row in archive.transitions:
            place, told = origin_of(row), read_told(row.arranged)
            if row.outcome == DROPPED:
                self._dropped[place] = row.position
            if row.outcome != RETRIED and (told is not None or place[0] != row.position):
                self._attempts.setdefault(place, []).append((row, told))
            if told is not None:
                self._told |= dict.fromkeys(told.events, row.position)

    def of_event(self, event: StoredEvent) -> int | None:
        """Return the position at which a handler emitted an event, None for one from outside."""
        if event.causation_id is None or is_arranged(event.id):
            return None
        if event.id in self._told:
            return self._told[event.id]
        found = _NUMBERED.fullmatch(event.id)
        if found is not None:
            began, handler, letter, number = found.groups()
            field = "progress" if letter == "p" else "streams"
            return self._reached(
                (int(began), handler),
                lambda told, _: getattr(told, field) >= int(number),
                lambda again: event.position < again.position,
            )
        if event.name == PROGRESS and self._is_of_task(event):
            return None
        return self._places.get(event.causation_id)

    def _is_of_task(self, event: StoredEvent) -> bool:
        """Tell whether a task reports its progress: under an id like that of a sender."""
        data: object = orjson.loads(event.data) if event.data else None
        return type(data) is dict and cast("dict[str, Any]", data).get("task_id") in self._tasks

    def of_step(self, step: StepRow) -> int:
        """Return the position at which a step was made.

        An attempt that failed for good may have come to it and not have done it.
        """
        return self._reached(
            (step.position, step.handler),
            lambda told, row: (
                told.steps.get(step.name, 0) >= step.number
                and not (row.outcome == DEAD and step.started_at > row.started_at + row.duration)
            ),
            lambda again: step.started_at < again.started_at,
        )

    def _reached(
        self,
        place: Place,
        has: Callable[[Told, TransitionRow], bool],
        was_before: Callable[[TransitionRow], bool],
    ) -> int:
        attempts = self._attempts.get(place)
        if not attempts:
            return place[0]
        first, last = attempts[0][0], attempts[-1][0]
        if first.position != place[0] and was_before(first):
            return place[0]  # it had failed for good there, and was retried
        for row, told in attempts:
            if told is not None and has(told, row):
                return row.position
        return NEVER if last.outcome in {PARKED, POSTPONED} else last.position

    def of_verdict(self, drop: DropRow) -> int:
        """Return the position at which a handler refused its event."""
        place = drop.position or 0
        return self._dropped.get((place, drop.handler or ""), place)
