"""At which event a handler left something in the record, or that it came from outside."""

from __future__ import annotations

import re
from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from flowstore.events import PROGRESS
from flowstore.replay.heard import emitted, sent, was_left
from flowstore.replay.origins import origin_of
from flowstore.store.arranged import Told, read_told
from flowstore.store.base import DROPPED, PARKED, POSTPONED, RETRIED

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowstore.replay.heard import Emitted, Place
    from flowstore.store.archive import Archive
    from flowstore.store.base import DropRow, StepRow, StoredEvent, TransitionRow

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
        self._attempts: dict[Place, _Attempts] = {}
        self._dropped: dict[Place, int] = {}
        for row in archive.transitions:
            place, told = origin_of(row), read_told(row.arranged)
            if row.outcome == DROPPED:
                self._dropped[place] = row.position
            if row.outcome != RETRIED and (told is not None or place[0] != row.position):
                self._attempts.setdefault(place, _Attempts(place[0])).add(row, told)
            if told is not None:
                self._told |= dict.fromkeys(told.events, row.position)

    def of_event(self, event: StoredEvent) -> int | None:
        """Return the position at which a handler emitted an event, None for one from outside."""
        if event.causation_id is None or is_arranged(event.id):
            return None
        if event.id in self._told:
            return self._told[event.id]
        named = emitted(event.id)
        if named is not None and named.kind:
            attempts = self._attempts.get(named.place)
            return named.place[0] if attempts is None else attempts.of_event(event, named)
        if event.name == PROGRESS and self._is_of_task(event):
            return None
        return self._places.get(event.causation_id)

    def _is_of_task(self, event: StoredEvent) -> bool:
        """Tell whether a task reports its progress: under an id like that of a sender."""
        data: object = orjson.loads(event.data) if event.data else None
        return type(data) is dict and cast("dict[str, Any]", data).get("task_id") in self._tasks

    def of_step(self, step: StepRow) -> int:
        """Return the position at which a step was made."""
        attempts = self._attempts.get((step.position, step.handler))
        return step.position if attempts is None else attempts.of_step(step)

    def of_verdict(self, drop: DropRow) -> int:
        """Return the position at which a handler refused its event."""
        place = drop.position or 0
        return self._dropped.get((place, drop.handler or ""), place)


class _Attempts:
    """The attempts of a handler that waits, or was retried, each the last one at its event.

    What they tell only grows from one to the next, so that the first one that has come to
    something is found without looking at all of them.

    Args:
        began: the position of the event that the handler began with.
    """

    def __init__(self, began: int) -> None:
        self._began = began
        self._rows: list[tuple[TransitionRow, Told | None]] = []
        self._counts: dict[tuple[str, str], list[int]] = {}

    def add(self, row: TransitionRow, told: Told | None) -> None:
        """Take the next one."""
        self._rows.append((row, told))

    def of_event(self, event: StoredEvent, named: Emitted) -> int:
        """Return the position of the attempt that has sent off an event at once."""
        first = self._rows[0][0]
        if first.position != self._began and event.position < first.position:
            return self._began  # it had failed for good there, and was retried
        return self._first(
            ("", named.kind), named.number, lambda told: sent(told, named.kind), lambda _: False
        )

    def of_step(self, step: StepRow) -> int:
        """Return the position of the attempt that has done a step."""
        first = self._rows[0][0]
        if first.position != self._began and step.started_at < first.started_at:
            return self._began
        return self._first(
            ("step", step.name),
            step.number,
            lambda told: told.steps.get(step.name, 0),
            lambda row: was_left(row, step),
        )

    def _first(
        self,
        key: tuple[str, str],
        number: int,
        count: Callable[[Told], int],
        is_not: Callable[[TransitionRow], bool],
    ) -> int:
        counts = self._counts.get(key)
        if counts is None:
            each = (0 if told is None else count(told) for _, told in self._rows)
            counts = self._counts[key] = list(accumulate(each, max))
        for index in range(bisect_left(counts, number), len(counts)):
            row, told = self._rows[index]
            if told is not None and count(told) >= number and not is_not(row):
                return row.position
        last = self._rows[-1][0]
        return NEVER if last.outcome in {PARKED, POSTPONED} else last.position
