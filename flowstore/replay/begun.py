"""What attempts began and ended beside events and state, as a history tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import orjson

from flowstore.clock import to_datetime
from flowstore.door import decode_json
from flowstore.store import arranged
from flowstore.store.base import DEADLINE_KEY, OURS, wait_key

if TYPE_CHECKING:
    from datetime import datetime

    from flowstore.store.base import ParkedRow, TaskRow, TimerRow, TransitionRow


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskBegun:
    """A task that was submitted.

    Attributes:
        id: its id; its event, at the end, has it before ``/end``.
        name: its name.
        kind: ``internal`` for one of the workflow's own, ``external`` for one that someone else
            ends with a token.
        arguments: what it was submitted with, as JSON values: ``args`` and ``kwargs``; None for an
            external one.
    """

    id: str
    name: str
    kind: str
    arguments: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerSet:
    """A timer that was set.

    Attributes:
        key: setting another one under the same key takes its place.
        kind: ``timer``, the run's ``deadline``, or the ``limit`` of an external task.
        due_at: when it sends its event, in UTC.
        event_id: the id of the event.
        name: the event's name.
        data: its data, as JSON values.
        metadata: its metadata, likewise.
        task_id: the external task that it ends; None for all others.
    """

    key: str
    kind: Literal["timer", "deadline", "limit"]
    due_at: datetime
    event_id: str
    name: str
    data: Any
    metadata: Any
    task_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitBegun:
    """A wait: of a handler in the middle of its work, or of an event that it has put off.

    Attributes:
        position: the event that the handler handles.
        handler: its name.
        kind: ``wait`` or ``postpone``.
        name: the event that ends it; None if only a time does.
        where: what that event has to have in its data, by key, as far as the handler has said so
            with a mapping; empty if it has not.
        until: when the wait ends if no such event has come, in UTC; None if it does not.
    """

    position: int
    handler: str
    kind: str
    name: str | None
    where: dict[str, Any]
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitEnded:
    """A wait that ended: its handler went on.

    Attributes:
        position: the event that the handler handles.
        handler: its name.
    """

    position: int
    handler: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventKept:
    """An event that is kept until the others of its key are there.

    Attributes:
        key: what it is kept under.
        event_id: its id.
    """

    key: str
    event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Arranged:
    """What an attempt began and ended beside events and state; most attempts nothing.

    Attributes:
        tasks: submitted.
        timers: set; not those that end waits, see `WaitBegun.until`.
        removed: keys of timers that were removed, and not set anew; the run's deadline is called
            ``flowstore/deadline``.
        waits: begun.
        ended: waits that ended.
        kept: events that are kept from then on.
        used: kept events that were used, and are kept no more.
    """

    tasks: tuple[TaskBegun, ...] = ()
    timers: tuple[TimerSet, ...] = ()
    removed: tuple[str, ...] = ()
    waits: tuple[WaitBegun, ...] = ()
    ended: tuple[WaitEnded, ...] = ()
    kept: tuple[EventKept, ...] = ()
    used: tuple[EventKept, ...] = ()


def arranged_by(row: TransitionRow) -> Arranged:
    """Return what an attempt began and ended, as its row records it."""
    if row.arranged is None:
        return Arranged()
    found = arranged.read(row.arranged, row.run_id)
    ends = {timer.key: to_datetime(timer.due_at) for timer in found.timers}
    gone = [key for key in found.cancelled if key not in ends and not _ends_wait(key)]
    return Arranged(
        tasks=tuple(map(_task, found.tasks)),
        timers=tuple(_timer(each) for each in found.timers if not _ends_wait(each.key)),
        removed=tuple(gone),
        waits=tuple(
            wait_of(each, ends.get(wait_key(each.position, each.handler))) for each in found.parked
        ),
        ended=tuple(
            WaitEnded(position=position, handler=handler) for position, handler in found.woken
        ),
        kept=tuple(EventKept(key=each.key, event_id=each.event_id) for each in found.collected),
        used=tuple(EventKept(key=key, event_id=event_id) for key, event_id in found.spent),
    )


def wait_of(row: ParkedRow, until: datetime | None = None) -> WaitBegun:
    """Return how a handler is parked, as a wait."""
    condition: dict[str, Any] = orjson.loads(row.condition) if row.condition else {}
    return WaitBegun(
        position=row.position,
        handler=row.handler,
        kind=row.kind,
        name=row.name,
        where=condition.get("where") or {},
        until=until,
    )


def _ends_wait(key: str) -> bool:
    return key.startswith(f"{OURS}wait/")


def _task(row: TaskRow) -> TaskBegun:
    return TaskBegun(id=row.id, name=row.name, kind=row.kind, arguments=decode_json(row.arguments))


def _timer(row: TimerRow) -> TimerSet:
    return TimerSet(
        key=row.key,
        kind="deadline" if row.key == DEADLINE_KEY else "limit" if row.task_id else "timer",
        due_at=to_datetime(row.due_at),
        event_id=row.event_id,
        name=row.name,
        data=decode_json(row.data),
        metadata=decode_json(row.metadata),
        task_id=row.task_id,
    )
