"""Where a run stood after an event had been handled: open or closed, and what it waited for."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import orjson

from flowstore.events import ERROR
from flowstore.routing import OVERDUE
from flowstore.store import arranged
from flowstore.store.archive import count_outstanding
from flowstore.store.base import (
    CLOSED,
    DEAD,
    ENDED,
    CollectedRow,
    ParkedRow,
    TaskRow,
    TimerRow,
    failure_reason,
    is_retry,
    retry_id,
    timeout_key,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from flowstore.store.archive import Archive
    from flowstore.store.base import DropRow, StoredEvent, TransitionRow

UNHANDLED: Final = "before this event was handled"
"""Ends what the ledger says of an event that was pending when its run was closed."""


def closed_at(archive: Archive) -> int | None:
    """Return the position after which a run was closed; None if it is open.

    One that was closed from outside is closed after the first event that it did not handle, or
    after the last one if it had handled all.
    """
    run = archive.run
    if run.status not in CLOSED:
        return None
    rows = archive.transitions
    if run.status == "completed" or (rows and rows[-1].handler == OVERDUE.name):
        return rows[-1].position
    left = [drop.position for drop in archive.drops if drop.position and is_left(drop)]
    return min(left, default=run.head)


def is_left(drop: DropRow) -> bool:
    """Tell whether a drop is about an event that was pending when its run was closed."""
    return drop.handler is None and drop.detail is not None and drop.detail.endswith(UNHANDLED)


def failure_at(archive: Archive, at: int, handled: int) -> str | None:
    """Return why a run was bound to fail, None if it was not.

    Args:
        archive: the run.
        at: events up to here had come.
        handled: events up to here had been handled.
    """
    events = {event.position: event for event in archive.events}
    places = {event.id: event.position for event in archive.events}
    heard = {row.position for row in archive.transitions}
    left = {drop.event_id for drop in archive.drops if is_left(drop)}
    reasons: dict[int, str] = {}
    for row in archive.transitions:
        if row.outcome != DEAD or row.position > handled:
            continue
        retried = places.get(retry_id(row.position, row.handler, row.number))
        if (retried is None and archive.run.reason is None) or (retried or at + 1) <= at:
            continue
        event = events[row.position]
        text = failure_reason(row.handler, event.name, row.position, row.error)
        error_id = f"{row.position}/{row.handler}/{ERROR}"
        told = places.get(error_id, archive.run.head + 1)
        is_unheard = told <= archive.run.cursor and told not in heard and error_id not in left
        if event.name == ERROR or is_unheard or text == archive.run.reason:
            reasons.setdefault(row.position, text)
    return reasons[max(reasons)] if reasons else None


@dataclass(slots=True)
class Pending:
    """What a run waited for, in the order in which it began.

    Attributes:
        set_ever: ids of the events of all timers that were set, also of those that are gone.
    """

    timers: dict[str, TimerRow] = field(default_factory=dict[str, TimerRow])
    tasks: dict[str, TaskRow] = field(default_factory=dict[str, TaskRow])
    parked: dict[tuple[int, str], ParkedRow] = field(
        default_factory=dict[tuple[int, str], ParkedRow]
    )
    collected: dict[tuple[str, str], CollectedRow] = field(
        default_factory=dict[tuple[str, str], CollectedRow]
    )
    set_ever: set[str] = field(default_factory=set[str])

    @classmethod
    def of(cls, archive: Archive) -> Pending:
        """Return what a run waits for now."""
        return cls(
            {timer.key: timer for timer in archive.timers},
            {task.id: task for task in archive.tasks},
            {(row.position, row.handler): row for row in archive.parked},
            {(row.key, row.event_id): row for row in archive.collected},
        )

    def take(self, row: TransitionRow) -> None:
        """Take in what an attempt has begun and ended."""
        if row.arranged is None:
            return
        wanted = arranged.read(row.arranged, row.run_id)
        for key in wanted.cancelled:
            self.timers.pop(key, None)
        for timer in wanted.timers:
            self.timers.pop(timer.key, None)  # it goes behind the others
            self.timers[timer.key] = timer
            self.set_ever.add(timer.event_id)
        self.tasks |= {task.id: task for task in wanted.tasks}
        for place in wanted.woken:
            self.parked.pop(place, None)
        self.parked |= {(each.position, each.handler): each for each in wanted.parked}
        for kept in wanted.spent:
            self.collected.pop(kept, None)
        self.collected |= {(each.key, each.event_id): each for each in wanted.collected}

    def end(self, ended: Collection[str], known: Mapping[str, TaskRow]) -> None:
        """Leave out timers that have fired, and tasks that have ended.

        Args:
            ended: ids of the events that are in the log.
            known: the tasks as they are now, by id.
        """
        for task_id, task in self.tasks.items():
            if f"{task_id}/end" in ended:
                self.tasks[task_id] = known.get(task_id, task)._replace(status=ENDED)
                self.timers.pop(timeout_key(task_id), None)
        fired = [key for key, timer in self.timers.items() if timer.event_id in ended]
        for key in fired:
            del self.timers[key]

    def give_up(self) -> None:
        """End everything: the run is closed."""
        self.timers, self.parked, self.collected = {}, {}, {}
        for task_id, task in self.tasks.items():
            self.tasks[task_id] = task._replace(status=ENDED)

    def counts(self) -> tuple[int, int]:
        """Return ``waits`` and ``tasks`` of the run's row."""
        waits = len(self.timers) + len(self.parked) + len(self.collected)
        return count_outstanding(waits, self.tasks.values())


