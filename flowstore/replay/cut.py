"""A run cut off behind an event: what it had by then, and what comes along."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowstore.errors import ForkError
from flowstore.replay.authors import Authors, arranged_at, is_arranged
from flowstore.replay.origins import origin_of
from flowstore.replay.record import EDITED
from flowstore.replay.standing import (
    Pending,
    closed_at,
    failure_at,
    is_left,
    pending_after,
    reopened_at,
)
from flowstore.routing import OVERDUE, REVIVER
from flowstore.store.base import (
    CONFLICT,
    DISCARDED,
    DUPLICATE,
    EXPIRED,
    LEASE_LOST,
    PARKED,
    POSTPONED,
    RETRIED,
    STALE,
    WORKING,
    is_deadline,
    is_retry,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flowstore.replay.heard import Place
    from flowstore.store.archive import Archive
    from flowstore.store.base import DropRow, StepRow, StoredEvent, TaskRow, TransitionRow


class Cut:
    """What of a run a fork has.

    Args:
        archive: the run.
        at: events up to here are kept, whoever sent them.
        handled: events up to here have been handled: as many, or one less.

    Attributes:
        end: the position after which the run was closed; None if it is open.
        is_closed: it was closed by then.
        events: those kept, with their old positions.
        pending: what it waited for.
        reason: why it has failed, or will; why it was closed.
        status: of the fork.

    Raises:
        ForkError: what a fork needs was not recorded.
    """

    def __init__(self, archive: Archive, at: int, handled: int) -> None:
        self.archive = archive
        self.at = at
        self.handled = handled
        self.end = closed_at(archive)
        self.is_closed = self.end is not None and handled >= self.end
        self.transitions = [row for row in archive.transitions if row.position <= handled]
        self._authors = Authors(archive)
        self._tasks = {task.id: task for task in archive.tasks}
        self.pending = Pending() if self.is_closed else self._pending()
        waiting = {timer.event_id for timer in self.pending.timers.values()}
        fired = self.pending.set_ever - waiting
        self.events = [event for event in archive.events if self._comes_along(event, fired)]
        self._kept = {event.id: place for place, event in enumerate(self.events, start=1)}
        self.reason, self.status = archive.run.reason, archive.run.status
        if not self.is_closed:
            self.pending.end(self._kept, self._tasks)
            self._settle()

    def _comes_along(self, event: StoredEvent, fired: set[str]) -> bool:
        if event.position <= self.at:
            return True
        if is_arranged(event.id):
            # Its timer was removed or set anew later, so it had fired before.
            return event.id in fired and not event.id.endswith("/end")
        place = self._authors.of_event(event)
        return place is not None and place <= self.handled

    def _settle(self) -> None:
        """Find out how it stands, as the engine would."""
        self.reason = failure_at(self.archive, self.at, self.handled)
        if self.handled < len(self.events):
            self.status = "running"
        elif self.reason is not None:
            self.status = "failed"  # now that there is nothing left to handle
            self.pending.give_up()
        else:
            waits, tasks = self.pending.counts()
            self.status = WORKING if tasks else "waiting" if waits else "idle"

    # --- what it waited for ---------------------------------------------------------------

    def _pending(self) -> Pending:
        old = unrecorded(self.transitions)
        reopened = reopened_at(self.archive.events[: self.at])
        if not old:
            return pending_after(self.transitions, reopened)
        rest = self.archive.events[self.at :]
        if self.handled == self.archive.run.cursor and not any(is_arranged(e.id) for e in rest):
            return Pending.of(self.archive)
        traces = self._traces()
        if any(_has_waited(row) or origin_of(row) in traces for row in old):
            raise ForkError(
                f"run {self.archive.run.correlation_id!r}: what it waited for at position "
                f"{self.handled} is not known, for it was recorded by a flowstore that did not "
                f"keep it; fork it where it stands, at {self.archive.run.cursor}"
            )
        return pending_after(self.transitions, reopened)

    def _traces(self) -> set[Place | None]:
        """Return the events and handlers of all timers, tasks and collections that there are."""
        archive = self.archive
        ids = [event.id for event in archive.events if not is_retry(event.name, event.id)]
        ids += [timer.event_id for timer in archive.timers]
        ids += [f"{task.id}/end" for task in archive.tasks]
        kept = {row.position for row in archive.collected}
        collecting = {origin_of(row) for row in self.transitions if row.position in kept}
        return collecting.union(map(arranged_at, ids))

    # --- rows -----------------------------------------------------------------------------

    @property
    def tasks(self) -> list[TaskRow]:
        """Return the tasks, in the order of their ids."""
        tasks = self._tasks if self.is_closed else self.pending.tasks
        return [tasks[task_id] for task_id in sorted(tasks)]

    @property
    def steps(self) -> list[StepRow]:
        """Return the steps made by then."""
        steps = self.archive.steps
        return [step for step in steps if self._authors.of_step(step) <= self.handled]

    def has_stream(self, stream_id: str) -> bool:
        """Tell whether a stream's event is kept; its id begins with that of the event."""
        event_id = stream_id
        while event_id:
            event_id = event_id.rpartition("/")[0]
            if event_id in self._kept:
                return True
        return False

    def drops(self) -> Iterator[DropRow]:
        """Return what had been refused by then, with the positions of the fork."""
        events = {event.id: event.position for event in self.archive.events}
        later = (row for row in self.archive.transitions if row.position > self.handled)
        moment = min((row.started_at for row in later), default=None)
        for drop in self.archive.drops:
            old = events.get(drop.event_id or "")
            if old is not None and drop.event_id not in self._kept:
                continue
            if self._was_refused(drop, old, moment):
                is_moved = old is not None and old == drop.position
                yield drop._replace(
                    position=self._kept[drop.event_id or ""] if is_moved else drop.position
                )

    def _was_refused(self, drop: DropRow, place: int | None, moment: int | None) -> bool:
        if self.is_closed:
            return True
        if drop.handler is not None and drop.reason != DISCARDED:
            return self._authors.of_verdict(drop) <= self.handled
        if drop.reason == LEASE_LOST or (drop.reason == EXPIRED and drop.position is not None):
            return (drop.position or 0) <= self.handled
        if drop.reason == STALE and place is not None:
            # A deadline that was set anew before its event had its turn; else it was closed.
            return is_deadline(drop.name or "", drop.event_id or "") and not is_left(drop)
        if drop.reason in {DUPLICATE, CONFLICT, DISCARDED} and (place is None or place > self.at):
            return False
        return moment is None or drop.created_at < moment


def _has_waited(row: TransitionRow) -> bool:
    return row.outcome in {PARKED, POSTPONED} or origin_of(row)[0] != row.position


def unrecorded(rows: Sequence[TransitionRow]) -> list[TransitionRow]:
    """Return what may have been recorded before it was kept what attempts arrange.

    Of code that has no fingerprint, such as a builtin, that cannot be told.
    """
    return [
        row
        for row in rows
        if row.code is None
        and row.arranged is None
        and row.outcome not in {RETRIED, EDITED}
        and row.handler not in {OVERDUE.name, REVIVER.name}
    ]