class Waits:
    """What a run waited for behind one event after another, had nothing fired or ended.

    Args:
        rows: its transitions.
        reopened: where it was opened again after it had failed; see `reopened_at`.

    Attributes:
        pending: what it waited for.
        number: that of the last transition.
        reopened: as given.
    """

    def __init__(self, rows: Sequence[TransitionRow], reopened: Sequence[int]) -> None:
        self._rows = rows
        self.reopened = frozenset(reopened)
        self._left = deque(reopened)
        self._next = 0
        self.pending = Pending()
        self.number = 0

    def move_to(self, position: int) -> None:
        """Go on to where all handlers of an event are done; this only ever goes on."""
        while self._next < len(self._rows) and self._rows[self._next].position <= position:
            row = self._rows[self._next]
            self._next += 1
            self._open(row.position)
            self.number = row.number
            self.pending.take(row)
        self._open(position)

    def _open(self, position: int) -> None:
        """Give up what was lost when the run had failed that was opened again here."""
        while self._left and self._left[0] <= position:
            self.pending.give_up()
            self._left.popleft()

    def kept(self, events: Sequence[StoredEvent]) -> dict[str, dict[str, StoredEvent]]:
        """Return the collected events by key and id, as a run has them in memory.

        Args:
            events: those of the run.
        """
        found: dict[str, dict[str, StoredEvent]] = {}
        for row in self.pending.collected.values():
            found.setdefault(row.key, {})[row.event_id] = events[row.position - 1]
        return found


def reopened_at(events: Iterable[StoredEvent]) -> list[int]:
    """Return where a run was opened again that had failed: nothing outlives its end."""
    return [
        event.position
        for event in events
        if is_retry(event.name, event.id) and orjson.loads(event.data or "{}").get("reopened")
    ]


def pending_after(rows: Sequence[TransitionRow], reopened: Sequence[int]) -> Pending:
    """Return what a run waited for after these transitions, had nothing fired or ended.

    Args:
        rows: in order.
        reopened: where it was opened again after it had failed, in order.
    """
    waits = Waits(rows, reopened)
    waits.move_to(max([row.position for row in rows[-1:]] + list(reopened[-1:]), default=0))
    return waits.pending
